package doctor

import (
	"fmt"
	"time"
)

// Level is how bad a finding is.
type Level int

const (
	OK   Level = iota // looked at, nothing to do
	Warn              // works still
	Fail              // requests fail, or will soon
)

var levelNames = [...]string{"ok", "warn", "fail"}

func (l Level) String() string {
	if l >= OK && l <= Fail {
		return levelNames[l]
	}
	return fmt.Sprintf("Level(%d)", int(l))
}

// MarshalText gives ok, warn or fail.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads what MarshalText gives.
func (l *Level) UnmarshalText(b []byte) error {
	for i, name := range levelNames {
		if string(b) == name {
			*l = Level(i)
			return nil
		}
	}
	return fmt.Errorf("no level %q", b)
}

// Finding is what one check found.
type Finding struct {
	Check    string   `json:"check"`          // sockets, ports, close-wait…; see docs/doctor.md
	Code     string   `json:"code,omitempty"` // BERTHnnnn, an entry of the knowledge base; "" where all is well
	Level    Level    `json:"level"`
	Title    string   `json:"title"` // one line, in Options.Lang, as are evidence and fix
	Evidence []string `json:"evidence,omitempty"`
	Fix      string   `json:"fix,omitempty"` // one line; "" where all is well
	Subject  Subject  `json:"subject,omitzero"`
}

// Subject is whom a finding is about. Each field is zero where it does not apply.
type Subject struct {
	PID         int    `json:"pid,omitempty"`
	Process     string `json:"process,omitempty"`
	Destination string `json:"destination,omitempty"` // address and port
	State       string `json:"state,omitempty"`       // of TCP
	Count       int    `json:"count,omitempty"`
	Bytes       uint64 `json:"bytes,omitempty"`
}

// Report is the outcome of an examination; its JSON is schema 1.
type Report struct {
	Schema    int           `json:"schema"`
	Time      time.Time     `json:"time"`     // of the second look
	Interval  time.Duration `json:"interval"` // between the looks, in nanoseconds
	OS        string        `json:"os"`
	Source    string        `json:"source"` // of the socket table
	Namespace string        `json:"namespace,omitempty"`
	Level     Level         `json:"level"` // of the worst finding
	Findings  []Finding     `json:"findings"`
	NotSeen   []string      `json:"not_seen"` // what could not be looked at, in Options.Lang
	Failed    []string      `json:"failed"`   // programs of Options.From that could not be read
}
