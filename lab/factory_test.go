package lab

import (
	"net/http"
	"testing"
)

// The imitation replaces its transports after so many clients, and closes one when nobody
// has a client over it.
func TestRotatingSupplyReplacesAndKeepsWhatIsHeld(t *testing.T) {
	r := &rotatingSupply{fleet: &fleet{}, life: 10, version: "1"}
	_, release := r.client(0) // captured
	first := r.now[0]
	for range 10 {
		_, done := r.client(0)
		done()
	}
	if r.now[0] != first || first.old {
		t.Fatal("replaced before its time")
	}
	c, done := r.client(0)
	if r.now[0] == first || !first.old {
		t.Error("not replaced after its time")
	}
	if first.holders != 1 {
		t.Errorf("%d hold the old one, where one does", first.holders)
	}
	release()
	release() // once is enough
	if first.holders != 0 {
		t.Errorf("%d hold the old one, where none does", first.holders)
	}
	if _, is := c.Transport.(*http.Transport); is {
		t.Error("the client does not say which version it is of")
	}
	done()
	before := r.now[0]
	if err := r.reload("2"); err != nil || r.version != "2" || before.old {
		t.Errorf("after a reload: %v, version %s, replaced %v", err, r.version, before.old)
	}
}
