// Package clients has named HTTP clients over one berth.Transport: each with its base URL,
// headers, timeout, redirects, cookies, limits, resilience and handlers, in code or from
// the policy file, and all of them changeable while they are in use.
//
//	reg, err := clients.New(transport, clients.Config{
//		Defaults: clients.Settings{Timeout: 30 * time.Second, Resilience: &resilience.Config{Preset: "standard"}},
//		Clients: map[string]clients.Settings{
//			"github": {BaseURL: "https://api.github.com/", Header: http.Header{"Accept": {"application/vnd.github+json"}}},
//		},
//	})
//	client, err := reg.Client("github")
//
// It is what IHttpClientFactory is for .NET, without what its users fall into. A client is
// cheap to get and may be kept for ever: it follows [Registry.Apply]. Connections belong to
// the transport, so nothing warm is thrown away when a configuration changes, and names
// that do not exist are errors. Two clients share connections, unless one has a policy, a
// guard or a group of its own.
//
// From the outside in, a request passes: the log, the timeout, default headers, propagation,
// idempotency key, Handlers in their order, the resilience pipeline, AttemptHandlers in
// their order, the log of the wire, and the transport.
package clients
