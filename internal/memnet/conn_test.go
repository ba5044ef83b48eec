package memnet

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestConnCarriesBytesBothWaysAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const total = 1 << 20
		client, server := pair(t, &Network{Buffer: 777})
		var wg sync.WaitGroup
		send := func(c *Conn, seed uint64) []byte {
			data := make([]byte, total)
			rng := rand.NewChaCha8([32]byte{byte(seed)})
			rng.Read(data)
			wg.Go(func() {
				sizes := rand.New(rand.NewPCG(seed, 1))
				for rest := data; len(rest) > 0; {
					n := min(len(rest), 1+sizes.IntN(3000))
					if k, err := c.Write(rest[:n]); k != n || err != nil {
						t.Errorf("Write of %d: %d, %v", n, k, err)
						return
					}
					rest = rest[n:]
				}
				c.CloseWrite()
			})
			return data
		}
		var gotUp, gotDown []byte
		up, down := send(client, 1), send(server, 2)
		wg.Go(func() { gotUp, _ = io.ReadAll(server) })
		wg.Go(func() { gotDown, _ = io.ReadAll(client) })
		wg.Wait()
		if sha256.Sum256(gotUp) != sha256.Sum256(up) {
			t.Errorf("server read %d bytes that differ from the %d written", len(gotUp), total)
		}
		if sha256.Sum256(gotDown) != sha256.Sum256(down) {
			t.Errorf("client read %d bytes that differ from the %d written", len(gotDown), total)
		}
	})
}

func TestConcurrentWritesAreNotMixed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const writers, size = 8, 1000
		client, server := pair(t, &Network{Buffer: 64})
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				if _, err := client.Write(bytes.Repeat([]byte{'a' + byte(i)}, size)); err != nil {
					t.Errorf("Write: %v", err)
				}
			})
		}
		got := make([]byte, writers*size)
		if _, err := io.ReadFull(server, got); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		seen := make(map[byte]bool)
		for part := range slices.Chunk(got, size) {
			if n := bytes.Count(part, part[:1]); n != size {
				t.Errorf("a Write of %d bytes %q was interrupted after %d", size, part[0], n)
			}
			seen[part[0]] = true
		}
		if len(seen) != writers {
			t.Errorf("%d writers seen, want %d", len(seen), writers)
		}
	})
}

func TestConcurrentReadsShareTheBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const total = 10000
		client, server := pair(t, &Network{Buffer: 64})
		var wg sync.WaitGroup
		var mu sync.Mutex
		got := 0
		for range 4 {
			wg.Go(func() {
				n, err := io.Copy(io.Discard, server)
				if err != nil {
					t.Errorf("Read: %v", err)
				}
				mu.Lock()
				got += int(n)
				mu.Unlock()
			})
		}
		mustWrite(t, client, string(make([]byte, total)))
		client.Close()
		wg.Wait()
		if got != total {
			t.Errorf("readers got %d bytes together, want %d", got, total)
		}
	})
}

func TestWriteBlocksWhileTheBufferIsFull(t *testing.T) {
	for _, tc := range []struct {
		name   string
		buffer int
		size   int // what fits
	}{
		{"default", 0, 64 << 10},
		{"chosen", 100, 100},
		{"unbounded", -1, 1 << 20},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := pair(t, &Network{Buffer: tc.buffer})
				mustWrite(t, client, string(make([]byte, tc.size)))
				if tc.buffer < 0 {
					return
				}
				done := make(chan time.Time, 1)
				go func() {
					client.Write([]byte("x"))
					done <- time.Now()
				}()
				start := time.Now()
				time.Sleep(time.Minute)
				if n, err := server.Read(make([]byte, 1)); n != 1 || err != nil {
					t.Fatalf("Read: %d, %v", n, err)
				}
				if got := (<-done).Sub(start); got != time.Minute {
					t.Errorf("Write returned after %v, want when the peer read, after 1m", got)
				}
			})
		})
	}
}

func TestCloseLetsThePeerDrainAndThenEOF(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t, new(Network))
		mustWrite(t, client, "last words")
		if err := client.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
		wantRead(t, server, "last words")
		for range 2 {
			if n, err := server.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("Read after the peer's Close: %d, %v, want 0, EOF", n, err)
			}
		}
		_, err := server.Write([]byte("x"))
		wantOpError(t, err, "write", syscall.EPIPE, false)
	})
}

