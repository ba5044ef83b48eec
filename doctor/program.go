package doctor

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/berth-go/berth/internal/source"
)

// Program is what a program that serves Transport.Handler says of itself. Durations are
// nanoseconds in its JSON. Fields that are not named here are passed over.
type Program struct {
	Source string `json:"-"` // where it was read, without credentials and query
	Err    string `json:"-"` // why it could not be

	Schema    int        `json:"schema"`
	PID       int        `json:"pid"`
	Program   string     `json:"program"`
	Endpoints []endpoint `json:"endpoints"`
	Leaks     []leak     `json:"leaks"`
	Ports     []ports    `json:"ports"`

	again bool // try it again although it failed
}

type endpoint struct {
	Endpoint string `json:"endpoint"`
	Group    string `json:"group"`
	Stats    struct {
		Dialing    int           `json:"dialing"`
		Leased     int           `json:"leased"`
		Idle       int           `json:"idle"`
		Waiting    int           `json:"waiting"`
		OldestWait time.Duration `json:"oldest_wait"`
		Requests   uint64        `json:"requests"`
		Dials      struct {
			OK uint64 `json:"ok"`
		} `json:"dials"`
		Closes map[string]uint64 `json:"closes"`
		Leaks  struct {
			Suspect   int    `json:"suspect"`
			Suspected uint64 `json:"suspected"`
			Reclaimed uint64 `json:"reclaimed"`
		} `json:"leaks"`
	} `json:"stats"`
	Reason  string  `json:"reason"`
	Limit   string  `json:"limit"`
	Verdict string  `json:"verdict"` // "leaked", "too small" or ""
	Leases  []lease `json:"leases"`
}

type lease struct {
	Method  string        `json:"method"`
	Path    string        `json:"path"`
	Phase   string        `json:"phase"`
	Held    time.Duration `json:"held"`
	Unread  time.Duration `json:"unread"`
	Suspect bool          `json:"suspect"`
	Site    string        `json:"site"`
	Local   string        `json:"local"`
	Remote  string        `json:"remote"`
}

type leak struct {
	Site      string `json:"site"`
	Endpoint  string `json:"endpoint"`
	Reclaimed uint64 `json:"reclaimed"`
}

type ports struct {
	Destination string  `json:"destination"`
	Ports       int     `json:"ports"`
	Live        int     `json:"live"`
	Held        int     `json:"held"`
	Budget      bool    `json:"budget"`
	Rate        float64 `json:"rate"`
}

// readPrograms reads all at once. It returns one Program for each, in order.
func readPrograms(ctx context.Context, from []string, broken map[string]string) []Program {
	list := make([]Program, len(from))
	var wg sync.WaitGroup
	for i, f := range from {
		wg.Go(func() {
			s, err := source.Parse(f)
			if err != nil {
				list[i] = Program{Source: "?", Err: err.Error()}
				return
			}
			if why, ok := broken[s.Name()]; ok {
				list[i] = Program{Source: s.Name(), Err: why}
				return
			}
			var p Program
			if err := s.Read(ctx, &p); err != nil {
				p = Program{Err: clean(err.Error())}
			}
			p.clean()
			p.Source = s.Name()
			list[i] = p
		})
	}
	wg.Wait()
	return list
}

// clean makes the texts of a program fit to print.
func (p *Program) clean() {
	p.Program = clean(p.Program)
	for i := range p.Endpoints {
		e := &p.Endpoints[i]
		e.Endpoint, e.Group, e.Reason, e.Limit, e.Verdict = clean(e.Endpoint), clean(e.Group), clean(e.Reason), clean(e.Limit), clean(e.Verdict)
		for j := range e.Leases {
			l := &e.Leases[j]
			l.Path, _, _ = strings.Cut(l.Path, "?")
			l.Method, l.Path, l.Phase, l.Site = clean(l.Method), clean(l.Path), clean(l.Phase), clean(l.Site)
			l.Local, l.Remote = clean(l.Local), clean(l.Remote)
		}
	}
	for i := range p.Leaks {
		p.Leaks[i].Site, p.Leaks[i].Endpoint = clean(p.Leaks[i].Site), clean(p.Leaks[i].Endpoint)
	}
	for i := range p.Ports {
		p.Ports[i].Destination = clean(p.Ports[i].Destination)
	}
}

// addrPort reads an address of a lease, as the kernel's table has it.
func addrPort(s string) netip.AddrPort {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
