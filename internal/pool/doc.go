// Package pool decides which request gets which connection.
//
// It knows neither sockets nor HTTP. A [Pool] serves one endpoint: everything
// that it hands out is interchangeable. Connections are reached through [Conn],
// the world outside through [Owner]; time is a number of nanoseconds on a
// monotonic clock that the caller passes in.
//
// # Decide, then act
//
// [core] is the part that decides. Each of its methods is one event (acquire,
// cancel, admitted, dialled, dial failed, released, refused, probed, closed,
// capacity changed, policy changed, tick, shut down). An event changes the
// state and emits actions: grant, fail, admit, dial, cancel dial, close, probe.
// core does no I/O, starts nothing and calls nothing: [Pool] holds its one mutex
// around an event and carries the actions out after unlocking. Setting the timer
// is the exception: it happens before unlocking, so that no older deadline can
// overtake a newer one; it does not block.
//
// # One owner a slot
//
// A [Slot] is one connection's place under the limit, from the decision to dial
// to the end of its close. Only core moves it (setState), along these lines:
//
//	           admitted, dialled          grant
//	Dialing ──────────────────────► Idle ◄──────► Leased
//	   │ failed, denied               │ expire,      │ retire while in use
//	   │                              │ evict, dead  ▼
//	   │                              │           Draining
//	   ▼                              ▼              │ last exchange ended
//	 Gone ◄───────────────────────  Closing ◄────────┘
//	              closed
//
// Invariants, checked after every event in tests and under the build tag
// "invariants":
//
//   - dialing + idle + leased + draining + closing = slots;
//   - no slot is added at or above the limit;
//   - the sum of exchanges in flight over all slots = the number of leases;
//   - no request waits while a connection has room;
//   - the timer is never later than the earliest deadline.
//
// A closing connection still counts against the limit: the kernel never shows
// more connections than the limit allows.
package pool
