package berth

import (
	"net/http"
	"net/url"
	"testing"
)

// However groups are named, each has endpoints of its own, with proxies and upgrades as
// well.
func TestNamesOfGroupsDoNotCollide(t *testing.T) {
	proxy, _ := url.Parse("http://proxy.test:80")
	tr, err := New(Config{Proxy: func(r *http.Request) (*url.URL, error) {
		if r.Header.Get("Proxied") != "" {
			return proxy, nil
		}
		return nil, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	tr.init()
	u, _ := url.Parse("https://origin.test")
	seen := map[*endpoint]string{}
	for _, name := range []string{"", "a", "a|1", `a"`, `a"|1`, "a|http://proxy.test:80", `a"|http://proxy.test:80`, "|1", "|group a"} {
		for _, h := range []http.Header{{}, {"Proxied": {"1"}}, {"Connection": {"Upgrade"}, "Upgrade": {"x"}}, {"Proxied": {"1"}, "Connection": {"Upgrade"}, "Upgrade": {"x"}}} {
			ep, err := tr.endpointFor(&http.Request{URL: u, Header: h}, tr.Group(name))
			if err != nil {
				t.Fatal(err)
			}
			if ep.key.group != name {
				t.Errorf("a request of group %q with %v goes to group %q", name, h, ep.key.group)
			}
			if was, ok := seen[ep]; ok {
				t.Errorf("group %q with %v has the endpoint of %s", name, h, was)
			}
			seen[ep] = name
		}
	}
}
