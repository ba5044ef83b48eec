package clients_test

import (
	"net/http"
	"testing"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/clients"
	"github.com/berth-go/berth/resilience"
)

// stub is a protocol of the transport that answers at once: what is left is the way there.
func stub(t testing.TB) *berth.Transport {
	t.Helper()
	tr := &berth.Transport{}
	resp := &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody}
	tr.RegisterProtocol("stub", trip(func(req *http.Request) (*http.Response, error) {
		own := *resp
		own.Request = req
		return &own, nil
	}))
	t.Cleanup(func() { tr.Close() })
	return tr
}

// BenchmarkClientDo compares a request through an empty pipeline, the client looked up by
// its name each time, with one of an http.Client over the transport itself.
func BenchmarkClientDo(b *testing.B) {
	tr := stub(b)
	cfg := clients.Config{Clients: map[string]clients.Settings{"empty": {}, "standard": {Resilience: &resilience.Config{Preset: "standard"}}}}
	for i := range 998 {
		cfg.Clients[string(rune('a'+i%26))+string(rune('a'+i/26))] = clients.Settings{}
	}
	reg, err := clients.New(tr, cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer reg.Close()
	bare := &http.Client{Transport: tr}
	for _, of := range []struct {
		name string
		get  func() *http.Client
	}{
		{"transport", func() *http.Client { return bare }},
		{"empty", func() *http.Client { return reg.MustClient("empty") }},
		{"standard", func() *http.Client { return reg.MustClient("standard") }},
	} {
		b.Run("client="+of.name, func(b *testing.B) {
			req, err := http.NewRequest("GET", "stub://server/path", nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				resp, err := of.get().Do(req)
				if err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
			}
		})
	}
}

// An empty pipeline allocates nothing of its own.
func TestEmptyPipelineAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	tr := stub(t)
	reg, err := clients.New(tr, clients.Config{Clients: map[string]clients.Settings{"empty": {}}})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	req, err := http.NewRequest("GET", "stub://server/path", nil)
	if err != nil {
		t.Fatal(err)
	}
	count := func(get func() *http.Client) float64 {
		return testing.AllocsPerRun(200, func() {
			resp, err := get().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		})
	}
	bare := &http.Client{Transport: tr}
	if a, b := count(func() *http.Client { return bare }), count(func() *http.Client { return reg.MustClient("empty") }); b > a {
		t.Errorf("%v allocations, %v over the bare transport", b, a)
	}
}
