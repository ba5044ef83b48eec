package berth

import (
	"bytes"
	"encoding/json"
	"errors"
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
	var field *fieldError
	err := unmarshalFields(p, data)
	switch {
	case errors.As(err, &field):
		return &ConfigError{Field: "policy." + field.name, Reason: field.reason}
	case err != nil:
		return &ConfigError{Field: "policy", Reason: err.Error()}
	}
	return nil
}

// fieldError: a value of an object is not allowed.
type fieldError struct{ name, reason string }

func (e *fieldError) Error() string { return e.name + ": " + e.reason }

// unmarshalFields reads an object into the struct at p. An error is a *fieldError, or
// says that it is no object.
func unmarshalFields(p any, data []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	v := reflect.ValueOf(p).Elem()
	var names []string
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("json")
		names = append(names, name)
		value, ok := raw[name]
		if !ok {
			continue
		}
		delete(raw, name)
		if err := setField(v.Field(i), value); err != nil {
			return &fieldError{name, err.Error()}
		}
	}
	for name := range raw {
		return &fieldError{name, "no such setting; known are " + strings.Join(names, ", ")}
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
	names := make([]string, policyType.NumField())
	for i := range names {
		names[i] = policyType.Field(i).Tag.Get("json")
	}
	return names
}
