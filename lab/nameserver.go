package lab

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// nameServer answers every query for an IPv4 address with the same ones, over UDP
// (RFC 1035 §4). It answers queries of other types with nothing.
type nameServer struct {
	conn    *net.UDPConn
	addr    atomic.Pointer[netip.Addr]
	more    []netip.Addr // behind it in every answer
	ttl     time.Duration
	queries atomic.Int64
	wg      sync.WaitGroup
}

func serveNames(ttl time.Duration, at netip.Addr, more ...netip.Addr) (*nameServer, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		return nil, err
	}
	s := &nameServer{conn: conn, ttl: ttl, more: more}
	s.addr.Store(&at)
	s.wg.Go(func() {
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if reply := s.answer(buf[:n]); reply != nil {
				conn.WriteToUDPAddrPort(reply, from)
			}
		}
	})
	return s, nil
}

func (s *nameServer) move(to netip.Addr) { s.addr.Store(&to) }

func (s *nameServer) where() string { return s.conn.LocalAddr().String() }

func (s *nameServer) Close() {
	s.conn.Close()
	s.wg.Wait()
}

// answer makes the reply to a query with one question.
func (s *nameServer) answer(q []byte) []byte {
	be := binary.BigEndian
	if len(q) < 12 || be.Uint16(q[4:]) != 1 {
		return nil
	}
	end := 12
	for end < len(q) && q[end] != 0 {
		end += 1 + int(q[end])
	}
	if end+5 > len(q) {
		return nil
	}
	kind := be.Uint16(q[end+1:])
	r := append([]byte(nil), q[:end+5]...)
	be.PutUint16(r[2:], 0x8180) // a response, recursion desired and available
	be.PutUint16(r[6:], 0)      // answers
	be.PutUint16(r[8:], 0)
	be.PutUint16(r[10:], 0) // no additional record: the query's EDNS is left out
	if kind == 1 {
		s.queries.Add(1)
		be.PutUint16(r[6:], uint16(1+len(s.more)))
		for _, addr := range append([]netip.Addr{*s.addr.Load()}, s.more...) {
			r = append(r, 0xc0, 12, 0, 1, 0, 1) // the question's name, A, IN
			r = be.AppendUint32(r, uint32(s.ttl/time.Second))
			a := addr.As4()
			r = append(append(r, 0, 4), a[:]...)
		}
	}
	return r
}
