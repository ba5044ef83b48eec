package lab

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/berth-go/berth/sockets"
)

// stateChange is one line of the tracepoint sock:inet_sock_set_state.
type stateChange struct {
	at           time.Duration // of the monotonic clock
	sport, dport uint16
	from, to     sockets.State
}

// traceStates are the names that the tracepoint gives.
var traceStates = map[string]sockets.State{
	"TCP_ESTABLISHED": sockets.Established, "TCP_SYN_SENT": sockets.SynSent, "TCP_SYN_RECV": sockets.SynRecv,
	"TCP_NEW_SYN_RECV": sockets.SynRecv, "TCP_FIN_WAIT1": sockets.FinWait1, "TCP_FIN_WAIT2": sockets.FinWait2,
	"TCP_TIME_WAIT": sockets.TimeWait, "TCP_CLOSE": sockets.Close, "TCP_CLOSE_WAIT": sockets.CloseWait,
	"TCP_LAST_ACK": sockets.LastAck, "TCP_LISTEN": sockets.Listen, "TCP_CLOSING": sockets.Closing,
}

// parseTraceLine reads a line of a trace such as
//
//	task-123 [001] ..s1. 12.345678: inet_sock_set_state: … sport=1 dport=2 … oldstate=TCP_CLOSE newstate=TCP_SYN_SENT
//
// ok is false for comments and other events. An error is of a line that is of this
// event and cannot be read.
func parseTraceLine(line string) (c stateChange, ok bool, err error) {
	const event = ": inet_sock_set_state: "
	before, fields, found := strings.Cut(line, event)
	if !found || strings.HasPrefix(strings.TrimSpace(line), "#") {
		return c, false, nil
	}
	stamp := before[strings.LastIndexByte(before, ' ')+1:]
	seconds, fraction, found := strings.Cut(stamp, ".")
	s, serr := strconv.ParseUint(seconds, 10, 32)
	f, ferr := strconv.ParseUint(fraction, 10, 32)
	if !found || serr != nil || ferr != nil || len(fraction) > 9 {
		return c, false, fmt.Errorf("trace line with the time %.40q", stamp)
	}
	for range 9 - len(fraction) {
		f *= 10
	}
	c.at = time.Duration(s)*time.Second + time.Duration(f)
	seen := map[string]bool{} // a field twice does not stand for the one that lacks
	for field := range strings.FieldsSeq(fields) {
		name, value, _ := strings.Cut(field, "=")
		switch name {
		case "sport", "dport":
			n, err := strconv.ParseUint(value, 10, 16)
			if err != nil {
				return c, false, fmt.Errorf("trace line with the port %.20q", value)
			}
			if name == "sport" {
				c.sport = uint16(n)
			} else {
				c.dport = uint16(n)
			}
			seen[name] = true
		case "oldstate", "newstate":
			state, known := traceStates[value]
			if !known {
				return c, false, fmt.Errorf("trace line with the state %.40q", value)
			}
			if name == "oldstate" {
				c.from = state
			} else {
				c.to = state
			}
			seen[name] = true
		}
	}
	if len(seen) != 4 {
		return c, false, fmt.Errorf("trace line without its ports and states: %.80q", fields)
	}
	return c, true, nil
}
