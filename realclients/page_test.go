package realclients

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-go/berth"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

var shots = flag.String("shots", "", "a directory for pictures of the live page")

const hostile = `<img src=x onerror="window.pwned=1">`

// load is a transport at work: one endpoint that is asked for something all the time, one
// whose two connections are held by unread bodies while three requests wait, and a few
// others, in a group whose name is markup.
type load struct {
	tr   *berth.Transport
	busy string // URLs
	full string
	stop func()
}

func newLoad(t *testing.T) *load {
	t.Helper()
	serve := func(h http.HandlerFunc) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	l := &load{}
	l.busy = serve(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") })
	l.full = serve(func(w http.ResponseWriter, r *http.Request) {
		w.Write(make([]byte, 1<<20))
		<-r.Context().Done()
	})
	var err error
	l.tr, err = berth.New(berth.Config{
		Policy: berth.Policy{MaxConns: 20},
		Rules:  []berth.Rule{{Match: strings.TrimPrefix(l.full, "http://"), Policy: berth.Policy{MaxConns: 2, LeakAfter: time.Second}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	get := func(ctx context.Context, rt http.RoundTripper, url string) *http.Response {
		req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
		if err != nil {
			t.Error(err)
			return nil
		}
		resp, err := rt.RoundTrip(req)
		if err != nil {
			if ctx.Err() == nil {
				t.Error(err)
			}
			return nil
		}
		return resp
	}
	for range 4 {
		wg.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				if resp := get(ctx, l.tr, l.busy+"/v1/orders?token=s3cret"); resp != nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	var held []*http.Response
	for range 2 {
		if resp := get(ctx, l.tr, l.full+"/v1/export/"+"%3Cimg%20src=x%20onerror=window.pwned=1%3E?token=s3cret"); resp != nil {
			held = append(held, resp)
		}
	}
	for range 3 {
		wg.Go(func() {
			if resp := get(ctx, l.tr, l.full+"/v1/report"); resp != nil {
				resp.Body.Close()
			}
		})
	}
	for i, group := range []string{hostile, "bravo", "charlie", "delta", "echo", "foxtrot"} {
		for range i + 1 {
			if resp := get(ctx, l.tr.Group(group), l.busy+"/"); resp != nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}
	}
	l.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		for _, resp := range held {
			resp.Body.Close()
		}
		l.tr.Close()
	})
	t.Cleanup(l.stop)
	return l
}

// viewer is a browser with one page, and what it complained about and asked for.
type viewer struct {
	*testing.T
	ctx context.Context

	mu       sync.Mutex
	complain []string
	asked    []string
}

func newViewer(t *testing.T) *viewer {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a browser")
	}
	browser := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			browser = p
			break
		}
	}
	if browser == "" {
		t.Skip("no chromium here")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(browser), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("lang", "en-US"), chromedp.WSURLReadTimeout(time.Minute))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	v := &viewer{T: t}
	err := chromedp.Listen(ctx, func(e any) {
		v.mu.Lock()
		defer v.mu.Unlock()
		switch e := e.(type) {
		case *runtime.EventConsoleAPICalled:
			b, _ := json.Marshal(e.Args)
			v.complain = append(v.complain, "console: "+string(b))
		case *runtime.EventExceptionThrown:
			v.complain = append(v.complain, fmt.Sprintf("exception: %+v", e.ExceptionDetails))
		case *log.EventEntryAdded:
			v.complain = append(v.complain, "log: "+e.Entry.Text)
		case *network.EventRequestWillBeSent:
			v.asked = append(v.asked, e.Request.URL)
		case *network.EventLoadingFailed:
			if !e.Canceled {
				v.complain = append(v.complain, "loading: "+e.ErrorText+" "+string(e.BlockedReason))
			}
		}
	})
	if err == nil {
		err = errors.Join(enable(ctx, network.Enable, network.EnableParams{}), enable(ctx, runtime.Enable, cdp.Empty{}), enable(ctx, log.Enable, cdp.Empty{}))
	}
	if err != nil {
		t.Skipf("the browser does not run here: %v", err)
	}
	v.ctx, cancel = context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(cancel)
	return v
}

func enable[P, R any](ctx context.Context, cmd cdp.Command[P, R], params P) error {
	_, err := chromedp.Call(ctx, cmd, params)
	return err
}

// ground is what the system says that it prefers.
func ground(name string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}})
		return err
	})
}

