package clients_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/clients"
	"github.com/berth-go/berth/resilience"
)

// BenchmarkApply changes every one of a thousand clients that have all there is to have,
// and then none.
func BenchmarkApply(b *testing.B) {
	cfg := func(i int) clients.Config {
		all := map[string]clients.Settings{}
		for n := range 1000 {
			all[fmt.Sprint("client-", n)] = clients.Settings{Timeout: time.Minute + time.Duration(i), Policy: berth.Policy{MaxConns: 5 + i%2},
				Guard: &clients.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}, Resilience: &resilience.Config{Preset: "standard"}}
		}
		return clients.Config{Clients: all}
	}
	for _, of := range []struct {
		name string
		step int
	}{{"all", 1}, {"none", 0}} {
		b.Run("change="+of.name, func(b *testing.B) {
			tr := &berth.Transport{}
			defer tr.Close()
			reg, err := clients.New(tr, cfg(0))
			if err != nil {
				b.Fatal(err)
			}
			defer reg.Close()
			i := 0
			for b.Loop() {
				i += of.step
				if _, err := reg.Apply(cfg(i)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
