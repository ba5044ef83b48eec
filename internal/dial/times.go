package dial

import "time"

// Times is when the parts of one dial took place. A nil *Times measures nothing. It belongs
// to the goroutine of the dial.
type Times [numParts]Phase

// Phase is when something took place; zero when it did not.
type Phase struct {
	Start    time.Time
	Duration time.Duration
	Failed   bool
}

// Part is a part of a dial.
type Part int

const (
	PartName    Part = iota // the name was asked for, or somebody else's question waited for
	PartConnect             // the race of the addresses, or a dial function of the caller's
	PartProxy               // TLS with a proxy, and its answer to CONNECT or SOCKS
	PartTLS                 // the handshake with the origin
	numParts
)

// Begin notes that a part begins, unless it has begun.
func (t *Times) Begin(p Part) {
	if t != nil && t[p].Start.IsZero() {
		t[p].Start = time.Now()
	}
}

// End notes that it ends, and whether well.
func (t *Times) End(p Part, err error) {
	if t != nil {
		t[p].Duration, t[p].Failed = time.Since(t[p].Start), err != nil
	}
}

// drop forgets a part that did not take place after all.
func (t *Times) drop(p Part) {
	if t != nil {
		t[p] = Phase{}
	}
}
