package dial

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// System asks the system's resolver, as configured in resolv.conf and hosts. On Linux it
// is Go's own, whose answers are overheard for their TTL: package net does not tell it.
// Elsewhere, and where that finds nothing, the TTL is not known.
func System(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
	ctx = namesOnly(ctx)
	if runtime.GOOS == "linux" {
		addrs, ttl, err := listen(ctx, host, nil)
		if err == nil || ctx.Err() != nil {
			return addrs, ttl, err
		}
		// A name that only the C library's other sources know.
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	return addrs, 0, err
}

// Servers asks name servers, host:port, one after the other until one answers; a query
// begins with the next one.
func Servers(addrs []string) Lookup {
	var turn atomic.Uint32
	return func(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
		var (
			tried atomic.Uint32
			first = turn.Add(1) - 1
		)
		return listen(namesOnly(ctx), host, func() string { return addrs[(first+tried.Add(1)-1)%uint32(len(addrs))] })
	}
}

// listen resolves a name by Go's resolver and overhears the TTL. server names the one that
// is asked; nil leaves that to resolv.conf.
func listen(ctx context.Context, host string, server func() string) ([]netip.Addr, time.Duration, error) {
	heard := overheard{server: server}
	r := net.Resolver{PreferGo: true, Dial: heard.dial}
	addrs, err := r.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, 0, err
	}
	return addrs, heard.ttl(), nil
}

// overheard is the least TTL of the addresses and aliases in the answers to one lookup.
type overheard struct {
	server func() string

	mu    sync.Mutex
	least uint32
	any   bool
}

func (o *overheard) ttl() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.any {
		return 0
	}
	return max(time.Duration(o.least)*time.Second, time.Nanosecond)
}

// dial connects to a name server and listens in.
func (o *overheard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if o.server != nil {
		address = o.server()
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if u, ok := c.(*net.UDPConn); ok {
		return &datagrams{u, o}, nil // still a net.PacketConn: the resolver asks for that
	}
	return &stream{Conn: c, o: o}, nil
}

// datagrams are a UDP connection to a name server: each is a message.
type datagrams struct {
	*net.UDPConn
	o *overheard
}

func (d *datagrams) Read(p []byte) (int, error) {
	n, err := d.UDPConn.Read(p)
	if err == nil {
		d.o.hear(p[:n])
	}
	return n, err
}

// stream is a TCP connection to one: each message has its length before it.
type stream struct {
	net.Conn
	o   *overheard
	buf []byte
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	s.buf = append(s.buf, p[:n]...)
	for len(s.buf) >= 2 {
		end := 2 + int(binary.BigEndian.Uint16(s.buf))
		if len(s.buf) < end {
			break
		}
		s.o.hear(s.buf[2:end])
		s.buf = s.buf[end:]
	}
	return n, err
}

// hear notes the TTLs of a message.
func (o *overheard) hear(msg []byte) {
	least, err := leastTTL(msg)
	if err != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.any || least < o.least {
		o.least, o.any = least, true
	}
}

// The numbers of RFC 1035 §3.2.2, §4.1 and RFC 3596.
const (
	dnsHeader   = 12
	dnsResponse = 1 << 15
	dnsRcode    = 15
	typeA       = 1
	typeCNAME   = 5
	typeAAAA    = 28
)

var errNoTTL = errors.New("no answer with a TTL")

// leastTTL returns the least TTL of the A, AAAA and CNAME records that answer a query, as
// the message has them (RFC 1035 §4.1.3).
func leastTTL(msg []byte) (least uint32, err error) {
	be := binary.BigEndian
	if len(msg) < dnsHeader || be.Uint16(msg[2:])&dnsResponse == 0 || be.Uint16(msg[2:])&dnsRcode != 0 {
		return 0, errNoTTL
	}
	questions, answers := int(be.Uint16(msg[4:])), int(be.Uint16(msg[6:]))
	at, ok := dnsHeader, true
	for range questions {
		if at, ok = skipName(msg, at); !ok || at+4 > len(msg) {
			return 0, errNoTTL
		}
		at += 4
	}
	found := false
	for range answers {
		if at, ok = skipName(msg, at); !ok || at+10 > len(msg) {
			return 0, errNoTTL
		}
		kind, ttl, size := be.Uint16(msg[at:]), be.Uint32(msg[at+4:]), int(be.Uint16(msg[at+8:]))
		if at += 10 + size; at > len(msg) {
			return 0, errNoTTL
		}
		if kind != typeA && kind != typeAAAA && kind != typeCNAME {
			continue
		}
		if ttl > 1<<31-1 { // RFC 2181 §8: taken for zero
			ttl = 0
		}
		if !found || ttl < least {
			least, found = ttl, true
		}
	}
	if !found {
		return 0, errNoTTL
	}
	return least, nil
}

// skipName returns where the name at offset at ends.
func skipName(msg []byte, at int) (int, bool) {
	for at < len(msg) {
		switch n := int(msg[at]); {
		case n == 0:
			return at + 1, true
		case n >= 0xc0: // a pointer ends a name
			return at + 2, at+2 <= len(msg)
		case n >= 0x40:
			return 0, false
		default:
			at += 1 + n
		}
	}
	return 0, false
}
