package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"
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

const (
	programTime  = 3 * time.Second // for connecting, answering and the whole body
	programBytes = 16 << 20        // of an answer: thousands of connections with their stacks
)

// source is a parsed element of Options.From.
type source struct {
	url    string // to get
	socket string // Unix socket to go by; "" is the address of the URL
	name   string // to show
}

func parseSource(from string) (source, error) {
	if path, ok := strings.CutPrefix(from, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		if path == "" {
			return source{}, errors.New("unix: without a path")
		}
		return source{url: "http://localhost/", socket: path, name: "unix:" + path}, nil
	}
	u, err := url.Parse(from)
	if err != nil {
		// The error of url.Parse repeats the text, which may have a password in it.
		return source{}, errors.New("is no URL; give http://host:port/path or unix:/path")
	}
	shown := *u
	shown.User, shown.RawQuery, shown.Fragment, shown.ForceQuery = nil, "", "", false
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return source{}, fmt.Errorf("%q is neither http://host:port/path nor unix:/path", shown.String())
	}
	return source{url: from, name: shown.String()}, nil
}

// readPrograms reads all at once. It returns one Program for each, in order.
func readPrograms(ctx context.Context, from []string, broken map[string]string) []Program {
	list := make([]Program, len(from))
	var wg sync.WaitGroup
	for i, f := range from {
		wg.Go(func() {
			s, err := parseSource(f)
			if err != nil {
				list[i] = Program{Source: "?", Err: err.Error()}
				return
			}
			if why, ok := broken[s.name]; ok {
				list[i] = Program{Source: s.name, Err: why}
				return
			}
			p, err := readProgram(ctx, s)
			if err != nil {
				p = Program{Err: clean(err.Error())}
			}
			p.Source = s.name
			list[i] = p
		})
	}
	wg.Wait()
	return list
}

// readProgram gets and checks one answer. No proxy is asked and no redirect followed.
func readProgram(ctx context.Context, s source) (p Program, err error) {
	ctx, cancel := context.WithTimeout(ctx, programTime)
	defer cancel()
	tr := &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10}
	if s.socket != "" {
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", s.socket)
		}
	}
	client := &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return p, errors.New("no such URL")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return p, plain(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return p, fmt.Errorf("answered with status %d", resp.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, programBytes+1))
	if err != nil {
		return p, plain(err)
	}
	if len(b) > programBytes {
		return p, fmt.Errorf("answer is longer than %d MiB", programBytes>>20)
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return Program{}, fmt.Errorf("answer is not the JSON of Transport.Handler: %w", err)
	}
	if p.Schema != 1 {
		return Program{}, fmt.Errorf("answer has schema %d; this berth knows 1", p.Schema)
	}
	p.clean()
	return p, nil
}

// plain takes the URL out of an error: it may have credentials in it.
func plain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no whole answer within %v", programTime)
	}
	return err
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
