// Package berth is an [http.RoundTripper] whose connection pools you can see,
// bound and explain. The zero [Transport] is ready:
//
//	client := &http.Client{Transport: &berth.Transport{}}
//
// It speaks HTTP/1.1 by an engine of its own: requests run on the caller's
// goroutine, and idle connections have neither a goroutine nor a buffer. It speaks
// HTTP/2 by net/http's codec, over as many connections as the server's limit on
// streams asks for. Every wait has a bound and an error that says what was waited
// for. Proxies, upgrades, gzip, traces and the rest are as [net/http.Transport] has
// them; [FromTransport] carries its settings over, and docs/differences.md lists what
// differs on purpose.
//
// # Words
//
// An endpoint is everything that makes two connections interchangeable: scheme,
// host, port, proxy and group. It has one pool, and at any time one [Policy] and one
// TLS configuration, which [Rule] and [Transport.Apply] can change while it runs. A lease is one
// request's hold on a connection, from the moment it gets it until the last byte
// of the response has arrived. A waiter is a request that has no lease yet; the
// oldest is served first.
//
// # Steering
//
// [Config] has a policy for all, and rules for some. [Transport.Apply] puts another one
// in force while requests run; package policyfile does it for a file. [Endpoint] has the
// operations: Drain, Reconnect, Warm, Pause. A [Group] has connections of its own.
// docs/steering.md tells it whole.
//
// # Errors
//
// Every failure has a type of its own and a stable code; see [AcquireTimeoutError]
// for the one that matters most. [NotSent] answers whether a request may be sent
// again without fear.
package berth
