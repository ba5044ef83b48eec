package berth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"
)

var durationType = reflect.TypeFor[time.Duration]()

// MarshalJSON writes the fields that are not zero, durations as strings.
func (p Policy) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	v := reflect.ValueOf(p)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			continue
		}
		value := v.Field(i).Interface()
		if d, ok := value.(time.Duration); ok {
			value = formatDuration(d)
		}
		b, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		sep := ","
		if out.Len() == 0 {
			sep = "{"
		}
		fmt.Fprintf(&out, "%s%q:%s", sep, v.Type().Field(i).Tag.Get("json"), b)
	}
	if out.Len() == 0 {
		return []byte("{}"), nil
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// formatDuration writes whole seconds as "90s", not as "1m30s".
func formatDuration(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("%ds", int64(d/time.Second))
	}
	return d.String()
}

// UnmarshalJSON reads what MarshalJSON writes. A name that it does not know and a
// duration without a unit are errors, a *ConfigError that names the field.
func (p *Policy) UnmarshalJSON(data []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return &ConfigError{Field: "policy", Reason: err.Error()}
	}
	v := reflect.ValueOf(p).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("json")
		value, ok := raw[name]
		if !ok {
			continue
		}
		delete(raw, name)
		if err := setField(v.Field(i), value); err != nil {
			return &ConfigError{Field: "policy." + name, Reason: err.Error()}
		}
	}
	for name := range raw {
		return &ConfigError{Field: "policy." + name, Reason: "no such setting; known are " + strings.Join(policyNames(), ", ")}
	}
	return nil
}

func setField(f reflect.Value, value json.RawMessage) error {
	if f.Type() != durationType {
		return json.Unmarshal(value, f.Addr().Interface())
	}
	var s string
	if err := json.Unmarshal(value, &s); err != nil {
		return fmt.Errorf(`a duration is a string with a unit, like "90s"`)
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf(`%q is no duration; write it like "90s" or "1m30s"`, s)
	}
	f.SetInt(int64(d))
	return nil
}

func policyNames() []string {
	t := reflect.TypeFor[Policy]()
	names := make([]string, t.NumField())
	for i := range names {
		names[i] = t.Field(i).Tag.Get("json")
	}
	return names
}
