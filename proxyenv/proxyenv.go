// Package proxyenv finds the proxy for a request in the environment, and notices when
// that changes while the program runs. [net/http.ProxyFromEnvironment], which a
// Transport without Config.Proxy asks, reads the environment once.
//
// It stands outside the core because it builds golang.org/x/net/http/httpproxy,
// where net/http itself has the rules from: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, the
// lower-case names first, and no proxy for localhost.
package proxyenv

import (
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// DefaultInterval is how old what was read may be.
const DefaultInterval = 10 * time.Second

// Proxy returns a function for berth's Config.Proxy that reads the environment again
// when what it knows is older than interval: 0 is DefaultInterval, negative reads it
// for every request. The function is safe for concurrent use, does not block and
// starts no goroutine. Connections through a proxy that is no longer named serve no
// further request and close when they have been idle for long enough.
func Proxy(interval time.Duration) func(*http.Request) (*url.URL, error) {
	if interval == 0 {
		interval = DefaultInterval
	}
	var known atomic.Pointer[reading]
	return func(req *http.Request) (*url.URL, error) {
		r := known.Load()
		if r == nil || time.Since(r.at) >= interval {
			r = read(r)
			known.Store(r)
		}
		return r.proxy(req.URL)
	}
}

// reading is what the environment said at a moment.
type reading struct {
	at    time.Time
	vars  httpproxy.Config
	proxy func(*url.URL) (*url.URL, error)
}

// read reads the environment. What old says about the same variables is kept: NO_PROXY
// can be long.
func read(old *reading) *reading {
	r := &reading{at: time.Now(), vars: *httpproxy.FromEnvironment()}
	if old != nil && old.vars == r.vars {
		r.proxy = old.proxy
	} else {
		r.proxy = r.vars.ProxyFunc()
	}
	return r
}
