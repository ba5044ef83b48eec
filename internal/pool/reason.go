package pool

// Reason says why a connection was closed.
type Reason uint8

const (
	ReasonNone      Reason = iota
	ReasonIdle             // unused for the idle timeout, ours or the one the peer announced
	ReasonLifetime         // retired by age
	ReasonRequests         // carried as many requests as it may
	ReasonSurplus          // more idle connections than MaxIdle
	ReasonLimit            // the limit was lowered
	ReasonEvict            // CloseIdle
	ReasonShutdown         // the transport ends
	ReasonPeer             // the peer closed it while idle, or sent what nobody asked for
	ReasonClose            // one side announced it: Connection: close, HTTP/1.0, read until close
	ReasonUnread           // the response body was closed with too much of it unread
	ReasonCanceled         // the request was cancelled, or its time ran out
	ReasonError            // reading or writing failed
	ReasonProtocol         // the peer broke the protocol, or deviated so that reuse is unsafe
	ReasonUpgrade          // handed over to the caller
	ReasonRefused          // it had no room although nothing was in flight
	ReasonReconnect        // the owner wanted new ones: Reconnect, or another identity
	ReasonAddress          // its address left the name's answer, or has more than its share
	ReasonStolen           // another pool needed its place under a common limit
	ReasonLeaked           // its response body was forgotten: nobody could have read it any more
	NumReasons
)

var reasonNames = [NumReasons]string{"none", "idle", "lifetime", "requests", "surplus", "limit", "evict", "shutdown",
	"peer", "close", "unread", "canceled", "error", "protocol", "upgrade", "refused", "reconnect",
	"address", "stolen", "leaked"}

func (r Reason) String() string { return reasonNames[r] }
