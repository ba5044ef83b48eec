package lab

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestReadReadsWhatIsWritten(t *testing.T) {
	r := Report{Schema: Schema, Scale: "quick", Env: Env{OS: "linux", CPUs: 2}, Interrupted: true, Experiments: []Result{{Name: "x", Variants: []Variant{{
		Name: "berth", Measured: map[string]any{"n": 1.5}, Expected: map[string]any{"n": "≤ 2"}, OK: true,
		Series:   []Series{{Name: "a", Unit: "s", Points: [][2]float64{{0, 1}}}},
		Marks:    []Mark{{At: 1, Text: "it moves"}},
		Timeline: []Lane{{Name: "client", Unit: "ms", Spans: []Span{{State: "TIME_WAIT", From: 1, To: 2, Open: true, Segment: "ACK", Sent: true}}}},
	}}}}}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read(bytes.NewReader(append(b, '\n')))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*got, r) {
		t.Errorf("%+v, want %+v", *got, r)
	}
	if _, err := Read(strings.NewReader(`{"schema":1,"younger":{"than":"this"}}`)); err != nil {
		t.Errorf("a field that is not known: %v", err)
	}
}

func TestReadSaysWhatIsWrong(t *testing.T) {
	for in, want := range map[string]string{
		``:                                "it is empty",
		`{`:                               "unexpected EOF",
		`nonsense`:                        "invalid character",
		`[]`:                              "it cannot be of type array",
		`{}`:                              "no schema",
		`{"schema":2}`:                    "a report of schema 2; this version reads schema 1",
		`{"schema":"1"}`:                  "schema cannot be of type string",
		`{"schema":1,"experiments":"x"}`:  "experiments cannot be of type string",
		`{"schema":1}{"schema":1}`:        "something follows",
		`{"schema":1,"experiments":[{}]]`: "invalid character",
	} {
		r, err := Read(strings.NewReader(in))
		if err == nil || !strings.Contains(err.Error(), want) || r != nil {
			t.Errorf("%s: error %v, want %q", in, err, want)
		}
	}
}
