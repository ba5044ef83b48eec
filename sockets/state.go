package sockets

// State is a TCP state (RFC 9293 §3.3.2), numbered as Linux does.
type State uint8

const (
	Established State = iota + 1
	SynSent
	SynRecv
	FinWait1
	FinWait2
	TimeWait
	Close
	CloseWait
	LastAck
	Listen
	Closing
	newSynRecv // a connection request that has no socket yet
)

var stateNames = [...]string{"", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE",
	"CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "SYN_RECV"}

// String spells the state as netstat does.
func (s State) String() string {
	if int(s) < len(stateNames) && s != 0 {
		return stateNames[s]
	}
	return "UNKNOWN"
}

// normal makes one state of the kernel's two words for a half-open connection.
func (s State) normal() State {
	if s == newSynRecv {
		return SynRecv
	}
	return s
}
