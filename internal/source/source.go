// Package source reads the report that a running program serves by berth's
// Transport.Handler: from where, within which bounds, and what of an error may be shown.
// The doctor and berth top read programs by it.
package source

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	answerTime  = 3 * time.Second // for connecting, answering and the whole body
	answerBytes = 16 << 20        // of an answer: thousands of connections with their stacks

	// Schema is the version of the report that is understood.
	Schema = 1
)

// Source is where one program is read. It is safe for concurrent use.
type Source struct {
	url       string // to get
	name      string
	transport *http.Transport
	client    *http.Client
}

// Parse reads http://host:port/path, https, or unix:/path of a socket. The error shows
// neither credentials nor a query.
func Parse(from string) (*Source, error) {
	if path, ok := strings.CutPrefix(from, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		if path == "" {
			return nil, errors.New("unix: without a path")
		}
		return newSource("http://localhost/", path, "unix:"+path), nil
	}
	u, err := url.Parse(from)
	if err != nil {
		// The error of url.Parse repeats the text, which may have a password in it.
		return nil, errors.New("is no URL; give http://host:port/path or unix:/path")
	}
	shown := *u
	shown.User, shown.RawQuery, shown.Fragment, shown.ForceQuery = nil, "", "", false
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is neither http://host:port/path nor unix:/path", shown.String())
	}
	return newSource(from, "", shown.String()), nil
}

// newSource asks no proxy and follows no redirect.
func newSource(url, socket, name string) *Source {
	tr := &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10}
	if socket != "" {
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}
	}
	return &Source{url: url, name: name, transport: tr, client: &http.Client{Transport: tr,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// Name is the source without credentials and query.
func (s *Source) Name() string { return s.name }

// KeepAlive has one connection serve all reads, for a source that is read again and again.
// It must precede the first Read.
func (s *Source) KeepAlive() { s.transport.DisableKeepAlives = false }

// Close gives up the connection that KeepAlive keeps.
func (s *Source) Close() { s.transport.CloseIdleConnections() }

// Read gets one report and decodes it into v. It takes 3 s at most. Errors are *Error.
func (s *Source) Read(ctx context.Context, v any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return &Error{Kind: Unreachable, err: errors.New("no such URL")}
	}
	req.Header.Set("Accept", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return plain(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return &Error{Kind: Status, err: fmt.Errorf("answered with status %d", resp.StatusCode)}
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, answerBytes+1))
	if err != nil {
		return plain(err)
	}
	if len(b) > answerBytes {
		return &Error{Kind: NoReport, err: fmt.Errorf("answer is longer than %d MiB", answerBytes>>20)}
	}
	return decode(b, v)
}

func decode(b []byte, v any) error {
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("<")) {
		return &Error{Kind: NoReport, err: errors.New("answer is HTML, not the JSON of Transport.Handler")}
	}
	var version struct {
		Schema int `json:"schema"`
	}
	err := json.Unmarshal(b, &version)
	if err == nil && version.Schema == Schema {
		err = json.Unmarshal(b, v)
	}
	switch {
	case err != nil:
		return &Error{Kind: NoReport, err: fmt.Errorf("answer is not the JSON of Transport.Handler: %w", err)}
	case version.Schema == 0:
		return &Error{Kind: NoReport, err: fmt.Errorf("answer has schema 0; this berth knows %d", Schema)}
	case version.Schema != Schema:
		return &Error{Kind: OtherSchema, err: fmt.Errorf("answer has schema %d; this berth knows %d", version.Schema, Schema)}
	}
	return nil
}

// plain takes the URL out of an error: it may have credentials in it.
func plain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &Error{Kind: Slow, err: fmt.Errorf("no whole answer within %v", answerTime)}
	}
	return &Error{Kind: Unreachable, err: err}
}
