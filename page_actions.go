package berth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// action is the body of a POST to "actions".
type action struct {
	Action   string `json:"action"`              // "close_idle", "reconnect", "drain", "pause", "resume", "limit"
	Endpoint string `json:"endpoint"`            // its id
	MaxConns *int   `json:"max_conns,omitempty"` // of "limit": as in Policy; 0 takes back what was set
}

// actionResult is the answer.
type actionResult struct {
	Done  bool   `json:"done"`            // false: begun, and goes on
	Error string `json:"error,omitempty"` // nothing was done
}

const (
	maxActionBytes = 4 << 10

	// How long an answer waits for what was begun: for the last old connection of drain, for
	// the last request of pause.
	drainWait = 10 * time.Second
	pauseWait = time.Second
)

// serveAction carries one action out, for who may have it.
func (p *page) serveAction(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		answer(w, http.StatusMethodNotAllowed, "actions are posted")
		return
	}
	if status, reason := p.refuses(r); status != 0 {
		if status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer realm="berth"`)
		}
		answer(w, status, reason)
		return
	}
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(kind), "application/json") {
		answer(w, http.StatusUnsupportedMediaType, "the action is no application/json")
		return
	}
	var a action
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxActionBytes))
	d.DisallowUnknownFields()
	if err := d.Decode(&a); err != nil {
		answer(w, http.StatusBadRequest, "the action is not understood: "+err.Error())
		return
	}
	ep := p.t.endpoints.byID(a.Endpoint)
	if ep == nil {
		answer(w, http.StatusNotFound, "no such endpoint now")
		return
	}
	// The answer may be later than the server's WriteTimeout lets it; where that cannot be
	// changed, the action is carried out all the same.
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(drainWait + streamStall))
	done, err := a.run(r.Context(), &Endpoint{t: p.t, key: ep.key})
	p.t.audit(r, &a, ep.name, done, err)
	switch {
	case errors.As(err, new(*ClosedError)):
		answer(w, http.StatusConflict, err.Error())
	case err != nil:
		answer(w, http.StatusBadRequest, err.Error())
	default:
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(actionResult{Done: done})
	}
}

func answer(w http.ResponseWriter, status int, reason string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(actionResult{Error: "berth: " + reason})
}

// run carries the action out. done is false when it was begun and goes on. An error means
// that nothing was done.
func (a *action) run(ctx context.Context, e *Endpoint) (done bool, err error) {
	within := func(d time.Duration, f func(context.Context) error) (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		if err := f(ctx); err != nil && ctx.Err() == nil {
			return false, err
		}
		return ctx.Err() == nil, nil
	}
	if a.MaxConns != nil && a.Action != "limit" {
		return false, errors.New("berth: only a limit has max_conns")
	}
	switch a.Action {
	case "close_idle":
		e.CloseIdle()
	case "reconnect":
		e.Reconnect()
	case "drain":
		return within(drainWait, e.Drain)
	case "pause":
		return within(pauseWait, e.Pause)
	case "resume":
		e.Resume()
	case "limit":
		if a.MaxConns == nil {
			return false, errors.New("berth: the limit has no max_conns")
		}
		n := *a.MaxConns
		return true, e.changePolicy(func(own *Policy) { own.MaxConns = n })
	default:
		return false, fmt.Errorf("berth: no action %q; known are close_idle, reconnect, drain, pause, resume, limit", a.Action)
	}
	return true, nil
}

// audit has the log know who did what.
func (t *Transport) audit(r *http.Request, a *action, endpoint string, done bool, err error) {
	log := t.edition.Load().config.Logger
	if log == nil {
		return
	}
	args := []any{"action", a.Action, "endpoint", endpoint, "from", r.RemoteAddr, "done", done}
	if a.MaxConns != nil {
		args = append(args, "max_conns", *a.MaxConns)
	}
	level := slog.LevelInfo
	if err != nil {
		level, args = slog.LevelWarn, append(args, "error", err)
	}
	log.Log(context.WithoutCancel(r.Context()), level, "berth: an endpoint was steered by hand", args...)
}

// refuses says why a request may have no action; 0 when it may.
func (p *page) refuses(r *http.Request) (status int, reason string) {
	var origins http.CrossOriginProtection
	here := local(r)
	switch {
	case !p.cfg.Actions:
		return http.StatusForbidden, "actions are off; HandlerConfig.Actions switches them on"
	case origins.Check(r) != nil:
		return http.StatusForbidden, "the request comes from a page of another origin"
	case here && !p.knows(r):
		return http.StatusForbidden, "the Host of the request is neither localhost, nor an address, nor one of HandlerConfig.Hosts"
	case !here && p.cfg.Token == "":
		return http.StatusForbidden, "actions from elsewhere than this host need a token, and HandlerConfig.Token is not set"
	case p.cfg.Token != "" && !p.authorized(r):
		return http.StatusUnauthorized, "the action needs the token (Authorization: Bearer)"
	}
	return 0, ""
}

// authorized says that the request has the token. How long it takes says nothing of how
// much of it is right.
func (p *page) authorized(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got, want := sha256.Sum256([]byte(strings.TrimSpace(token))), sha256.Sum256([]byte(p.cfg.Token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

// local says that the request comes from this host, and was passed on for nobody.
func local(r *http.Request) bool {
	for _, name := range [...]string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if len(r.Header[name]) > 0 {
			return false
		}
	}
	if bySocket(r) {
		return true
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && from.Addr().Unmap().IsLoopback()
}

// bySocket says that the request came over a unix socket, which no browser reaches.
func bySocket(r *http.Request) bool {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && at.Network() == "unix"
}

// knows says that a browser cannot have been led here by another host's name.
func (p *page) knows(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(r.Host, "["), "]")
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || bySocket(r) ||
		slices.ContainsFunc(p.cfg.Hosts, func(h string) bool { return strings.EqualFold(h, host) })
}
