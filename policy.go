package berth

import (
	"fmt"
	"time"

	"github.com/berth-go/berth/internal/h1"
	"github.com/berth-go/berth/internal/h2"
	"github.com/berth-go/berth/internal/pool"
)

// Policy holds the limits, timeouts and habits of an endpoint. Zero means the
// default that the field names; negative means off: no limit, no timeout, never.
// In JSON the names are in snake case and durations are strings like "90s".
type Policy struct {
	// MaxConns limits the endpoint's connections, those being dialled and closed
	// included. Default: none but what the kernel gives. A request beyond it waits.
	MaxConns int `json:"max_conns"`

	// MaxIdle limits the connections kept without a request. Default: no limit,
	// since IdleTimeout trims them; a small number here is what makes a client
	// dial anew for every burst. Negative: none is kept.
	MaxIdle int `json:"max_idle"`

	// MinIdle is how many idle connections are kept ready: they outlive IdleTimeout, and
	// are opened anew when they end. It begins with the first request and ends ten
	// minutes after the last. Default: none.
	MinIdle int `json:"min_idle"`

	// MaxConnsPerHost limits the connections of all groups to the host together, where
	// MaxConns limits those of each. Default: none. A dial beyond it waits, and the
	// connection that is idle for longest in another group is closed for it.
	MaxConnsPerHost int `json:"max_conns_per_host"`

	// Order says which of several free connections a request gets. Default LIFO, which
	// keeps few in use; the others age and are closed.
	Order Order `json:"order"`

	// MaxWaiters bounds the queue. Default 10,000: enough for any burst that can
	// still be served, small enough to fail before memory does. Negative: a
	// request that cannot have a connection or a dial of its own fails at once.
	// A request beyond it fails with *QueueFullError.
	MaxWaiters int `json:"max_waiters"`

	// MaxDials limits the dials in flight. Default 100: a burst does not become a
	// flood of SYNs.
	MaxDials int `json:"max_dials"`

	// MaxRequestsPerConn limits the requests on one connection. Default: none.
	MaxRequestsPerConn int `json:"max_requests_per_conn"`

	// IdleTimeout closes a connection that nobody used for so long, exactly then.
	// Default 60 s: below the idle timeouts of common servers and balancers. A
	// shorter one that the server announces (Keep-Alive: timeout=) is honoured,
	// with a margin of two seconds, at most half of it.
	IdleTimeout time.Duration `json:"idle_timeout"`

	// Lifetime is the age after which a connection takes no new request, so that
	// changes of DNS and of balancers are seen. Default 10 min. Connections opened
	// together retire apart from each other, up to half of it earlier, never later.
	// A request that runs is never cut.
	Lifetime time.Duration `json:"lifetime"`

	// AcquireTimeout bounds the wait for a connection: queue, dial and TLS
	// together. Default: none when the request's context has a deadline, else
	// 2 min, so that nobody waits for ever without being told for what. When it
	// ends, the error is *AcquireTimeoutError.
	AcquireTimeout time.Duration `json:"acquire_timeout"`

	// DialTimeout bounds resolving and connecting. Default 10 s.
	DialTimeout time.Duration `json:"dial_timeout"`

	// TLSTimeout bounds the TLS handshake. Default 10 s.
	TLSTimeout time.Duration `json:"tls_timeout"`

	// AbandonedDialTimeout is how long a dial goes on whose request waits for it no
	// more. What it opens serves others. Default 5 s.
	AbandonedDialTimeout time.Duration `json:"abandoned_dial_timeout"`

	// ResponseHeaderTimeout bounds the time from the end of the request to the end
	// of the response head. Default: none, as with net/http: some requests rightly
	// take long. When it ends, the error is *ResponseHeaderTimeoutError.
	ResponseHeaderTimeout time.Duration `json:"response_header_timeout"`

	// ExpectContinueTimeout is how long a body with Expect: 100-continue waits for
	// the server's word. Default 1 s. Negative: it is sent at once.
	ExpectContinueTimeout time.Duration `json:"expect_continue_timeout"`

	// MaxResponseHeaderBytes bounds status line and header fields, those of interim
	// responses included. Default 1 MiB. It cannot be off.
	MaxResponseHeaderBytes int64 `json:"max_response_header_bytes"`

	// DrainBytes is how much of an unread body Close reads away to keep the
	// connection. Default 256 KiB. Negative: nothing.
	DrainBytes int64 `json:"drain_bytes"`

	// DrainTimeout is how long that may take. Default 50 ms.
	DrainTimeout time.Duration `json:"drain_timeout"`

	// LeakAfter is how long a response body may go unread, counted from the caller's last
	// Read, until it is reported as a likely leak: in errors, statistics, Config.Logger and
	// Trace.Leak. The report is taken back when it is read again. Default 1 min. Negative:
	// never, and the collector is not asked to run when requests starve. A body that
	// nothing refers to any more is found, whatever is set here, when it runs by itself.
	LeakAfter time.Duration `json:"leak_after"`

	// DisableKeepAlives uses each connection for one request and says so to the
	// server.
	DisableKeepAlives bool `json:"disable_keep_alives"`

	// MaxStreamsPerConn limits the requests at once on one HTTP/2 connection; more
	// of them open further connections. Default: what the server allows.
	MaxStreamsPerConn int `json:"max_streams_per_conn"`

	// PingInterval is how long an HTTP/2 connection, idle or not, may bring no frame
	// until the server is asked whether it lives (RFC 9113 §6.7). Default 30 s; with
	// the default IdleTimeout an unused connection is asked once. Negative: never.
	PingInterval time.Duration `json:"ping_interval"`

	// PingTimeout is how long it may take to answer; then the connection is lost.
	// Default 15 s. It cannot be off while PingInterval is on.
	PingTimeout time.Duration `json:"ping_timeout"`

	// MaxInflateRatio bounds how much larger than what arrived a response may become
	// that Berth decompresses; it is looked at from 8 MiB on. Default 250: text
	// rarely passes 50, and 1,032 is all that gzip can do. A response beyond it
	// fails with *InflateError.
	MaxInflateRatio int `json:"max_inflate_ratio"`

	// MaxInflatedBytes bounds a decompressed response altogether. Default: none.
	MaxInflatedBytes int64 `json:"max_inflated_bytes"`

	// DNSMinTTL and DNSMaxTTL bound how long the answer for the host's name is believed;
	// in between the record's own TTL decides, or 30 s when it is not known. Defaults 1 s
	// and 5 min. While the endpoint has connections, the name is resolved again when the
	// answer ends: connections to addresses that left it retire, new addresses get their
	// share. Negative DNSMaxTTL: the name is resolved for each dial, and never otherwise.
	DNSMinTTL time.Duration `json:"dns_min_ttl"`
	DNSMaxTTL time.Duration `json:"dns_max_ttl"`

	// Close says how connections that nobody needs any more are closed. Default
	// CloseGraceful.
	Close ClosePolicy `json:"close"`

	// PortBudget is what lies beyond this host for each destination, such as a gateway's
	// ports. Default: none.
	PortBudget PortBudget `json:"port_budget"`

	// Strict rejects responses that RFC 9112 merely lets a recipient tolerate, such
	// as a bare LF as a line end. By default they are accepted and their
	// connection is not used again.
	Strict bool `json:"strict"`
}

