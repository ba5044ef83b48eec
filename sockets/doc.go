// Package sockets reads the kernel's table of TCP sockets: which state each is in,
// which addresses and which owner it has. Berth's lab and doctor see by it what
// really is, instead of what their own counters believe.
//
// On Linux the table comes from sock_diag over netlink, or from /proc/net/tcp and
// /proc/net/tcp6 where netlink is refused. No privilege is needed. Elsewhere List
// returns an *UnsupportedError.
package sockets
