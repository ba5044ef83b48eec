package proxyenv_test

import (
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth/proxyenv"
)

func ask(t *testing.T, f func(url string) string, url, want string) {
	t.Helper()
	if got := f(url); got != want {
		t.Errorf("%s: proxy %q, want %q", url, got, want)
	}
}

func asker(t *testing.T, interval time.Duration) func(url string) string {
	proxy := proxyenv.Proxy(interval)
	return func(url string) string {
		req, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		u, err := proxy(req)
		if err != nil {
			return err.Error()
		}
		if u == nil {
			return ""
		}
		return u.String()
	}
}

func clear(t *testing.T) {
	for _, v := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "REQUEST_METHOD"} {
		t.Setenv(v, "")
	}
}

func TestVariables(t *testing.T) {
	clear(t)
	f := asker(t, -1)
	ask(t, f, "http://a.test", "")
	t.Setenv("HTTP_PROXY", "http://one.test:3128")
	t.Setenv("HTTPS_PROXY", "two.test:3128")
	t.Setenv("NO_PROXY", "direct.test,.sub.test,10.0.0.0/8")
	ask(t, f, "http://a.test", "http://one.test:3128")
	ask(t, f, "https://a.test", "http://two.test:3128")
	for _, direct := range []string{"http://direct.test", "https://x.sub.test", "http://10.1.2.3", "http://localhost", "http://127.0.0.1:8080"} {
		ask(t, f, direct, "")
	}
	t.Setenv("http_proxy", "socks5://three.test")
	ask(t, f, "http://a.test", "socks5://three.test")
	t.Setenv("NO_PROXY", "*")
	ask(t, f, "http://a.test", "")
}

// The environment is read again after the interval, not before.
func TestReadAgain(t *testing.T) {
	clear(t)
	synctest.Test(t, func(t *testing.T) {
		for interval, every := range map[time.Duration]time.Duration{0: proxyenv.DefaultInterval, time.Minute: time.Minute} {
			f := asker(t, interval)
			t.Setenv("HTTP_PROXY", "http://one.test")
			ask(t, f, "http://a.test", "http://one.test")
			t.Setenv("HTTP_PROXY", "http://two.test")
			time.Sleep(every - time.Nanosecond)
			ask(t, f, "http://a.test", "http://one.test")
			time.Sleep(time.Nanosecond)
			ask(t, f, "http://a.test", "http://two.test")
			ask(t, f, "http://b.test", "http://two.test")
		}
	})
}

func TestConcurrentUse(t *testing.T) {
	clear(t)
	t.Setenv("HTTP_PROXY", "http://one.test")
	f := asker(t, -1)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				ask(t, f, "http://a.test", "http://one.test")
			}
		})
	}
	wg.Wait()
}
