package clients

import (
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/berth-go/berth"
)

// Diff is what [Registry.Apply] changes. Its lists are sorted by name.
type Diff struct {
	Added   []string       `json:"added,omitempty"`
	Removed []string       `json:"removed,omitempty"`
	Changed []ClientChange `json:"changed,omitempty"`
}

// ClientChange is what changes for one client, Config.Defaults included. Names are those of
// JSON; no value of a header field is told.
type ClientChange struct {
	Client  string         `json:"client"`
	Changes []berth.Change `json:"changes"`
}

// String lists the changes, a line each client.
func (d *Diff) String() string {
	var b strings.Builder
	for _, name := range d.Added {
		fmt.Fprintf(&b, "client %s: added\n", name)
	}
	for _, name := range d.Removed {
		fmt.Fprintf(&b, "client %s: removed\n", name)
	}
	for _, c := range d.Changed {
		fmt.Fprintf(&b, "client %s:", c.Client)
		for i, change := range c.Changes {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, " %s", change)
		}
		b.WriteByte('\n')
	}
	if b.Len() == 0 {
		return "no client changes"
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Empty reports whether nothing changes.
func (d *Diff) Empty() bool { return len(d.Added)+len(d.Removed)+len(d.Changed) == 0 }

// diff compares the clients in force with those that are planned.
func diff(old, next *state, plans map[string]plan) *Diff {
	d := &Diff{}
	for _, name := range slices.Sorted(maps.Keys(plans)) {
		p := plans[name]
		before := old.clients[name]
		switch {
		case before == nil:
			d.Added = append(d.Added, name)
		case p.pipeline != nil:
			was := before.now.Load()
			changes := settingChanges(&was.settings, &p.settings)
			if was.logger != next.config.Logger {
				changes = append(changes, berth.Change{Field: "Logger", Old: "…", New: "…"})
			}
			if was.trace != next.config.Trace {
				changes = append(changes, berth.Change{Field: "Trace", Old: "…", New: "…"})
			}
			d.Changed = append(d.Changed, ClientChange{name, changes})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(old.clients)) {
		if _, stays := plans[name]; !stays {
			d.Removed = append(d.Removed, name)
		}
	}
	return d
}

// settingChanges compares two settings by field.
func settingChanges(a, b *Settings) (list []berth.Change) {
	x, y := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	for i := range x.NumField() {
		f := x.Type().Field(i)
		if equal(x.Field(i), y.Field(i)) {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch name {
		case "headers":
			list = append(list, headerChanges(a.Header, b.Header)...)
		case "-":
			list = append(list, berth.Change{Field: f.Name, Old: count(x.Field(i)), New: count(y.Field(i))})
		default:
			list = append(list, structChanges(name, x.Field(i), y.Field(i))...)
		}
	}
	return list
}

// structChanges compares two values, structs by field.
func structChanges(name string, a, b reflect.Value) (list []berth.Change) {
	if a.Kind() == reflect.Pointer && !a.IsNil() && !b.IsNil() {
		a, b = a.Elem(), b.Elem()
	}
	if a.Kind() != reflect.Struct {
		return []berth.Change{{Field: name, Old: text(a), New: text(b)}}
	}
	for i := range a.NumField() {
		f := a.Type().Field(i)
		if equal(a.Field(i), b.Field(i)) {
			continue
		}
		part, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if part == "" || part == "-" {
			list = append(list, berth.Change{Field: name + "." + f.Name, Old: "…", New: "…"})
			continue
		}
		list = append(list, structChanges(name+"."+part, a.Field(i), b.Field(i))...)
	}
	return list
}

// headerChanges tells which fields change, and not how: credentials may stand there.
func headerChanges(a, b http.Header) (list []berth.Change) {
	all := maps.Clone(a)
	if all == nil {
		all = http.Header{}
	}
	maps.Copy(all, b)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !slices.Equal(a[name], b[name]) {
			list = append(list, berth.Change{Field: "headers." + name, Old: hidden(a, name), New: hidden(b, name)})
		}
	}
	return list
}

func hidden(h http.Header, name string) string {
	if _, has := h[name]; !has {
		return "none"
	}
	return redacted
}

func count(v reflect.Value) string { return fmt.Sprintf("%d", v.Len()) }

// text writes a value; zero is unset.
func text(v reflect.Value) string {
	switch {
	case v.IsZero():
		return "unset"
	case v.Kind() == reflect.Pointer, v.Kind() == reflect.Func:
		return "set"
	}
	return fmt.Sprint(v.Interface())
}
