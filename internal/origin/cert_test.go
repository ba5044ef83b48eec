package origin

import (
	"crypto/x509"
	"testing"
	"testing/synctest"
	"time"
)

func TestCertVerifiesForItsNames(t *testing.T) {
	verify := func(t *testing.T) {
		c, pool := Cert()
		for name, want := range map[string]bool{
			"127.0.0.1":   true,
			"::1":         true,
			"localhost":   true,
			"origin.test": true,
			"a.b.test":    false,
			"example.com": false,
			"192.0.2.1":   false,
		} {
			_, err := c.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name, CurrentTime: time.Now()})
			if (err == nil) != want {
				t.Errorf("%s: %v, want valid %v", name, err, want)
			}
		}
		_, err := c.Leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: time.Now(),
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if err != nil {
			t.Errorf("as a client: %v", err)
		}
	}
	t.Run("now", verify)
	t.Run("in a bubble", func(t *testing.T) { synctest.Test(t, verify) })
}

func TestCertIsMadeOnce(t *testing.T) {
	a, poolA := Cert()
	b, poolB := Cert()
	if a.Leaf != b.Leaf || poolA != poolB {
		t.Error("a second call made another certificate")
	}
}
