package berth

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-go/berth/internal/uplot"
)

// HandlerConfig says what a handler of [Transport.HandlerWith] allows besides looking. The
// zero HandlerConfig is [Transport.Handler]'s.
type HandlerConfig struct {
	// Actions lets people steer endpoints from the page: close idle connections, reconnect,
	// drain, pause, resume, and limit connections. Config.Logger hears of each. Default:
	// nothing can be changed.
	Actions bool

	// Token must come with every action (Authorization: Bearer), and the page asks for it.
	// Default: none is needed, and actions are taken from this host alone: over loopback or
	// a unix socket, and from no proxy that says that it is one.
	Token string

	// Hosts are the names, without port, by which browsers of this host may call the handler
	// for actions, besides localhost and addresses: others may be those of a foreign page
	// whose name was made to lead here (DNS rebinding).
	Hosts []string
}

// Handler serves what [Transport.Report] tells: to browsers as a page that follows the
// state, at the path where it is mounted; to GET and HEAD of everybody else, at every path,
// and with the query "json" to browsers too, as JSON. The page is in the program, and asks
// for nothing elsewhere. Both tell hosts, paths without their queries, and places in the
// program: serve them on a loopback address or a unix socket, or behind what guards the
// program's other internals.
//
//	go http.ListenAndServe("127.0.0.1:6061", transport.Handler())
//
// It may be mounted under any prefix, with http.StripPrefix or without. An open page asks
// for an answer that goes on, for as long as it is open or until the transport is closed;
// a handler has at most 16 of them. berth doctor --from http://127.0.0.1:6061 joins the
// JSON to the kernel's sockets.
func (t *Transport) Handler() http.Handler { return t.HandlerWith(HandlerConfig{}) }

// HandlerWith is Handler, with a page by which people may steer endpoints if cfg lets them.
func (t *Transport) HandlerWith(cfg HandlerConfig) http.Handler {
	p := &page{t: t, cfg: cfg}
	p.feed.init(t)
	p.assets = sync.OnceValue(pageAssets)
	return p
}

// page is a handler. Requests are told apart by the last part of their path: what stands
// before it is the prefix.
type page struct {
	t       *Transport
	cfg     HandlerConfig
	assets  func() map[string]*asset
	feed    feed
	streams atomic.Int32
}

// asset is a file that the page needs. It tells nothing of the program.
type asset struct {
	text, kind string
	version    string // of its content
}

var (
	//go:embed page/page.html
	pageHTML string
	//go:embed page/page.css
	pageCSS string
	//go:embed page/text.js
	pageText string
	//go:embed page/page.js
	pageScript string
)

func pageAssets() map[string]*asset {
	const js, css = "text/javascript; charset=utf-8", "text/css; charset=utf-8"
	all := map[string]*asset{
		"page.css":  {text: pageCSS, kind: css},
		"page.js":   {text: pageScript, kind: js},
		"text.js":   {text: pageText, kind: js},
		"uplot.css": {text: uplot.Style, kind: css},
		"uplot.js":  {text: uplot.Script, kind: js},
		"uplot.txt": {text: uplot.License, kind: "text/plain; charset=utf-8"},
	}
	for _, a := range all {
		h := fnv.New64a() // tells versions apart; guards nothing
		h.Write([]byte(a.text))
		a.version = strconv.FormatUint(h.Sum64(), 36)
	}
	return all
}

