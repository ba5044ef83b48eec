package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/clients"
	"github.com/berth-go/berth/resilience"
)

func policyClients(stdout io.Writer) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "clients FILE [NAME...]",
		Short: "Say what holds for named clients, and where it comes from",
		Long: `Print what holds for each client of the file, or for those that are named: what it sets
itself (client), what client_defaults sets, what a preset brings, or the default. Values of
header fields are not shown. Of policy, guard and resilience, what is not set has the
default of its own.`,
		Example: `  berth policy clients policy.yaml
  berth policy clients policy.yaml github --json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := load(args[0])
			if err != nil {
				return err
			}
			listed := args[1:]
			if len(listed) == 0 {
				listed = l.reg.Names()
			}
			explained := map[string]setOf{}
			for _, name := range listed {
				s, err := l.reg.Settings(name)
				if err != nil {
					return err
				}
				own := l.file.Clients.Clients[name]
				explained[name] = explainClient(&s, &own, &l.file.Clients.Defaults)
			}
			if asJSON {
				return printJSON(stdout, explained)
			}
			if len(explained) == 0 {
				fmt.Fprintln(stdout, "no clients")
			}
			for _, name := range slices.Sorted(maps.Keys(explained)) {
				fmt.Fprintln(stdout, name)
				if err := explained[name].print(stdout); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return cmd
}

// setting is one that holds for a client.
type setting struct {
	Value any    `json:"value"` // nil is none
	From  string `json:"from"`
}

// setOf are those of a client, by their names in JSON, with dots.
type setOf map[string]setting

func (s setOf) print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, name := range slices.Sorted(maps.Keys(s)) {
		text := "none"
		switch v := s[name].Value.(type) {
		case nil:
		case []string:
			text = cmp.Or(strings.Join(v, ", "), text)
		case []uint16:
			text = strings.Trim(strings.ReplaceAll(fmt.Sprint(v), " ", ", "), "[]")
		default:
			text = fmt.Sprint(v)
		}
		fmt.Fprintf(tw, "  %s\t%s\t%s\n", name, text, s[name].From)
	}
	return tw.Flush()
}

// redacted stands for the value of a header field.
const redacted = "*"

// defaultMaxRedirects is that of clients.Settings.MaxRedirects.
const defaultMaxRedirects = 10

// explainClient says what holds for a client, and whether the client says so itself or
// client_defaults.
func explainClient(s, own, def *clients.Settings) setOf {
	out := setOf{}
	v, mine, theirs := reflect.ValueOf(s).Elem(), reflect.ValueOf(own).Elem(), reflect.ValueOf(def).Elem()
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		switch name {
		case "-", "set":
			continue
		case "headers":
			for field := range s.Header {
				out["headers."+field] = setting{redacted, from(own.Header[http.CanonicalHeaderKey(field)] != nil, true)}
			}
			continue
		case "policy":
			a, b := reflect.ValueOf(own.Policy), reflect.ValueOf(def.Policy)
			for j := range a.NumField() {
				if f := v.Field(i).Field(j); !f.IsZero() {
					out["policy."+a.Type().Field(j).Tag.Get("json")] = setting{value(f), from(!a.Field(j).IsZero(), !b.Field(j).IsZero())}
				}
			}
			continue
		}
		who := from(!mine.Field(i).IsZero() || slices.Contains(own.Set, name), !theirs.Field(i).IsZero() || slices.Contains(def.Set, name))
		f := v.Field(i)
		switch {
		case f.Kind() == reflect.Pointer && !f.IsNil():
			out.add(name, f, who)
		case name == "timeout" && s.Timeout <= 0, name == "max_redirects" && s.MaxRedirects < 0,
			f.IsZero() && (f.Kind() == reflect.String || f.Kind() == reflect.Pointer || f.Kind() == reflect.Slice):
			out[name] = setting{nil, who}
		case name == "max_redirects":
			out[name] = setting{cmp.Or(s.MaxRedirects, defaultMaxRedirects), who}
		default:
			out[name] = setting{value(f), who}
		}
	}
	out.addPreset(s.Resilience)
	return out
}

func from(client, defaults bool) string {
	switch {
	case client:
		return "client"
	case defaults:
		return "client_defaults"
	}
	return "default"
}

// add has what is set within a structure, or that it is there.
func (s setOf) add(name string, v reflect.Value, who string) {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	before := len(s)
	for i := range v.NumField() {
		f := v.Field(i)
		part, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if part == "" || part == "-" || f.IsZero() {
			continue
		}
		if f.Kind() == reflect.Pointer || f.Kind() == reflect.Struct {
			s.add(name+"."+part, f, who)
		} else {
			s[name+"."+part] = setting{value(f), who}
		}
	}
	if len(s) == before {
		s[name] = setting{"on", who}
	}
}

// addPreset has the strategies that a preset brings and the client leaves out.
func (s setOf) addPreset(c *resilience.Config) {
	var p resilience.Config
	switch {
	case c == nil:
		return
	case c.Preset == "standard":
		p = resilience.Standard()
	case c.Preset == "hedging":
		p = resilience.StandardHedging()
	}
	own, brought := reflect.ValueOf(c).Elem(), reflect.ValueOf(p)
	for i := range own.NumField() {
		if name := own.Type().Field(i).Tag.Get("json"); own.Field(i).Kind() == reflect.Pointer && name != "-" && own.Field(i).IsNil() && !brought.Field(i).IsNil() {
			s.add("resilience."+name, brought.Field(i), "preset "+c.Preset)
		}
	}
}

// value is what people and JSON read.
func value(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Slice:
		if ports, ok := v.Interface().([]uint16); ok {
			return ports
		}
		list := make([]string, v.Len())
		for i := range list {
			list[i] = fmt.Sprint(v.Index(i).Interface())
		}
		return list
	case reflect.Bool, reflect.Int, reflect.Float64:
		return v.Interface()
	case reflect.Int64:
		if v.Type() != reflect.TypeFor[time.Duration]() {
			return v.Interface()
		}
	case reflect.Struct:
		if b, ok := v.Interface().(berth.PortBudget); ok {
			return fmt.Sprint(b)
		}
	}
	return fmt.Sprint(v.Interface())
}
