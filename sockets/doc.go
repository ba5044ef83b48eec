// Package sockets reads the kernel's table of TCP sockets: which state each is in,
// which addresses and which owner it has, and what the kernel counts and allows. Berth's
// lab and doctor see by it what really is, instead of what their own counters believe.
//
// On Linux the table comes from sock_diag over netlink, or from /proc/net/tcp and
// /proc/net/tcp6 where netlink is refused. No privilege is needed, except to see which
// processes of other users own a socket.
//
// On macOS the table comes from netstat, on Windows from GetExtendedTcpTable. Those two
// are compiled and vetted for their systems, and what they read is tested on recorded
// text and bytes; they have not been run there. Elsewhere List returns an
// *UnsupportedError.
package sockets
