package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/clients"
)

// weighRows make many clients, have each send a request, and look at what they take.
func (s *session) weighRows(ctx context.Context) error {
	var theirs float64
	for i, v := range []struct {
		name string
		make func() (func(i int) http.RoundTripper, func(), error)
	}{
		{"net/http, a transport a name", func() (func(int) http.RoundTripper, func(), error) {
			all := make([]*http.Transport, factoryMany)
			return func(i int) http.RoundTripper {
					all[i] = &http.Transport{}
					return all[i]
				}, func() {
					for _, t := range all {
						t.CloseIdleConnections()
					}
				}, nil
		}},
		{"net/http, a client a name over one transport", func() (func(int) http.RoundTripper, func(), error) {
			t := &http.Transport{}
			all := make([]*http.Client, factoryMany)
			return func(i int) http.RoundTripper {
				all[i] = &http.Client{Transport: t}
				return roundTripFunc(all[i].Do)
			}, t.CloseIdleConnections, nil
		}},
		{"berth, a registry of many names", weighedRegistry},
	} {
		name := fmt.Sprintf("%s, %d names", v.name, factoryMany)
		s.progress("%s", name)
		srv, err := serve(51, byte(80+i), 0)
		if err != nil {
			return err
		}
		defer srv.Close()
		base, err := connectionWeight(ctx, srv)
		if err != nil {
			return err
		}
		accepted, goroutines, heap := srv.Stats().Accepted, quietGoroutines(ctx), heapInUse()
		next, end, err := v.make()
		if err != nil {
			return err
		}
		for i := range factoryMany {
			if err := get(ctx, next(i), srv.url()); err != nil {
				end()
				if ctx.Err() != nil {
					return errInterrupted
				}
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		accepted = srv.Stats().Accepted - accepted
		each := max((heapInUse()-heap-base*float64(accepted))/factoryMany/1024, 0)
		row := Variant{Name: name, Expected: map[string]any{}, Measured: map[string]any{"connections": accepted,
			"heap_kb_per_client": float64(int(each*10+0.5)) / 10, "goroutines": max(quietGoroutines(ctx)-goroutines, 0)}}
		runtime.KeepAlive(next) // which has the clients
		end()
		if i == 0 {
			theirs = each
		}
		if row.Berth() {
			row.Expected["connections"] = 1
			row.Expected["heap_kb_per_client"] = fmt.Sprintf("≤ %.1f", theirs/2)
		}
		row.OK = row.meets()
		s.add(row)
	}
	return nil
}

func weighedRegistry() (func(int) http.RoundTripper, func(), error) {
	tr, err := berth.New(berth.Config{Proxy: berth.NoProxy})
	if err != nil {
		return nil, nil, err
	}
	cfg := clients.Config{Clients: map[string]clients.Settings{}}
	for i := range factoryMany {
		cfg.Clients[fmt.Sprint(i)] = clients.Settings{Timeout: time.Minute, Header: http.Header{"Version": {fmt.Sprint(i)}}}
	}
	reg, err := clients.New(tr, cfg)
	if err != nil {
		tr.Close()
		return nil, nil, err
	}
	return func(i int) http.RoundTripper { return roundTripFunc(reg.MustClient(fmt.Sprint(i)).Do) },
		func() { reg.Close(); tr.Close() }, nil
}

// connectionWeight returns the heap that one connection to the server takes, on both sides,
// of which the client's is a socket alone.
func connectionWeight(ctx context.Context, srv *server) (float64, error) {
	before := heapInUse()
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	buf := make([]byte, len(answer))
	for range factoryMany {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", srv.addr.String())
		if err != nil {
			return 0, err
		}
		held = append(held, c)
		if _, err := io.WriteString(c, question); err != nil {
			return 0, err
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			return 0, err
		}
	}
	return max(heapInUse()-before, 0) / factoryMany, nil
}

// heapInUse returns what is on the heap, in bytes, when what can be freed was.
func heapInUse() float64 {
	runtime.GC()
	runtime.GC() // what the first had finalizers for
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