// key is a key with its text, as people press it: a page may keep the text from being
// typed.
func key(k string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: "keyDown", Key: k, Text: k})
		return err
	})
}

func (v *viewer) run(what string, actions ...chromedp.Action[chromedp.Void]) {
	v.Helper()
	if err := chromedp.Do(v.ctx, actions...); err != nil {
		v.Fatalf("%s: %v", what, err)
	}
}

// until waits until a JavaScript expression is true.
func (v *viewer) until(expr string) {
	v.Helper()
	err := chromedp.Do(v.ctx, chromedp.Poll[chromedp.Void](expr, chromedp.WithPollingTimeout(40*time.Second), chromedp.WithPollingInterval(50*time.Millisecond)))
	if err != nil {
		text, _ := chromedp.Run(v.ctx, chromedp.Evaluate[string](`document.body.innerText`))
		v.Fatalf("%s: %v\n%v\n%s", expr, err, v.complain, text)
	}
}

func (v *viewer) text(expr string) string {
	v.Helper()
	s, err := chromedp.Run(v.ctx, chromedp.Evaluate[string]("String("+expr+")"))
	if err != nil {
		v.Fatalf("%s: %v", expr, err)
	}
	return s
}

// picture is taken where somebody wants to look.
func (v *viewer) picture(name string) {
	v.Helper()
	if *shots == "" {
		return
	}
	b, err := chromedp.Run(v.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(*shots, name+".png"), b, 0o600)
	}
	if err != nil {
		v.Fatal(err)
	}
}

