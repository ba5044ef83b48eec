package berth_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/memnet"
)

// Every reason for which a request gets no connection has a word of its own, and an advice
// that fits.
func TestReasonsOfStarvation(t *testing.T) {
	hang := func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
	refuse := func(context.Context, string) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	lacks := func(errno syscall.Errno) func(context.Context, string) error {
		return func(context.Context, string) error {
			return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errno)}
		}
	}
	type dial = func(context.Context, string) error
	for _, tc := range []struct {
		want   berth.Reason
		policy berth.Policy
		max    int  // Config.MaxConns
		first  dial // what dials do before the first lease, nil is nothing
		then   dial // and after it
		before func(r *rig)
		advice string
	}{
		{want: berth.ReasonEndpoint, policy: berth.Policy{MaxConns: 1, LeakAfter: -1}, before: func(r *rig) { r.hold("/") }, advice: "raise MaxConns to 2"},
		{want: berth.ReasonTransport, max: 1, policy: berth.Policy{LeakAfter: -1}, before: func(r *rig) { r.hold("/") }, advice: "raise that limit"},
		{want: berth.ReasonHost, policy: berth.Policy{MaxConnsPerHost: 1, LeakAfter: -1}, advice: "raise that limit", before: func(r *rig) {
			resp, err := r.tr.Group("other").RoundTrip(r.request(r.Context(), "GET", "/", nil))
			if err != nil {
				r.Fatal(err)
			}
			r.held = append(r.held, resp)
		}},
		{want: berth.ReasonDials, policy: berth.Policy{MaxDials: 1}, first: hang, advice: "MaxDials", before: func(r *rig) {
			go r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
			time.Sleep(time.Millisecond)
		}},
		{want: berth.ReasonDialing, first: hang, advice: "check its address"},
		{want: berth.ReasonPaused, advice: "Resume", before: func(r *rig) { mustEndpoint(r.T, r.tr, rigURL).Pause(r.Context()) }},
		{want: berth.ReasonBackoff, then: refuse, advice: "does not accept connections", before: func(r *rig) { r.hold("/") }},
		{want: berth.ReasonPorts, then: lacks(syscall.EADDRNOTAVAIL), advice: "LocalAddrs", before: func(r *rig) { r.hold("/") }},
		{want: berth.ReasonDescriptors, then: lacks(syscall.EMFILE), advice: "ulimit", before: func(r *rig) { r.hold("/") }},
		{want: berth.ReasonMemory, then: lacks(syscall.ENOBUFS), advice: "tcp_mem", before: func(r *rig) { r.hold("/") }},
	} {
		t.Run(string(tc.want), func(t *testing.T) {
			tc.policy.AcquireTimeout = 300 * time.Millisecond
			bubbleOn(t, berth.Config{Policy: tc.policy, MaxConns: tc.max}, &memnet.Network{}, halfAnswer, func(r *rig) {
				dials := 0
				r.net.OnDial = func(ctx context.Context, addr string) error {
					if dials++; dials == 1 && tc.first == nil {
						return nil
					}
					switch {
					case tc.first != nil:
						return tc.first(ctx, addr)
					case tc.then != nil:
						return tc.then(ctx, addr)
					}
					return nil
				}
				if tc.before != nil {
					tc.before(r)
				}
				_, err := fetch(r.tr, rigURL)
				for i := 0; i < 20 && errors.As(err, new(*berth.DialError)); i++ { // until the pause between two dials is longer than the wait
					_, err = fetch(r.tr, rigURL)
				}
				e, is := errors.AsType[*berth.AcquireTimeoutError](err)
				if !is || e.Reason != tc.want || !strings.Contains(e.Advice(), tc.advice) {
					r.Errorf("%v (%T)\n%+v", err, err, e)
				}
			})
		})
	}
}
