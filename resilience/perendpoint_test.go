package resilience

import (
	"fmt"
	"net/url"
	"sync"
	"testing"
)

func TestAnEndpointIsOneHoweverItIsWritten(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{"http://a/x", "http://a"},
		{"http://A:80/y", "http://a"},
		{"http://a:/", "http://a"},
		{"HTTPS://A.Test:443", "https://a.test"},
		{"https://a:80", "https://a:80"},
		{"http://a:443", "http://a:443"},
		{"http://a:8080", "http://a:8080"},
		{"http://[2001:DB8::80]/", "http://[2001:db8::80]"},
		{"http://[2001:db8::1]:80/", "http://[2001:db8::1]"},
		{"http://user:secret@a/?q=1", "http://a"},
	} {
		u, err := url.Parse(c.raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := canonical(u).String(); got != c.want {
			t.Errorf("%s is %s, want %s", c.raw, got, c.want)
		}
	}
}

func numbered(n int) endpointKey { return endpointKey{"http", fmt.Sprintf("h%d.test", n)} }

func TestPerEndpointForgetsWhatWasUsedLongestAgo(t *testing.T) {
	p := newPerEndpoint(func(k endpointKey) *string { s := k.String(); return &s }, nil)
	const extra = 300
	first := map[int]*string{}
	for i := range maxEndpoints {
		first[i] = p.of(numbered(i))
		if *first[i] != numbered(i).String() {
			t.Fatalf("endpoint %d has what was made for %s", i, *first[i])
		}
	}
	for i := range maxEndpoints { // the even ones are used again
		if i%2 == 0 && p.of(numbered(i)) != first[i] {
			t.Fatalf("endpoint %d was forgotten before the table was full", i)
		}
	}
	for i := range extra {
		p.of(numbered(maxEndpoints + i))
	}
	n := 0
	for i := range p.shards {
		if m := p.shards[i].Load(); m != nil {
			n += len(*m)
		}
	}
	if n != p.n || n > maxEndpoints || n < maxEndpoints-maxEndpoints/16 {
		t.Errorf("the table has %d entries and counts %d, want at most %d and few less", n, p.n, maxEndpoints)
	}
	forgotten := 0
	for i := 1; i < maxEndpoints; i += 2 {
		m := p.shard(numbered(i)).Load()
		if (*m)[numbered(i)] == nil {
			forgotten++
		}
	}
	if want := maxEndpoints + extra - n; forgotten != want {
		t.Errorf("%d of those unused were forgotten, want all %d", forgotten, want)
	}
	for i := 0; i < maxEndpoints; i += 2 {
		if p.of(numbered(i)) != first[i] {
			t.Fatalf("endpoint %d was forgotten, though used again", i)
		}
	}
}

func TestPerEndpointKeepsWhatIsBusy(t *testing.T) {
	p := newPerEndpoint(func(endpointKey) *bool { return new(bool) }, func(b *bool) bool { return *b })
	p.max = 32
	for i := range 8 {
		*p.of(numbered(i)) = true
	}
	for i := range 200 {
		p.of(numbered(100 + i))
	}
	for i := range 8 {
		if !*p.of(numbered(i)) {
			t.Errorf("busy endpoint %d was forgotten", i)
		}
	}
	if p.n > 32 {
		t.Errorf("%d entries, want at most 32", p.n)
	}
	for i := range 100 { // nothing can be forgotten but the last
		*p.of(numbered(1000 + i)) = true
	}
	for i := range 100 {
		if !*p.of(numbered(1000 + i)) {
			t.Errorf("busy endpoint %d was forgotten", 1000+i)
		}
	}
}

func TestPerEndpointMakesOneForAll(t *testing.T) {
	p := newPerEndpoint(func(endpointKey) *int { return new(int) }, nil)
	p.max = 1 << 20
	var wg sync.WaitGroup
	got := make([][]*int, 8)
	for g := range got {
		wg.Go(func() {
			for i := range 500 {
				got[g] = append(got[g], p.of(numbered(i)))
			}
		})
	}
	wg.Wait()
	for g := range got {
		for i := range got[g] {
			if got[g][i] != got[0][i] {
				t.Fatalf("goroutines have different values for endpoint %d", i)
			}
		}
	}
}

func TestPerEndpointHitAllocatesNothing(t *testing.T) {
	p := newPerEndpoint(func(endpointKey) *int { return new(int) }, nil)
	u, _ := url.Parse("https://api.example.com:443/path")
	if n := testing.AllocsPerRun(100, func() { p.of(canonical(u)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPerEndpoint(b *testing.B) {
	p := newPerEndpoint(func(endpointKey) *int { return new(int) }, nil)
	for i := range 100 {
		p.of(numbered(i))
	}
	u, _ := url.Parse("https://api.example.com:443/path")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p.of(canonical(u))
		}
	})
}
