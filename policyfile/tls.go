package policyfile

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"go.yaml.in/yaml/v3"
)

// tlsKeys are what a rule may say of TLS. Files are read when the policy file is.
var tlsKeys = []string{"ca_file", "cert_file", "key_file", "server_name", "min_version"}

var tlsVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

func (p *parser) tls(prefix string, n *yaml.Node) (*tls.Config, error) {
	values := map[string]string{}
	err := p.each(n, prefix, tlsKeys, func(key string, v *yaml.Node) error {
		if v.Kind != yaml.ScalarNode {
			return p.fail(v, prefix+key, "is no text")
		}
		values[key] = v.Value
		return nil
	})
	if err != nil {
		return nil, err
	}
	c := &tls.Config{ServerName: values["server_name"]}
	if file := values["ca_file"]; file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, p.fail(p.at[prefix+"ca_file"], prefix+"ca_file", "%v", err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, p.fail(p.at[prefix+"ca_file"], prefix+"ca_file", "%s has no certificate in PEM", file)
		}
	}
	cert, key := values["cert_file"], values["key_file"]
	if (cert == "") != (key == "") {
		return nil, p.fail(n, prefix+"cert_file", "cert_file and key_file go together")
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, p.fail(p.at[prefix+"cert_file"], prefix+"cert_file", "%v", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if v := values["min_version"]; v != "" {
		var known bool
		if c.MinVersion, known = tlsVersions[v]; !known {
			return nil, p.fail(p.at[prefix+"min_version"], prefix+"min_version", "is none of 1.2, 1.3")
		}
	}
	return c, nil
}

// sameTLS reports whether two configurations were made of the same files and words.
func sameTLS(a, b *tls.Config) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.ServerName != b.ServerName || a.MinVersion != b.MinVersion || !a.RootCAs.Equal(b.RootCAs) || len(a.Certificates) != len(b.Certificates) {
		return false
	}
	for i := range a.Certificates {
		if fmt.Sprint(a.Certificates[i].Certificate) != fmt.Sprint(b.Certificates[i].Certificate) {
			return false
		}
	}
	return true
}
