package h2

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// seen is what the observer made of a stream of bytes.
type seen struct {
	Limits []uint32
	GoAway *GoAway
	Flood  bool
}

func observe(pieces ...[]byte) (s seen) {
	w := &wire{owner: quiet{}}
	for _, p := range pieces {
		w.frames.follow(w, p)
		if w.changed {
			w.changed = false
			s.Limits = append(s.Limits, w.frames.maxStreams)
		}
	}
	s.GoAway, s.Flood = w.goAway, w.flood.err != nil
	return s
}

// However the bytes arrive, the frames are the same.
func TestFramesThatArriveInPieces(t *testing.T) {
	var b bytes.Buffer
	fr := http2.NewFramer(&b, nil)
	fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 7})
	fr.WriteSettingsAck()
	fr.WriteData(1, false, bytes.Repeat([]byte("payload with \x00\x00\x06\x04 in it"), 20))
	fr.WriteGoAway(9, http2.ErrCodeEnhanceYourCalm, []byte(strings.Repeat("reason ", 100)))
	fr.WritePing(false, [8]byte{})
	fr.WriteGoAway(5, http2.ErrCodeNo, nil)
	all := b.Bytes()

	want := observe(all)
	if want.GoAway == nil || want.GoAway.LastStream != 5 || !reflect.DeepEqual(want.Limits, []uint32{7}) || want.Flood {
		t.Fatalf("%+v %+v", want, want.GoAway)
	}
	for i := range all {
		if got := observe(all[:i], all[i:]); !reflect.DeepEqual(got, want) {
			t.Errorf("cut at %d: %+v", i, got)
		}
	}
	var bytewise [][]byte
	for i := range all {
		bytewise = append(bytewise, all[i:i+1])
	}
	if got := observe(bytewise...); !reflect.DeepEqual(got, want) {
		t.Errorf("byte by byte: %+v", got)
	}
}

// SETTINGS without a limit on streams mean as many as net/http opens; later ones
// that do not name it leave it as it is (RFC 9113 §6.5.3).
func TestSettingsWithoutALimit(t *testing.T) {
	var b bytes.Buffer
	fr := http2.NewFramer(&b, nil)
	next := func(s ...http2.Setting) []byte {
		b.Reset()
		fr.WriteSettings(s...)
		return bytes.Clone(b.Bytes())
	}
	limit := func(n uint32) http2.Setting { return http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: n} }
	got := observe(next(), next(limit(4)), next(), next(limit(0)), next(limit(9), limit(3)))
	if want := []uint32{unlimitedStreams, 4, 4, 0, 3}; !reflect.DeepEqual(got.Limits, want) {
		t.Errorf("limits %v, want %v", got.Limits, want)
	}
}

// A flood is what comes faster than the budget refills and answers nothing.
func TestFloodBudget(t *testing.T) {
	var f flood
	for range floodBudget {
		f.frame(framePing, 8, false)
	}
	if f.err != nil {
		t.Fatalf("within the budget: %v", f.err)
	}
	f.since = time.Now().Add(-floodRefill * 1000)
	for range 900 {
		f.frame(framePing, 8, false)
	}
	if f.err != nil {
		t.Errorf("after a refill of 1000: %v", f.err)
	}
	for range 500 {
		f.frame(framePing, 8, false)
	}
	if f.err == nil {
		t.Error("beyond the budget: no error")
	}

	var busy flood
	for range 10 * floodBudget {
		busy.frame(framePing, 8, false)
		busy.frame(frameHeaders, 10, false)
	}
	if busy.err != nil {
		t.Errorf("a control frame for each response: %v", busy.err)
	}
}

// Whatever the bytes, two halves say what the whole says, and nothing panics.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"), 5)
	f.Add([]byte("\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02"), 9)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		if cut < 0 || cut > len(b) {
			return
		}
		whole, parts := observe(b), observe(b[:cut], b[cut:])
		if !reflect.DeepEqual(whole.GoAway, parts.GoAway) || whole.Flood != parts.Flood {
			t.Errorf("whole %+v, parts %+v", whole, parts)
		}
		if n, m := len(whole.Limits), len(parts.Limits); n > 0 && (m == 0 || whole.Limits[n-1] != parts.Limits[m-1]) {
			t.Errorf("limits: whole %v, parts %v", whole.Limits, parts.Limits)
		}
	})
}