// pagePolicy lets the page run its own scripts, speak to where it came from, and be framed
// by nobody; no text becomes markup.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"form-action 'none'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.t.init()
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	if name == "actions" {
		p.serveAction(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "berth: only GET and HEAD are served here", http.StatusMethodNotAllowed)
		return
	}
	switch name {
	case "events":
		p.serveEvents(w, r)
		return
	case "endpoint":
		p.serveEndpoint(w, r)
		return
	}
	if a := p.assets()[name]; a != nil {
		a.serve(w, r)
		return
	}
	h.Set("Vary", "Accept, Accept-Language")
	if !wantsHTML(r) {
		p.t.serveReport(w)
		return
	}
	// The page's addresses are relative. Where it is seen from outside, the request line
	// says: http.StripPrefix has changed the URL.
	outside := r.URL.EscapedPath()
	if u, err := url.ParseRequestURI(r.RequestURI); err == nil {
		outside = u.EscapedPath()
	}
	if i := strings.LastIndexByte(outside, '/'); i+1 < len(outside) {
		h.Set("Location", "./"+outside[i+1:]+"/")
		w.WriteHeader(http.StatusTemporaryRedirect)
		return
	}
	p.serveHTML(w, r)
}

// serveHTML writes the page.
func (p *page) serveHTML(w http.ResponseWriter, r *http.Request) {
	actions := "off"
	switch {
	case !p.cfg.Actions, p.cfg.Token == "" && !local(r):
	case p.cfg.Token != "":
		actions = "token"
	default:
		actions = "on"
	}
	fill := []string{"{lang}", language(r.Header.Get("Accept-Language")), "{actions}", actions}
	for name, a := range p.assets() {
		fill = append(fill, "{"+name+"}", name+"?v="+a.version)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	strings.NewReplacer(fill...).WriteString(w, pageHTML)
}

// serve writes a file: for a year where the address has the version, else to be asked for
// again.
func (a *asset) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("ETag", `"`+a.version+`"`)
	h.Set("Cache-Control", "no-cache")
	if r.URL.Query().Get("v") == a.version {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(a.text))
}

// serveEndpoint writes what the page shows of one endpoint that is looked at closely.
func (p *page) serveEndpoint(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	ep := p.t.endpoints.byID(r.URL.Query().Get("id"))
	if ep == nil {
		http.Error(w, "berth: no such endpoint now", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(ep.report(maxShownLeases, maxShownConns)) // who hung up needs no word
}

// What the page shows of one endpoint.
const (
	maxShownLeases = 200
	maxShownConns  = 100
)

// id names an endpoint to the page. It says nothing of the key, in which credentials of a
// proxy are, and is another one in each process.
func (tb *endpointTable) id(k endpointKey) string { return fmt.Sprintf("%016x", tb.hash(k)) }

// byID returns the endpoint with that id, or nil.
func (tb *endpointTable) byID(id string) *endpoint {
	for _, ep := range tb.all() {
		if tb.id(ep.key) == id {
			return ep
		}
	}
	return nil
}

// wantsHTML says that a browser shows the answer to somebody.
func wantsHTML(r *http.Request) bool {
	if r.URL.Query().Has("json") {
		return false
	}
	for kind, q := range weighted(r.Header.Get("Accept")) {
		if kind == "text/html" && q > 0 {
			return true
		}
	}
	return false
}

// language returns the page's language for who asks: "zh" for Chinese, else "en".
func language(accept string) string {
	best, most := "en", 0.0
	for tag, q := range weighted(accept) {
		if base, _, _ := strings.Cut(tag, "-"); (base == "en" || base == "zh") && q > most {
			best, most = base, q
		}
	}
	return best
}

// weighted yields the values of a header field like Accept, in lower case, with their
// weights (RFC 9110 §12.4.2).
func weighted(field string) func(yield func(string, float64) bool) {
	return func(yield func(string, float64) bool) {
		for part := range strings.SplitSeq(field, ",") {
			value, params, _ := strings.Cut(part, ";")
			q := 1.0
			for param := range strings.SplitSeq(params, ";") {
				if v, is := strings.CutPrefix(strings.ToLower(strings.TrimSpace(param)), "q="); is {
					q, _ = strconv.ParseFloat(v, 64) // what is no number weighs nothing
				}
			}
			if !yield(strings.ToLower(strings.TrimSpace(value)), q) {
				return
			}
		}
	}
}
