package clients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"sync/atomic"

	"golang.org/x/net/publicsuffix"

	"github.com/berth-go/berth"
)

// Client is a named client: an http.Client, and requests relative to its base URL. Its
// http.Client's fields are set once and follow the configuration; they must not be changed.
type Client struct {
	*http.Client
	name string
	jar  *cookiejar.Jar // asked only if the configuration says so
	now  atomic.Pointer[pipeline]
}

func newClient(name string) *Client {
	c := &Client{name: name}
	c.jar, _ = cookiejar.New(&cookiejar.Options{PublicSuffixList: publicsuffix.List}) // never fails
	c.Client = &http.Client{Transport: (*follower)(c), CheckRedirect: c.checkRedirect, Jar: (*followedJar)(c)}
	return c
}

// Name returns the client's name.
func (c *Client) Name() string { return c.name }

// NewRequest is http.NewRequestWithContext for a reference that is resolved against the
// client's base URL, by RFC 3986 §5; an absolute URL stays as it is. The error says what is
// wrong with the reference, without its query.
func (c *Client) NewRequest(ctx context.Context, method, ref string, body io.Reader) (*http.Request, error) {
	base := c.now.Load().base
	u, err := url.Parse(ref)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) {
			err = e.Err // the rest of it has the whole reference
		}
		return nil, &berth.RequestError{Reason: fmt.Sprintf("berth: client %s: reference: %v", c.name, err)}
	}
	switch {
	case u.IsAbs():
	case base == nil:
		return nil, &berth.RequestError{Reason: fmt.Sprintf("berth: client %s has no base URL, which %q is relative to", c.name, u.Path)}
	default:
		u = base.ResolveReference(u)
	}
	return http.NewRequestWithContext(ctx, method, u.String(), body)
}

// checkRedirect is http.Client's.
func (c *Client) checkRedirect(_ *http.Request, via []*http.Request) error {
	n := c.now.Load().settings.MaxRedirects
	switch {
	case n < 0:
		return http.ErrUseLastResponse
	case n == 0:
		n = defaultMaxRedirects
	}
	if len(via) > n {
		return fmt.Errorf("berth: client %s: stopped after %d redirects", c.name, n)
	}
	return nil
}

// followedJar is the jar of a client as long as it is to have one.
type followedJar Client

func (j *followedJar) Cookies(u *url.URL) []*http.Cookie {
	if !j.now.Load().settings.Cookies {
		return nil
	}
	return j.jar.Cookies(u)
}

func (j *followedJar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	if j.now.Load().settings.Cookies {
		j.jar.SetCookies(u, cookies)
	}
}

// follower is the RoundTripper of a client: the pipeline that is in force.
type follower Client

func (f *follower) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil {
		return f.now.Load().transport.RoundTrip(req) // which knows what to say
	}
	if req.URL.Scheme == "" && req.URL.Host == "" {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, &berth.RequestError{Reason: fmt.Sprintf("berth: client %s: %q is relative; make the request with NewRequest of Registry.Named, which knows the base URL", f.name, req.URL.Path)}
	}
	p := f.now.Load()
	if p.closers == nil {
		return p.rt.RoundTrip(req)
	}
	for !p.hold() {
		p = f.now.Load()
	}
	return p.roundTripHeld(req)
}

// CloseIdleConnections closes those of the client's group, or of the whole transport if it
// has none.
func (f *follower) CloseIdleConnections() { closeIdle(f.now.Load().transport) }