// Order is an order of connections.
type Order string

const (
	LIFO   Order = "lifo"   // the one used last
	FIFO   Order = "fifo"   // the one unused for longest: all stay in use
	Spread Order = "spread" // the less loaded of two addresses drawn at random; there, all in turn
)

// ClosePolicy is a way to close connections. Who closes first keeps the port in
// TIME_WAIT, for a minute on Linux.
type ClosePolicy string

const (
	// CloseGraceful closes by FIN: the port stays in TIME_WAIT here.
	CloseGraceful ClosePolicy = "graceful"
	// CloseServerFirst asks for it with the last request of a connection (Connection:
	// close) and waits up to a second for the server to close. Where no last request is
	// foreseen, it is CloseGraceful. HTTP/1.1 only.
	CloseServerFirst ClosePolicy = "server-first"
	// CloseReset closes idle connections by RST: no TIME_WAIT anywhere, and the server
	// sees a reset. Nothing is lost, since all was read and nothing is under way.
	CloseReset ClosePolicy = "reset"
	// CloseAuto is CloseReset while more than half of the ports to the destination are
	// taken, and CloseGraceful otherwise.
	CloseAuto ClosePolicy = "auto"
)

// Defaults; the fields of Policy give the reasons.
const (
	defaultMaxWaiters            = 10_000
	defaultMaxDials              = 100
	defaultIdleTimeout           = 60 * time.Second
	defaultLifetime              = 10 * time.Minute
	defaultAcquireTimeout        = 2 * time.Minute
	defaultDialTimeout           = 10 * time.Second
	defaultTLSTimeout            = 10 * time.Second
	defaultAbandonedDialTimeout  = 5 * time.Second
	defaultExpectContinueTimeout = time.Second
	defaultMaxHeaderBytes        = 1 << 20
	defaultDrainBytes            = 256 << 10
	defaultDrainTimeout          = 50 * time.Millisecond
	defaultLeakAfter             = time.Minute
	defaultPingInterval          = 30 * time.Second
	defaultPingTimeout           = 15 * time.Second
	defaultMaxInflateRatio       = 250
	defaultMaxGroups             = 1000
	defaultDNSMinTTL             = time.Second
	defaultDNSMaxTTL             = 5 * time.Minute
)

