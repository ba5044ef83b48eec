// Package h2 is the client's end of one HTTP/2 connection (RFC 9113): an adapter
// over [http.ClientConn] for a connection that Berth has dialled, handshaken and
// counted itself.
//
// ClientConn encodes, decodes and controls flow. What it does not tell, this
// package reads from the frames as they pass ([wire]): how many streams the peer
// allows and when that changes, that it goes away, that it floods. The frames pass
// in the clear, because ClientConn is handed a connection without TLS whose Read
// and Write are those of the TLS connection: what a team that debugs an h2c
// connection sees, the pool sees always.
//
// What is done about the sharp edges of ClientConn in Go 1.26:
//
//   - nothing is reserved on it: a reservation made before SETTINGS came, or while
//     they are lowered, can wait for ever. The pool lends no more streams than the
//     frames said that the peer allows; the few that SETTINGS overtake wait inside
//     ClientConn, which never exceeds the limit;
//   - its state hook, which runs with its locks held, is not used;
//   - the context of a dial does not bound the write of the preface: the
//     connection's deadline does;
//   - it leaves request bodies open on some errors: the caller closes them;
//   - it has no retry: [Error] says what the decision needs.
package h2
