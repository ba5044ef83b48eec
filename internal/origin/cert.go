// TLS for origins: a certificate made at run time, so that no key is kept in the
// repository and none expires. Tests and the lab call it.

package origin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"
)

// Cert returns a self-signed certificate for 127.0.0.1, ::1, localhost and
// *.test (one label), good for a server and for a client, and the pool with which
// it verifies. It is made once in a process; the pool is shared, Clone it before
// adding to it. It is valid from 1990, because a synctest bubble's clock begins
// in 2000. Safe for concurrent use.
//
// It panics if the system cannot make a key.
func Cert() (tls.Certificate, *x509.CertPool) { return cert() }

var cert = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	c, err := makeCert()
	if err != nil {
		panic("origin: " + err.Error())
	}
	pool := x509.NewCertPool()
	pool.AddCert(c.Leaf)
	return c, pool
})

func makeCert() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "berth test origin"},
		NotBefore:             time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		DNSNames:              []string{"localhost", "*.test"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("sign certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("parse certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// TLS returns ln under TLS with Cert's certificate, offering HTTP/1.1 alone. The
// handshake happens with a script's first read or write.
func TLS(ln net.Listener) net.Listener {
	c, _ := Cert()
	return tls.NewListener(ln, &tls.Config{
		Certificates: []tls.Certificate{c},
		NextProtos:   []string{"http/1.1"},
	})
}