// defaultPolicy has the defaults that are not zero, as explanations show them.
func defaultPolicy() Policy {
	return Policy{
		MaxWaiters: defaultMaxWaiters, MaxDials: defaultMaxDials, IdleTimeout: defaultIdleTimeout, Lifetime: defaultLifetime,
		AcquireTimeout: defaultAcquireTimeout, DialTimeout: defaultDialTimeout, TLSTimeout: defaultTLSTimeout,
		AbandonedDialTimeout: defaultAbandonedDialTimeout, ExpectContinueTimeout: defaultExpectContinueTimeout,
		MaxResponseHeaderBytes: defaultMaxHeaderBytes, DrainBytes: defaultDrainBytes, DrainTimeout: defaultDrainTimeout, LeakAfter: defaultLeakAfter,
		PingInterval: defaultPingInterval, PingTimeout: defaultPingTimeout, MaxInflateRatio: defaultMaxInflateRatio,
		DNSMinTTL: defaultDNSMinTTL, DNSMaxTTL: defaultDNSMaxTTL, Order: LIFO, Close: CloseGraceful,
	}
}

// What Policy.MaxResponseHeaderBytes may be.
const (
	minHeaderBytes = 128
	maxHeaderBytes = 1 << 30
)

// What is no policy yet.
const (
	minIdleLifetime = time.Second     // connections that are kept ready live at least so long
	sweepPeriod     = 5 * time.Second // a connection that the peer closed while idle is found after at most twice this
	livenessAfter   = time.Millisecond
	starvedAfter    = time.Second
	forgetAfter     = 2 * time.Minute
)

