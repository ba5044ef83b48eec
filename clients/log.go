package clients

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berth-go/berth/resilience"
)

// Log writes a record for each request when its response head is there, or it has failed:
// at level Info, or Warn for an error. At level Debug there is another when it begins, and
// both have the header fields, every value redacted that ShowHeaders does not name. No
// record has a query, a user, or a body.
//
// It belongs in two places, as in .NET: around the whole pipeline, where a request is one
// record however often it is tried, and next to the transport (Wire), where each attempt is
// one. Settings.Log does both.
type Log struct {
	Logger      *slog.Logger // where to; it must be set
	Client      string       // the client's name; "" for none
	Wire        bool         // it stands next to the transport
	ShowHeaders []string     // whose values are not redacted
}

// Handler returns the function that wraps a RoundTripper.
func (l Log) Handler() Handler {
	show := map[string]bool{}
	for _, name := range l.ShowHeaders {
		show[http.CanonicalHeaderKey(name)] = true
	}
	place := "pipeline"
	if l.Wire {
		place = "wire"
	}
	return func(next http.RoundTripper) http.RoundTripper {
		return &logger{forward{next}, l, place, show}
	}
}

type logger struct {
	forward
	Log
	place string
	show  map[string]bool
}

func (l *logger) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if req.URL == nil || !l.Logger.Enabled(ctx, slog.LevelWarn) {
		return l.next.RoundTrip(req)
	}
	debug := l.Logger.Enabled(ctx, slog.LevelDebug)
	if debug {
		l.Logger.LogAttrs(ctx, slog.LevelDebug, "http request begins", append(l.attrs(req), l.headers("request.header", req.Header))...)
	}
	start := time.Now()
	resp, err := l.next.RoundTrip(req)
	level := slog.LevelInfo
	if err != nil {
		level = slog.LevelWarn
	}
	if !l.Logger.Enabled(ctx, level) {
		return resp, err
	}
	attrs := append(l.attrs(req), slog.Duration("duration", time.Since(start)))
	if err == nil {
		attrs = append(attrs, slog.Int("status", resp.StatusCode))
		if debug {
			attrs = append(attrs, l.headers("response.header", resp.Header))
		}
	}
	if kind := ErrorType(resp, err); kind != "" {
		attrs = append(attrs, slog.String("error.type", kind))
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
		if c, ok := errors.AsType[interface {
			error
			Code() string
		}](err); ok {
			attrs = append(attrs, slog.String("code", c.Code()))
		}
	}
	l.Logger.LogAttrs(ctx, level, "http request ended", attrs...)
	return resp, err
}

// attrs is what both records have.
func (l *logger) attrs(req *http.Request) []slog.Attr {
	list := make([]slog.Attr, 0, 12)
	if l.Client != "" {
		list = append(list, slog.String("client", l.Client))
	}
	method := req.Method
	if method == "" {
		method = http.MethodGet
	}
	list = append(list, slog.String("place", l.place), slog.String("method", method),
		slog.String("url", req.URL.Scheme+"://"+req.URL.Host+req.URL.EscapedPath()))
	if n := resilience.AttemptOf(req.Context()); l.Wire {
		list = append(list, slog.Int("attempt", n))
	}
	return list
}

// redacted stands for a value.
const redacted = "*"

func (l *logger) headers(key string, h http.Header) slog.Attr {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	list := make([]any, 0, len(h))
	for _, name := range names {
		text := redacted
		if l.show[http.CanonicalHeaderKey(name)] {
			text = strings.Join(h[name], ", ")
		}
		list = append(list, slog.String(name, text))
	}
	return slog.Group(key, list...)
}

// ErrorType returns what OpenTelemetry's semantic conventions call error.type: the status
// code of a response of 400 and more, "canceled" or "timeout" for what a context has ended,
// or the type of the first error in the chain that is of this module or of the network; ""
// when all went well. It has few values, whatever servers send.
func ErrorType(resp *http.Response, err error) string {
	switch {
	case err == nil && (resp == nil || resp.StatusCode < 400):
		return ""
	case err == nil:
		return strconv.Itoa(resp.StatusCode)
	}
	if c, ok := errors.AsType[interface {
		error
		Code() string
	}](err); ok {
		return typeName(c)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return typeName(err)
}

func typeName(err error) string { return strings.TrimPrefix(fmt.Sprintf("%T", err), "*") }
