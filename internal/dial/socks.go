package dial

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

// The numbers of SOCKS version 5 (RFC 1928) and of its password authentication
// (RFC 1929).
const (
	socksVersion   = 5
	socksNoAuth    = 0
	socksPassword  = 2
	socksNoMethod  = 0xff
	socksConnect   = 1
	socksIPv4      = 1
	socksName      = 3
	socksIPv6      = 4
	socksAuthV1    = 1
	socksSucceeded = 0
)

// SOCKS asks the SOCKS5 proxy at the other end of conn for a connection to
// host:port. Names are resolved by the proxy. It blocks until the proxy has
// answered, the time is up, or ctx ends; a timeout ≤ 0 is none. The connection is
// the caller's to close when it fails.
func SOCKS(ctx context.Context, conn net.Conn, host, port string, user *url.Userinfo, timeout time.Duration) error {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("port %q is not a number", port)
	}
	request, err := socksRequest(host, uint16(n))
	if err != nil {
		return err
	}
	return bounded(ctx, conn, timeout, func() error {
		if err := socksGreet(conn, user); err != nil {
			return err
		}
		if _, err := conn.Write(request); err != nil {
			return err
		}
		return socksReply(conn)
	})
}

func socksRequest(host string, port uint16) ([]byte, error) {
	b := []byte{socksVersion, socksConnect, 0}
	if ip, err := netip.ParseAddr(host); err == nil {
		kind := byte(socksIPv6)
		if ip = ip.Unmap(); ip.Is4() {
			kind = socksIPv4
		}
		b = append(append(b, kind), ip.WithZone("").AsSlice()...)
	} else {
		if len(host) > 255 {
			return nil, errors.New("host name is longer than 255 bytes")
		}
		b = append(append(b, socksName, byte(len(host))), host...)
	}
	return binary.BigEndian.AppendUint16(b, port), nil
}

// socksGreet agrees on a way to authenticate, and does.
func socksGreet(conn net.Conn, user *url.Userinfo) error {
	methods := []byte{socksVersion, 1, socksNoAuth}
	if user != nil {
		methods = []byte{socksVersion, 2, socksNoAuth, socksPassword}
	}
	if _, err := conn.Write(methods); err != nil {
		return err
	}
	var chosen [2]byte
	if _, err := io.ReadFull(conn, chosen[:]); err != nil {
		return err
	}
	switch {
	case chosen[0] != socksVersion:
		return fmt.Errorf("proxy speaks SOCKS version %d", chosen[0])
	case chosen[1] == socksNoAuth:
		return nil
	case chosen[1] == socksPassword && user != nil:
		return socksLogin(conn, user)
	case chosen[1] == socksNoMethod:
		return errors.New("proxy accepts no authentication that is offered")
	}
	return fmt.Errorf("proxy chose authentication method %d, which was not offered", chosen[1])
}

func socksLogin(conn net.Conn, user *url.Userinfo) error {
	name := user.Username()
	password, _ := user.Password()
	if len(name) == 0 || len(name) > 255 || len(password) > 255 {
		return errors.New("user name or password has a length that SOCKS5 cannot carry")
	}
	b := append([]byte{socksAuthV1, byte(len(name))}, name...)
	b = append(append(b, byte(len(password))), password...)
	if _, err := conn.Write(b); err != nil {
		return err
	}
	var status [2]byte
	if _, err := io.ReadFull(conn, status[:]); err != nil {
		return err
	}
	if status[1] != socksSucceeded {
		return errors.New("proxy refused user name and password")
	}
	return nil
}

func socksReply(conn net.Conn) error {
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	if head[0] != socksVersion {
		return fmt.Errorf("proxy speaks SOCKS version %d", head[0])
	}
	if head[1] != socksSucceeded {
		return errors.New(socksText(head[1]))
	}
	size := 0 // of the address that it is bound to, which nobody needs
	switch head[3] {
	case socksIPv4:
		size = 4
	case socksIPv6:
		size = 16
	case socksName:
		var n [1]byte
		if _, err := io.ReadFull(conn, n[:]); err != nil {
			return err
		}
		size = int(n[0])
	default:
		return fmt.Errorf("proxy sent an address of unknown type %d", head[3])
	}
	_, err := io.CopyN(io.Discard, conn, int64(size)+2)
	return err
}

// socksText is RFC 1928 §6 in words.
func socksText(code byte) string {
	texts := [...]string{1: "general SOCKS server failure", 2: "connection not allowed by ruleset", 3: "network unreachable",
		4: "host unreachable", 5: "connection refused", 6: "TTL expired", 7: "command not supported", 8: "address type not supported"}
	if int(code) < len(texts) {
		return texts[code]
	}
	return fmt.Sprintf("SOCKS reply %d", code)
}