// TestEndWakesBlockedCalls holds every way an end can come against every call
// that can wait for it.
func TestEndWakesBlockedCalls(t *testing.T) {
	for _, tc := range []struct {
		name        string
		end         func(client, server *Conn) error
		read, write error // what the client's calls return; nil: they go on waiting
	}{
		{"own Close", func(c, s *Conn) error { return c.Close() }, net.ErrClosed, net.ErrClosed},
		{"own Reset", func(c, s *Conn) error { return c.Reset() }, net.ErrClosed, net.ErrClosed},
		{"own CloseWrite", func(c, s *Conn) error { return c.CloseWrite() }, nil, syscall.EPIPE},
		{"peer's Close", func(c, s *Conn) error { return s.Close() }, io.EOF, syscall.EPIPE},
		{"peer's Reset", func(c, s *Conn) error { return s.Reset() }, syscall.ECONNRESET, syscall.ECONNRESET},
		{"peer's CloseWrite", func(c, s *Conn) error { return s.CloseWrite() }, io.EOF, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := pair(t, &Network{Buffer: 4})
				var readErr, writeErr error
				var read, wrote bool
				var n int
				var wg sync.WaitGroup
				wg.Go(func() {
					_, readErr = client.Read(make([]byte, 1))
					read = true
				})
				wg.Go(func() {
					n, writeErr = client.Write([]byte("12345"))
					wrote = true
				})
				synctest.Wait()
				if err := tc.end(client, server); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				switch {
				case read != (tc.read != nil):
					t.Errorf("Read returned: %v, want %v", read, tc.read != nil)
				case tc.read == io.EOF:
					if readErr != io.EOF {
						t.Errorf("Read: %v, want bare io.EOF", readErr)
					}
				case read:
					wantOpError(t, readErr, "read", tc.read, false)
				}
				if wrote != (tc.write != nil) {
					t.Errorf("Write returned: %v, want %v", wrote, tc.write != nil)
				} else if wrote {
					wantOpError(t, writeErr, "write", tc.write, false)
					if n != 4 {
						t.Errorf("Write returned %d, want the 4 bytes that were buffered", n)
					}
				}
				client.Close()
				wg.Wait()
			})
		})
	}
}

func TestCloseWriteIsAHalfClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t, new(Network))
		mustWrite(t, client, "question")
		for range 2 {
			if err := client.CloseWrite(); err != nil {
				t.Fatalf("CloseWrite: %v", err)
			}
		}
		wantRead(t, server, "question")
		if _, err := server.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("Read: %v, want EOF", err)
		}
		mustWrite(t, server, "answer")
		wantRead(t, client, "answer")
		_, err := client.Write([]byte("x"))
		wantOpError(t, err, "write", syscall.EPIPE, false)
	})
}

func TestResetLosesWhatThePeerHasNotRead(t *testing.T) {
	for _, tc := range []struct {
		name  string
		reset func(*Conn) error
	}{
		{"Reset", (*Conn).Reset},
		{"SetLinger 0", func(c *Conn) error {
			if err := c.SetLinger(0); err != nil {
				return err
			}
			return c.Close()
		}},
		{"Reset after CloseWrite", func(c *Conn) error {
			if err := c.CloseWrite(); err != nil {
				return err
			}
			return c.Reset()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := pair(t, new(Network))
				mustWrite(t, client, "lost")
				if err := tc.reset(client); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					n, err := server.Read(make([]byte, 4))
					if n != 0 {
						t.Errorf("Read %d bytes after a reset, want 0", n)
					}
					wantOpError(t, err, "read", syscall.ECONNRESET, false)
				}
				_, err := server.Write([]byte("x"))
				wantOpError(t, err, "write", syscall.ECONNRESET, false)
			})
		})
	}
}

func TestSetLingerRestoresTheOrdinaryClose(t *testing.T) {
	client, server := pair(t, new(Network))
	client.SetLinger(0)
	client.SetLinger(-1)
	mustWrite(t, client, "kept")
	client.Close()
	wantRead(t, server, "kept")
}

