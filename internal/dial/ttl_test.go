package dial

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

// record is a resource record of an answer; its name is a pointer to the question's.
type record struct {
	kind uint16
	ttl  uint32
	data []byte
}

// reply makes the answer to a query.
func reply(query []byte, truncated bool, records ...record) []byte {
	be := binary.BigEndian
	end := dnsHeader
	for query[end] != 0 {
		end += 1 + int(query[end])
	}
	m := slices.Clone(query[:end+5])
	flags := uint16(0x8180)
	if truncated {
		flags |= 1 << 9
	}
	be.PutUint16(m[2:], flags)
	be.PutUint16(m[6:], uint16(len(records)))
	be.PutUint32(m[8:], 0)
	for _, r := range records {
		m = append(m, 0xc0, dnsHeader)
		m = be.AppendUint16(m, r.kind)
		m = be.AppendUint16(m, 1)
		m = be.AppendUint32(m, r.ttl)
		m = be.AppendUint16(m, uint16(len(r.data)))
		m = append(m, r.data...)
	}
	return m
}

var question = append([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, "\x03lab\x04test\x00\x00\x01\x00\x01"...)

func TestLeastTTL(t *testing.T) {
	a := func(ttl uint32) record { return record{typeA, ttl, []byte{192, 0, 2, 1}} }
	for _, tc := range []struct {
		name string
		msg  []byte
		want uint32
		ok   bool
	}{
		{"one", reply(question, false, a(37)), 37, true},
		{"the least", reply(question, false, record{typeCNAME, 300, []byte{0}}, a(60), a(20)), 20, true},
		{"an alias", reply(question, false, record{typeCNAME, 5, []byte{0}}, a(60)), 5, true},
		{"other records do not count", reply(question, false, record{46, 1, []byte{0}}, a(60)), 60, true},
		{"no TTL is that long", reply(question, false, a(1<<31)), 0, true},
		{"no answer", reply(question, false), 0, false},
		{"a query", question, 0, false},
		{"cut", reply(question, false, a(37))[:40], 0, false},
		{"empty", nil, 0, false},
	} {
		got, err := leastTTL(tc.msg)
		if got != tc.want || (err == nil) != tc.ok {
			t.Errorf("%s: %d, %v; want %d", tc.name, got, err, tc.want)
		}
	}
}

func FuzzLeastTTL(f *testing.F) {
	f.Add(reply(question, false, record{typeA, 37, []byte{192, 0, 2, 1}}))
	f.Add([]byte("\x00\x01\x81\x80\x00\x00\x00\x01\x00\x00\x00\x00\xc0\x0c"))
	f.Fuzz(func(t *testing.T, msg []byte) { leastTTL(msg) })
}

// The TTL is overheard over UDP and TCP, and the answer is what package net makes of it.
func TestTTLIsOverheard(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			udp, err := net.ListenPacket("udp", ln.Addr().String())
			if err != nil {
				t.Skip("no UDP port of that number: ", err)
			}
			var wg sync.WaitGroup
			answer := func(q []byte, cut bool) []byte {
				if cut {
					return reply(q, true)
				}
				kind := binary.BigEndian.Uint16(q[dnsHeader+len("\x03lab\x04test\x00"):])
				if kind != typeA {
					return reply(q, false)
				}
				return reply(q, false, record{typeA, 37, []byte{192, 0, 2, 1}}, record{typeA, 41, []byte{192, 0, 2, 2}})
			}
			wg.Go(func() {
				buf := make([]byte, 512)
				for {
					n, from, err := udp.ReadFrom(buf)
					if err != nil {
						return
					}
					udp.WriteTo(answer(buf[:n], network == "tcp"), from)
				}
			})
			wg.Go(func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					wg.Go(func() {
						defer c.Close()
						buf := make([]byte, 512)
						n, err := c.Read(buf)
						if err != nil || n < 2 {
							return
						}
						r := answer(buf[2:n], false)
						c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(r))), r...))
					})
				}
			})
			defer wg.Wait()
			defer udp.Close()
			defer ln.Close()
			addrs, ttl, err := Servers([]string{ln.Addr().String()})(t.Context(), "lab.test.")
			want := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}
			if err != nil || ttl != 37*time.Second || !slices.Equal(addrs, want) {
				t.Errorf("%v, TTL %v, %v", addrs, ttl, err)
			}
		})
	}
}

// Names that need no name server are resolved as ever.
func TestSystemResolvesLocalhost(t *testing.T) {
	addrs, _, err := System(context.Background(), "localhost")
	if err != nil || len(addrs) == 0 || !addrs[0].IsLoopback() {
		t.Errorf("%v, %v", addrs, err)
	}
}
