package sockets

import (
	"errors"
	"maps"
	"testing"
)

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func TestWriteTableReturnsTheWritersError(t *testing.T) {
	broken := errors.New("broken")
	if err := WriteTable(brokenWriter{broken}, []Socket{{State: Listen}}); !errors.Is(err, broken) {
		t.Errorf("error %v, want the writer's", err)
	}
}

func TestCount(t *testing.T) {
	got := Count([]Socket{{State: TimeWait}, {State: Listen}, {State: TimeWait}})
	if want := map[State]int{TimeWait: 2, Listen: 1}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := Count(nil); got == nil || len(got) != 0 {
		t.Errorf("got %v, want an empty map", got)
	}
}

func TestStateIsNumberedAndSpelt(t *testing.T) {
	for n, want := range map[State]string{
		0: "UNKNOWN", 1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 6: "TIME_WAIT",
		7: "CLOSE", 8: "CLOSE_WAIT", 9: "LAST_ACK", 10: "LISTEN", 11: "CLOSING", 13: "UNKNOWN", 255: "UNKNOWN",
	} {
		if got := n.String(); got != want {
			t.Errorf("state %d is spelt %q, want %q", n, got, want)
		}
	}
	if Closing != 11 || TimeWait != 6 {
		t.Errorf("CLOSING is %d and TIME_WAIT %d, want 11 and 6", Closing, TimeWait)
	}
}
