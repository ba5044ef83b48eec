package berth

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
)

// Config configures a [Transport]. The zero Config is the zero Transport's. It is
// copied by [New]; what it points to must not be changed afterwards.
type Config struct {
	// Policy holds for every endpoint.
	Policy Policy `json:"policy"`

	// DialContext opens connections in place of Berth's own dialling; network is
	// "tcp" and addr host:port. It runs on a goroutine of the endpoint's pool, must
	// return soon after ctx ends, and may return any net.Conn: one without a file
	// descriptor is served too. ctx has the values of the request that caused the
	// dial, not its deadline: other requests may use the connection.
	//
	// Its connections may have deadlines that it has set: they are left alone, but
	// where a timeout of the policy needs one. A request over them costs some
	// allocations more than over those that Berth dials itself.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error) `json:"-"`

	// TLS is cloned for each endpoint. ServerName is set to the host when it is
	// empty, NextProtos to http/1.1, and ClientSessionCache to a small one of the
	// endpoint's own unless one is given.
	TLS *tls.Config `json:"-"`

	// Logger hears once per endpoint when requests wait longer than a second, and
	// of bytes that a server sends unasked. nil logs nothing.
	Logger *slog.Logger `json:"-"`

	// Trace is told of connections and waits. nil costs nothing.
	Trace *Trace `json:"-"`
}

// ConfigError: a value in a [Config] is not allowed. Code BERTH1010.
type ConfigError struct {
	Field  string // as in Go: Policy.MaxIdle
	Reason string // what is allowed
}

func (e *ConfigError) Error() string { return fmt.Sprintf("berth: config: %s: %s", e.Field, e.Reason) }

// Code returns BERTH1010.
func (e *ConfigError) Code() string { return "BERTH1010" }

// New returns a Transport with that configuration. The error is a *ConfigError.
// Nothing is started before the first request.
func New(cfg Config) (*Transport, error) {
	if err := cfg.Policy.validate(); err != nil {
		return nil, err
	}
	return &Transport{config: cfg}, nil
}
