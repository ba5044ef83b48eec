// Package doctor says what is wrong with the outbound connections of this host: which
// process, in which state of TCP, towards which destination, and what cures it. It looks
// twice, an interval apart, because a growth and a rate tell more than a number.
//
// What it knows comes from the kernel (package sockets), so that programs of any language
// are seen, and from programs that serve the statistics of a Berth transport. It changes
// nothing. [Findings] decides and reads nothing; [Take] reads and decides nothing;
// [Examine] and [Watch] do both.
//
// What is read where, each threshold with its reason, and what needs which permission:
// docs/doctor.md.
package doctor
