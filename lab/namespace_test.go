package lab

import (
	"runtime"
	"testing"

	"github.com/berth-go/berth/sockets"
)

func namespaced() []string { return []string{"sysctls", "backlog", "conntrack"} }

// Where no namespace is to be had, the rows are there, and say why they are empty.
func TestWithoutChildrenNothingIsObserved(t *testing.T) {
	picked, err := Select(namespaced())
	if err != nil {
		t.Fatal(err)
	}
	r := Run(t.Context(), picked, Options{Scale: Quick})
	if !r.OK() {
		t.Errorf("a row does not hold: %+v", r)
	}
	for _, e := range r.Experiments {
		if len(e.Variants) == 0 {
			t.Errorf("%s has no rows", e.Name)
		}
		for _, v := range e.Variants {
			if v.Verdict() != Unseen || v.Note == "" {
				t.Errorf("%s/%s: %s, %q", e.Name, v.Name, v.Verdict(), v.Note)
			}
		}
	}
}

// declared checks that a row has what it has where it cannot be observed.
func declared(t *testing.T, r *Report) {
	t.Helper()
	for _, e := range r.Experiments {
		i := 0
		for _, part := range isolatedOf(e.Name) {
			for _, row := range part.rows {
				if i >= len(e.Variants) || e.Variants[i].Name != row.name {
					t.Errorf("%s: row %d is not %q", e.Name, i+1, row.name)
					return
				}
				for _, k := range row.keys {
					if _, ok := e.Variants[i].Measured[k]; !ok {
						t.Errorf("%s/%s lacks %q", e.Name, row.name, k)
					}
				}
				i++
			}
		}
	}
}

func TestChildIsRefusedWhatItCannotDo(t *testing.T) {
	for _, o := range []order{{"nosuch", 0, Quick}, {"backlog", -1, Quick}, {"backlog", len(backlogParts()), Quick}} {
		if _, err := runPart(o); err == nil {
			t.Errorf("%+v is done", o)
		}
	}
}

// A namespace's settings are not the host's.
func TestHostKeepsItsSettings(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("network namespaces are Linux'")
	}
	before := settingsNow(t)
	picked, err := Select([]string{"backlog"})
	if err != nil {
		t.Fatal(err)
	}
	r := Run(t.Context(), picked, Options{Scale: Quick, Children: true})
	declared(t, r)
	if now := settingsNow(t); now != before {
		t.Errorf("somaxconn, tcp_syncookies and the range of ports were %v and are %v", before, now)
	}
}

func settingsNow(t *testing.T) (now [3]string) {
	t.Helper()
	for i, name := range []string{"net.core.somaxconn", "net.ipv4.tcp_syncookies", "net.ipv4.ip_local_port_range"} {
		v, err := sockets.Sysctl(name)
		if err != nil {
			t.Skip(err)
		}
		now[i] = v
	}
	return now
}