func TestClosedEndRefusesEveryCall(t *testing.T) {
	client, _ := pair(t, new(Network))
	client.Close()
	calls := map[string]func() error{
		"read":  func() error { _, err := client.Read(nil); return err },
		"write": func() error { _, err := client.Write(nil); return err },
		"close": client.Close,
		"set":   func() error { return client.SetDeadline(time.Time{}) },
	}
	for op, call := range calls {
		wantOpError(t, call(), op, net.ErrClosed, false)
	}
	wantOpError(t, client.Reset(), "close", net.ErrClosed, false)
	wantOpError(t, client.CloseWrite(), "close", net.ErrClosed, false)
	wantOpError(t, client.SetReadDeadline(time.Time{}), "set", net.ErrClosed, false)
	wantOpError(t, client.SetWriteDeadline(time.Time{}), "set", net.ErrClosed, false)
	wantOpError(t, client.SetLinger(0), "set", net.ErrClosed, false)
}

// A deadline in the past does not turn an end's own Close into a timeout.
func TestClosedWinsOverDeadline(t *testing.T) {
	client, _ := pair(t, new(Network))
	client.SetDeadline(time.Unix(1, 0))
	client.Close()
	_, err := client.Read(make([]byte, 1))
	wantOpError(t, err, "read", net.ErrClosed, false)
	_, err = client.Write([]byte("x"))
	wantOpError(t, err, "write", net.ErrClosed, false)
}

func TestEmptyReadAndWriteReturnAtOnce(t *testing.T) {
	client, server := pair(t, &Network{Buffer: 1})
	if n, err := client.Read(nil); n != 0 || err != nil {
		t.Errorf("Read(nil): %d, %v", n, err)
	}
	mustWrite(t, client, "x")
	mustWrite(t, client, "")
	wantRead(t, server, "x")
}

func TestPendingLooksWithoutTaking(t *testing.T) {
	client, server := pair(t, new(Network))
	check := func(when string, wantN int, wantErr error) {
		t.Helper()
		n, err := server.Pending()
		if n != wantN || !errors.Is(err, wantErr) {
			t.Errorf("%s: Pending() = %d, %v, want %d, %v", when, n, err, wantN, wantErr)
		}
	}
	check("nothing sent", 0, nil)
	mustWrite(t, client, "abc")
	check("three bytes sent", 3, nil)
	server.SetReadDeadline(time.Unix(1, 0))
	check("deadline passed", 3, nil)
	server.SetReadDeadline(time.Time{})
	client.Close()
	check("peer closed, bytes left", 3, nil)
	wantRead(t, server, "abc")
	check("peer closed, drained", 0, io.EOF)
	server.Close()
	check("own end closed", 0, net.ErrClosed)

	client, server = pair(t, new(Network))
	client.Reset()
	check("peer reset", 0, syscall.ECONNRESET)
}

func TestAddressesOfBothEndsAgree(t *testing.T) {
	n := new(Network)
	ln := listen(t, n, "[::1]:443")
	client := dial(t, n, "[::1]:443")
	server := accept(t, ln)
	if client.RemoteAddr() != server.LocalAddr() || client.LocalAddr() != server.RemoteAddr() {
		t.Errorf("client %v→%v, server %v→%v: the ends disagree",
			client.LocalAddr(), client.RemoteAddr(), server.LocalAddr(), server.RemoteAddr())
	}
	if got := client.RemoteAddr().String(); got != "[::1]:443" {
		t.Errorf("RemoteAddr is %s, want the dialled [::1]:443", got)
	}
	if local := client.LocalAddr().(Addr); local.Host != "::1" || local.Port < firstPort {
		t.Errorf("LocalAddr is %v, want an ephemeral port on ::1", local)
	}
}

func TestErrorsReadAsOnARealNetwork(t *testing.T) {
	client, server := pair(t, new(Network))
	server.Reset()
	_, err := client.Read(make([]byte, 1))
	want := "read tcp " + client.LocalAddr().String() + "->origin.test:80: read: connection reset by peer"
	if err.Error() != want {
		t.Errorf("error is %q, want %q", err, want)
	}
	client.SetReadDeadline(time.Unix(1, 0))
	_, err = client.Read(make([]byte, 1))
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("error is %v, want a net.Error with Timeout", err)
	}
}
