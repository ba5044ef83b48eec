package clients_test

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/clients"
)

func TestGuardKnowsWhatIsNotPublic(t *testing.T) {
	for addr, want := range map[string]string{
		"8.8.8.8": "", "1.1.1.1": "", "2606:4700:4700::1111": "", "172.32.0.1": "", "11.0.0.1": "", "100.128.0.1": "", "64:ff9b::808:808": "",
		"2002:808:808::1": "", "::ffff:8.8.8.8": "", "192.0.1.1": "", "223.255.255.255": "",

		"10.0.0.1": "private", "172.16.0.1": "private", "172.31.255.255": "private", "192.168.1.1": "private", "fd12::1": "private", "fc00::1": "private",
		"127.0.0.1": "loopback", "127.255.0.9": "loopback", "::1": "loopback", "::ffff:127.0.0.1": "loopback",
		"0.0.0.0": "this host", "0.1.2.3": "this host", "::": "this host",
		"169.254.1.1": "link-local", "fe80::1%eth0": "link-local", "febf::1": "link-local",
		"169.254.169.254": "metadata", "::ffff:169.254.169.254": "metadata", "fd00:ec2::254": "metadata", "100.100.100.200": "metadata", "168.63.129.16": "metadata",
		"192.0.0.192": "metadata", "169.254.170.2": "metadata", "fd20:ce::254": "metadata",
		"64:ff9b::a00:1": "private", "64:ff9b::7f00:1": "loopback", "2002:a9fe:a9fe::1": "metadata", "2002:7f00:1::": "loopback",
		"100.64.0.1": "carrier", "224.0.0.1": "multicast", "ff02::1": "multicast", "255.255.255.255": "reserved", "240.0.0.1": "reserved",
		"198.18.0.1": "benchmarks", "192.0.2.1": "documentation", "2001:db8::1": "documentation", "203.0.113.9": "documentation",
		"2001::1": "reserved", "fec0::1": "site-local", "4000::1": "not a public", "64:ff9b:1::1": "not a public", "::127.0.0.1": "not a public", "100::1": "not a public",
	} {
		var g clients.Guard
		err := g.Check(berth.AddrInfo{Addr: netip.AddrPortFrom(netip.MustParseAddr(addr), 443)})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", addr, err, want)
		}
		var e *clients.GuardError
		if err != nil && !errors.As(err, &e) {
			t.Errorf("%s: %T", addr, err)
		}
	}
}

func TestGuardsLists(t *testing.T) {
	prefix := netip.MustParsePrefix
	g := clients.Guard{Allow: []netip.Prefix{prefix("10.1.0.0/16"), prefix("8.8.8.0/24")}, Deny: []netip.Prefix{prefix("10.1.2.0/24"), prefix("2606:4700::/32")}, Ports: []uint16{443}}
	for addr, want := range map[string]string{
		"10.1.0.1:443": "", "10.2.0.1:443": "private (10.0.0.0/8)", "10.1.2.3:443": "denied (10.1.2.0/24)", "[2606:4700::1]:443": "denied",
		"10.1.0.1:22": "port", "9.9.9.9:443": "", "9.9.9.9:80": "port", "[::ffff:10.1.2.3]:443": "denied",
	} {
		err := g.Check(berth.AddrInfo{Addr: netip.MustParseAddrPort(addr)})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", addr, err, want)
		}
	}
	for _, tc := range []struct {
		info  berth.AddrInfo
		guard clients.Guard
		want  string
	}{
		{berth.AddrInfo{Socket: "/run/docker.sock"}, clients.Guard{}, "socket"},
		{berth.AddrInfo{Socket: "/run/docker.sock"}, clients.Guard{Sockets: true}, ""},
		{berth.AddrInfo{Proxy: true, Addr: netip.MustParseAddrPort("8.8.8.8:3128")}, clients.Guard{}, "proxy"},
		{berth.AddrInfo{Proxy: true, Addr: netip.MustParseAddrPort("10.0.0.9:3128")}, clients.Guard{Proxy: true}, ""},
		{berth.AddrInfo{}, clients.Guard{}, "not known"},
	} {
		if err := tc.guard.Check(tc.info); tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%+v: %v, want %q", tc.info, err, tc.want)
		}
	}
	for _, bad := range []clients.Guard{
		{Allow: []netip.Prefix{{}}}, {Deny: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr("10.1.2.3"), 8)}}, {Allow: []netip.Prefix{prefix("::ffff:10.0.0.0/104")}},
	} {
		tr := &berth.Transport{}
		if _, err := clients.New(tr, clients.Config{Clients: map[string]clients.Settings{"x": {Guard: &bad}}}); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

// A webhook sender cannot be led to this host: not by an address, a name, or a redirect,
// nor over a connection that another client has opened.
func TestGuardedClient(t *testing.T) {
	url := serve(t, echo)
	port := url[strings.LastIndexByte(url, ':'):]
	public := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.1"+port+"/admin", http.StatusFound)
	})
	at := netip.MustParseAddrPort(strings.TrimPrefix(public, "http://"))
	reg, _ := registry(t, clients.Config{Clients: map[string]clients.Settings{"plain": {}, "hook": {Guard: &clients.Guard{}}, "redirected": {Guard: &clients.Guard{
		Ports: []uint16{at.Port()}, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}}}})
	get(t, reg.MustClient("plain"), url) // there is an idle connection now
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0"} {
		_, err := reg.MustClient("hook").Get("http://" + host + port + "/?token=s3cret")
		var refused *berth.AddrRefusedError
		var why *clients.GuardError
		if !errors.As(err, &refused) || !errors.As(err, &why) || !berth.NotSent(err) || strings.Contains(refused.Error(), "s3cret") {
			t.Errorf("%s: %v", host, err)
		}
	}
	_, err := reg.MustClient("redirected").Get(public)
	if !errors.As(err, new(*berth.AddrRefusedError)) {
		t.Errorf("redirected: %v", err)
	}
}