// A browser shows the live page under any prefix: numbers move, charts have points, what
// the server says is text, an action has its effect; nothing is asked of others, and the
// browser has nothing to complain about.
func TestLivePage(t *testing.T) {
	v := newViewer(t)
	l := newLoad(t)
	mux := http.NewServeMux()
	mux.Handle("/token/", l.tr.HandlerWith(berth.HandlerConfig{Actions: true, Token: "right"}))
	mux.Handle("/debug/berth/", http.StripPrefix("/debug/berth", l.tr.HandlerWith(berth.HandlerConfig{Actions: true})))
	debug := httptest.NewServer(mux)
	t.Cleanup(func() {
		debug.CloseClientConnections() // the page's stream, which else goes on
		debug.Close()
	})

	v.run("open", ground("light"),
		chromedp.EmulateViewport(1280, 900), chromedp.Navigate(debug.URL+"/debug/berth/"))
	v.until(`document.querySelectorAll("#rows .row").length === 8`)
	v.until(`Number(document.getElementById("chart-conns").dataset.points) >= 4`)
	v.until(`document.getElementById("tile-waiting").textContent === "3"`)
	so := `Number(document.getElementById("tile-rate-more").textContent.replace(/\D/g, ""))`
	v.until(`(window.first ??= ` + so + `) < ` + so)
	v.until(`parseFloat(document.getElementById("tile-rate").textContent) > 10`)
	drawn := v.text(`(() => { const c = document.querySelector("#chart-conns canvas"), d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
		let n = 0; for (let i = 0; i < d.length; i += 4) if (d[i + 3] && d[i] === 0 && d[i + 1] === 103) n++; return n > 50; })()`)
	if drawn != "true" {
		t.Error("no connection in use is drawn")
	}

	// One endpoint, closely.
	open := `[...document.querySelectorAll("#rows .row")].find((r) => r.querySelector(".hot"))`
	v.run("expand", chromedp.Evaluate[chromedp.Void](open+`.querySelector("button").click()`))
	v.until(`document.querySelectorAll(".leases tbody tr").length === 2`)
	v.until(`document.querySelector(".leases tbody").innerText.includes("page_test.go")`)
	v.until(`document.querySelector(".leases .chip.warn")?.textContent === "likely leak"`)
	v.until(`document.querySelector(".of-policy tbody").textContent.includes("rule 1")`)
	if why := v.text(`document.querySelector(".why").innerText`); !strings.Contains(why, "endpoint max 2") || !strings.Contains(why, "close, the body") {
		t.Errorf("why requests wait: %s", why)
	}
	v.run("follow", chromedp.Evaluate[chromedp.Void](`document.querySelector(".steer button").click()`))
	v.until(`document.querySelector("#charts li:not([hidden]) i.limit")?.parentNode.textContent === "limit 2"`)
	v.until(`!document.getElementById("leaks-section").hidden && document.querySelectorAll("#leaks tr").length === 1`)
	v.until(`document.querySelectorAll("#ports tr").length > 0`)
	v.picture("light-1280")
	v.run("dark", ground("dark"))
	if bg := v.text(`getComputedStyle(document.body).backgroundColor`); bg != "rgb(20, 23, 28)" {
		t.Errorf("the dark ground is %s", bg)
	}
	v.picture("dark-1280")
	v.run("narrow", chromedp.EmulateViewport(420, 900))
	v.until(`document.querySelector("#chart-conns .uplot").clientWidth < 420`)
	if wide := v.text(`document.documentElement.scrollWidth`); wide != "420" {
		t.Errorf("at 420 the page is %s wide", wide)
	}
	v.picture("dark-420")
	v.run("light", ground("light"))
	v.picture("light-420")
	v.run("400", chromedp.EmulateViewport(400, 900))
	if wide := v.text(`document.documentElement.scrollWidth`); wide != "400" {
		t.Errorf("at 400 the page is %s wide", wide)
	}
	v.run("wide", chromedp.EmulateViewport(1280, 900))

	// The other language, and the ground that the reader chooses.
	v.run("chinese", chromedp.Click(chromedp.CSS("#lang")))
	v.until(`document.querySelector("h2").textContent === "最近五分钟" && document.documentElement.lang === "zh"`)
	v.until(`document.querySelector(".why").innerText.includes("已达到端点的连接上限")`)
	v.run("theme", chromedp.Click(chromedp.CSS("#theme")), chromedp.Click(chromedp.CSS("#theme")))
	v.until(`document.documentElement.dataset.theme === "dark" && getComputedStyle(document.body).backgroundColor === "rgb(20, 23, 28)"`)
	v.picture("chinese-dark-1280")
	v.run("reload", chromedp.Reload())
	v.until(`document.documentElement.dataset.theme === "dark" && document.querySelector("h2").textContent === "最近五分钟"`)
	v.run("english", chromedp.Click(chromedp.CSS("#lang")), chromedp.Click(chromedp.CSS("#theme")))
	v.until(`!("theme" in document.documentElement.dataset) && document.querySelectorAll("#rows .row").length === 8`)

	// Keys: the filter, rows, and opening one.
	v.run("filter", key("/"), chromedp.KeyEvent("delta"))
	v.until(`document.querySelectorAll("#rows .row").length === 1 && document.getElementById("count").textContent === "1 of 8"`)
	v.run("escape", chromedp.KeyEvent(kb.Escape))
	v.until(`document.querySelectorAll("#rows .row").length === 8`)
	v.run("arrows", chromedp.Focus(chromedp.CSS("#rows .row:first-child .open-row")), chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.ArrowUp))
	if at := v.text(`[...document.querySelectorAll(".open-row")].indexOf(document.activeElement)`); at != "1" {
		t.Errorf("the keys went to row %s", at)
	}
	v.run("sort", chromedp.Evaluate[chromedp.Void](`document.querySelector('th[data-by="waitingColumn"] button').click()`))
	v.until(`document.querySelector("#rows .row td:nth-child(3)").innerText.startsWith("3")`)

	// An action has its effect on the transport, and is seen.
	v.run("open a group", chromedp.Evaluate[chromedp.Void](`[...document.querySelectorAll("#rows .row")].find((r) => r.innerText.includes("foxtrot")).querySelector("button").click()`))
	idle := func() int {
		for _, ep := range l.tr.Endpoints() {
			if ep.Server().Group == "foxtrot" {
				return ep.Stats().Idle
			}
		}
		return -1
	}
	if n := idle(); n != 1 {
		t.Fatalf("%d connections are idle", n)
	}
	v.run("close idle", chromedp.Click(chromedp.CSS(`.detail [data-action="close_idle"]`), chromedp.NodeVisible), chromedp.WaitVisible(chromedp.CSS("#dialog")))
	if what := v.text(`document.getElementById("dialog-endpoint").textContent`); !strings.Contains(what, "foxtrot") {
		t.Errorf("the dialog asks about %s", what)
	}
	v.picture("dialog")
	v.run("cancel", chromedp.Click(chromedp.CSS("#cancel")))
	if n := idle(); n != 1 {
		t.Errorf("cancelled, and %d connections are idle", n)
	}
	v.run("again", chromedp.Click(chromedp.CSS(`.detail [data-action="close_idle"]`), chromedp.NodeVisible), chromedp.WaitVisible(chromedp.CSS("#dialog")), chromedp.Click(chromedp.CSS("#confirm")))
	v.until(`document.getElementById("toast").textContent === "Close idle: done."`)
	if n := idle(); n != 0 {
		t.Errorf("confirmed, and %d connections are idle", n)
	}
	v.until(`document.querySelector(".row.open .track").getAttribute("aria-label") === "0 in use, 0 idle, 0 opening, 0 closing"`)

	// What the server says is text.
	if bad := v.text(`window.pwned === undefined && document.querySelectorAll("img, script:not([src])").length === 0`); bad != "true" {
		t.Error("a name became markup")
	}
	if !strings.Contains(v.text(`document.body.innerText`), hostile) {
		t.Error("the group is not shown by its name")
	}
	if strings.Contains(v.text(`document.documentElement.outerHTML`), "s3cret") {
		t.Error("the page has a query")
	}

	// Where a token is set, the page asks for it, once it is right no more.
	v.run("open another", chromedp.Navigate(debug.URL+"/token/"))
	v.until(`document.querySelectorAll("#rows .row").length === 8`)
	v.run("expand", chromedp.Evaluate[chromedp.Void](`[...document.querySelectorAll("#rows .row")].find((r) => r.innerText.includes("echo")).querySelector("button").click()`))
	press := func(action, token, answer string) {
		t.Helper()
		v.run(action, chromedp.Click(chromedp.CSS(`.detail [data-action="`+action+`"]`), chromedp.NodeVisible))
		v.until(`document.getElementById("dialog").open && document.getElementById("dialog-token").hidden === ` + fmt.Sprint(token == ""))
		v.run("confirm", chromedp.KeyEvent(token), chromedp.Click(chromedp.CSS("#confirm"))) // the field has the focus
		v.until(`document.getElementById("toast").textContent.startsWith("` + answer + `")`)
	}
	press("pause", "wrong", "Pause: refused. berth: the action needs the token")
	press("pause", "right", "Pause: done.")
	v.until(`!document.querySelector(".row.open .chip.warn").hidden && document.querySelector('[data-action="pause"]').hidden`)
	press("resume", "", "Resume: done.")
	v.until(`document.querySelector(".row.open .chip.warn").hidden`)

	l.stop()
	v.until(`document.getElementById("status").dataset.state === "end"`)
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range v.complain {
		if !strings.Contains(c, "status of 401") {
			t.Error(c)
		}
	}
	for _, u := range v.asked {
		if !strings.HasPrefix(u, debug.URL+"/") && !strings.HasPrefix(u, "data:") {
			t.Errorf("the page asked for %s", u)
		}
	}
	if len(v.asked) < 7 {
		t.Errorf("only %d requests were seen", len(v.asked))
	}
}