// validate names the first field that holds what makes no sense.
func (p *Policy) validate(prefix string) error {
	bad := func(field, format string, args ...any) error {
		return &ConfigError{Field: prefix + "." + field, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case p.MaxConns > 0 && p.MaxIdle > p.MaxConns:
		return bad("MaxIdle", "%d is more than MaxConns, which is %d", p.MaxIdle, p.MaxConns)
	case p.MinIdle > 0 && (p.MaxIdle < 0 || p.MaxIdle > 0 && p.MinIdle > p.MaxIdle):
		return bad("MinIdle", "%d is more than MaxIdle, which is %d", p.MinIdle, max(p.MaxIdle, 0))
	case p.MinIdle > 0 && p.MaxConns > 0 && p.MinIdle > p.MaxConns:
		return bad("MinIdle", "%d is more than MaxConns, which is %d", p.MinIdle, p.MaxConns)
	case p.MinIdle > 0 && p.Lifetime > 0 && p.Lifetime < minIdleLifetime:
		return bad("MinIdle", "needs a Lifetime of a second at least, or connections are opened without end")
	case p.Order != "" && p.Order != LIFO && p.Order != FIFO && p.Order != Spread:
		return bad("Order", "%q is none of lifo, fifo, spread", p.Order)
	case p.Close != "" && p.Close != CloseGraceful && p.Close != CloseServerFirst && p.Close != CloseReset && p.Close != CloseAuto:
		return bad("Close", "%q is none of graceful, server-first, reset, auto", p.Close)
	case p.DNSMinTTL > 0 && p.DNSMaxTTL > 0 && p.DNSMinTTL > p.DNSMaxTTL:
		return bad("DNSMinTTL", "%v is more than DNSMaxTTL, which is %v", p.DNSMinTTL, p.DNSMaxTTL)
	case p.PingTimeout < 0 && p.PingInterval >= 0:
		return bad("PingTimeout", "cannot be off while PingInterval is on; 0 is the default of 15s")
	case p.MaxResponseHeaderBytes < 0:
		return bad("MaxResponseHeaderBytes", "cannot be off; 0 is the default of 1 MiB")
	case p.MaxResponseHeaderBytes > 0 && p.MaxResponseHeaderBytes < minHeaderBytes:
		return bad("MaxResponseHeaderBytes", "%d is shorter than any response; at least %d", p.MaxResponseHeaderBytes, minHeaderBytes)
	case p.MaxResponseHeaderBytes > maxHeaderBytes:
		return bad("MaxResponseHeaderBytes", "%d is more than 1 GiB", p.MaxResponseHeaderBytes)
	}
	return p.PortBudget.validate(prefix + ".PortBudget")
}

// or returns v, or def when v is zero, or off when it is negative.
func or[T int | int64 | time.Duration](v, def, off T) T {
	switch {
	case v == 0:
		return def
	case v < 0:
		return off
	}
	return v
}

// pool returns the policy as the pool knows it.
func (p *Policy) pool() pool.Config {
	c := pool.Config{
		MaxConns:    or(p.MaxConns, pool.Unlimited, pool.Unlimited),
		MaxIdle:     or(p.MaxIdle, pool.Unlimited, 0),
		MinIdle:     max(p.MinIdle, 0),
		MarkLast:    p.Close == CloseServerFirst,
		MaxWaiters:  or(p.MaxWaiters, defaultMaxWaiters, 0),
		MaxDials:    or(p.MaxDials, defaultMaxDials, pool.Unlimited),
		MaxRequests: or(p.MaxRequestsPerConn, pool.Unlimited, pool.Unlimited),
		Expect:      1,
		IdleTimeout: or(p.IdleTimeout, defaultIdleTimeout, pool.Never),
		Lifetime:    or(p.Lifetime, defaultLifetime, pool.Never),
		Sweep:       sweepPeriod,
		OrphanGrace: or(p.AbandonedDialTimeout, defaultAbandonedDialTimeout, pool.Never),
		WarnAfter:   starvedAfter,
		Forget:      forgetAfter,
	}
	switch p.Order {
	case FIFO:
		c.Order = pool.FIFO
	case Spread:
		c.Order = pool.Spread
	}
	if p.DisableKeepAlives {
		c.MaxRequests, c.MinIdle = 1, 0
	}
	return c
}

// http2 returns the policy as the HTTP/2 side knows it.
func (p *Policy) http2() h2.Options {
	return h2.Options{
		MaxHeadBytes:    or(p.MaxResponseHeaderBytes, defaultMaxHeaderBytes, defaultMaxHeaderBytes),
		HeaderTimeout:   or(p.ResponseHeaderTimeout, 0, 0),
		ContinueTimeout: or(p.ExpectContinueTimeout, defaultExpectContinueTimeout, 0),
		PingAfter:       or(p.PingInterval, defaultPingInterval, 0),
		PingTimeout:     or(p.PingTimeout, defaultPingTimeout, 0),
		SettingsTimeout: or(p.TLSTimeout, defaultTLSTimeout, 0),
		MaxStreams:      or(p.MaxStreamsPerConn, 0, 0),
	}
}

// engine returns the policy as the HTTP/1.1 engine knows it.
func (p *Policy) engine() *h1.Options {
	return &h1.Options{
		MaxHeadBytes:    or(p.MaxResponseHeaderBytes, defaultMaxHeaderBytes, defaultMaxHeaderBytes),
		Strict:          p.Strict,
		HeaderTimeout:   or(p.ResponseHeaderTimeout, 0, 0),
		ContinueTimeout: or(p.ExpectContinueTimeout, defaultExpectContinueTimeout, 0),
		DrainBytes:      or(p.DrainBytes, defaultDrainBytes, 0),
		DrainTimeout:    or(p.DrainTimeout, defaultDrainTimeout, 0),
	}
}
