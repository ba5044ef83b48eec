package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/clients"
	"github.com/berth-go/berth/internal/origin"
	"github.com/berth-go/berth/sockets"
)

// supply is where a program has its clients from.
type supply interface {
	// client returns the one with that number; done is called when it is not used again.
	client(i int) (c *http.Client, done func())
	// reload has requests be of another version. It is for what can be reloaded.
	reload(version string) error
	end()
}

// eachSupply makes a client for each request.
type eachSupply struct {
	fleet  *fleet
	closes bool
	kept   []*http.Transport // what nobody closes, somebody holds
}

func (e *eachSupply) client(int) (*http.Client, func()) {
	t := e.fleet.transport()
	if e.closes {
		return &http.Client{Transport: t}, t.CloseIdleConnections
	}
	e.kept = append(e.kept, t)
	return &http.Client{Transport: t}, nothing
}

func (e *eachSupply) reload(string) error { return nil }

func (e *eachSupply) end() {
	for _, t := range e.kept {
		t.CloseIdleConnections()
	}
}

// oneSupply has one client for all.
type oneSupply struct {
	c     *http.Client
	close func()
}

func (o *oneSupply) client(int) (*http.Client, func()) { return o.c, nothing }
func (o *oneSupply) reload(string) error               { return nil }
func (o *oneSupply) end()                              { o.close() }

// rotatingSupply imitates IHttpClientFactory.
type rotatingSupply struct {
	fleet *fleet
	life  int // requests after which all transports are replaced; 0: at each reload

	// mu guards what follows. Transports are not closed while it is held.
	mu      sync.Mutex
	used    int // clients handed out
	version string
	now     map[int]*rotated
	all     []*rotated
}

// rotated is a transport that is closed when it has been replaced and nobody has it.
type rotated struct {
	*http.Transport
	holders int
	old     bool
}

func (r *rotatingSupply) client(i int) (*http.Client, func()) {
	r.mu.Lock()
	if r.life > 0 && r.used > 1 && (r.used-1)%r.life == 0 { // the first is captured, and sends nothing yet
		defer r.rotate()()
	}
	r.used++
	t := r.now[i]
	if t == nil || t.old {
		t = &rotated{Transport: r.fleet.transport()}
		if r.now == nil {
			r.now = map[int]*rotated{}
		}
		r.now[i] = t
		r.all = append(r.all, t)
	}
	t.holders++
	version := r.version
	r.mu.Unlock()
	rt := roundTripFunc(func(req *http.Request) (*http.Response, error) {
		req = req.Clone(req.Context())
		req.Header.Set("Version", version)
		return t.RoundTrip(req)
	})
	return &http.Client{Transport: rt}, sync.OnceFunc(func() {
		r.mu.Lock()
		t.holders--
		over := t.old && t.holders == 0
		r.mu.Unlock()
		if over {
			t.CloseIdleConnections()
		}
	})
}

// rotate replaces all transports; what it returns closes those that nobody has. r.mu is
// held for it, and not for that.
func (r *rotatingSupply) rotate() (closeOld func()) {
	var over []*rotated
	for _, t := range r.now {
		t.old = true
		if t.holders == 0 {
			over = append(over, t)
		}
	}
	return func() {
		for _, t := range over {
			t.CloseIdleConnections()
		}
	}
}

func (r *rotatingSupply) reload(version string) error {
	r.mu.Lock()
	r.version = version
	closeOld := nothing
	if r.life == 0 {
		closeOld = r.rotate()
	}
	r.mu.Unlock()
	closeOld()
	return nil
}

func (r *rotatingSupply) end() {
	for _, t := range r.all {
		t.CloseIdleConnections()
	}
}

// registrySupply is a registry of named clients over one transport.
type registrySupply struct {
	fleet *fleet
	tr    *berth.Transport
	reg   *clients.Registry
}

func newRegistrySupply(f *fleet) (supply, error) {
	tr, err := f.berth()
	if err != nil {
		return nil, err
	}
	r := &registrySupply{fleet: f, tr: tr}
	if r.reg, err = clients.New(tr, r.config("1")); err != nil {
		tr.Close()
		return nil, err
	}
	return r, nil
}

func (r *registrySupply) config(version string) clients.Config {
	cfg := clients.Config{Defaults: clients.Settings{Header: http.Header{"Version": {version}}}, Clients: map[string]clients.Settings{}}
	for i, n := range factoryNames {
		cfg.Clients[n.name] = clients.Settings{BaseURL: r.fleet.url(i)}
	}
	return cfg
}

func (r *registrySupply) client(i int) (*http.Client, func()) {
	return r.reg.MustClient(factoryNames[i].name), nothing
}

func (r *registrySupply) reload(version string) error {
	_, err := r.reg.Apply(r.config(version))
	return err
}

func (r *registrySupply) end() {
	r.reg.Close()
	r.tr.Close()
}

// fleet is the servers and their names.
type fleet struct {
	servers [factoryServers]*server
	names   *nameServer
	secure  bool
}

// newFleet starts servers on one address, each with a port of its own. They answer with
// the version of the configuration that a request was made by.
func newFleet(variant byte, latency time.Duration, secure bool) (*fleet, error) {
	f := &fleet{secure: secure}
	for i := range f.servers {
		ln, err := listen(51, variant)
		if err != nil {
			f.Close()
			return nil, err
		}
		at := addrOf(ln)
		if secure {
			ln = origin.TLS(ln)
		}
		f.servers[i] = &server{origin.New(ln).Handle(func(c *origin.Conn) {
			for {
				req, err := c.ReadHead()
				if err != nil || latency > 0 && !c.Sleep(latency) {
					return
				}
				v := req.Header.Get("Version")
				if c.Writef("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(v), v) != nil {
					return
				}
			}
		}), at}
	}
	var err error
	if f.names, err = serveNames(factoryTTL, f.servers[0].addr.Addr()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (f *fleet) Close() {
	for _, s := range f.servers {
		if s != nil {
			s.Close()
		}
	}
	if f.names != nil {
		f.names.Close()
	}
}

// url returns where the client with that number sends.
func (f *fleet) url(i int) string {
	scheme := "http"
	if f.secure {
		scheme = "https"
	}
	n := factoryNames[i]
	return fmt.Sprintf("%s://%s:%d/", scheme, n.host, f.servers[n.server].addr.Port())
}

// transport makes one of net/http's, which looks names up as the others do.
func (f *fleet) transport() *http.Transport {
	d := net.Dialer{Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, f.names.where())
	}}}
	t := &http.Transport{DialContext: d.DialContext}
	if f.secure {
		t.TLSClientConfig = clientTLS()
	}
	return t
}

func (f *fleet) berth() (*berth.Transport, error) {
	cfg := berth.Config{Resolve: berth.Nameservers(f.names.where()), Proxy: berth.NoProxy}
	if f.secure {
		cfg.TLS = clientTLS()
	}
	return berth.New(cfg)
}

// accepted counts the connections of all servers.
func (f *fleet) accepted() (n int) {
	for _, s := range f.servers {
		n += s.Stats().Accepted
	}
	return n
}

// sockets returns the client's ends, and how many ports they have: one that is used to two
// servers counts twice.
func (f *fleet) sockets(ctx context.Context) (all []sockets.Socket, ports int, err error) {
	for _, s := range f.servers {
		seen, err := clientSockets(ctx, s.addr)
		if err != nil {
			return nil, 0, err
		}
		all = append(all, seen...)
		ports += countPorts(seen)
	}
	return all, ports, nil
}
