// Package resilience has strategies against servers that are slow, overloaded or away:
// timeouts, retries with a budget, a circuit breaker, limits of rate and concurrency, and
// hedging. Each is a plain struct whose Handler method returns a function that wraps an
// http.RoundTripper; a [Config] puts several together in the right order:
//
//	handler, err := resilience.Standard().Handler()
//	client := &http.Client{Transport: handler(transport)}
//
// They work over any http.RoundTripper, and over a berth.Transport they know more: whether
// a request has left at all (berth.NotSent), and how to send a hedge without a place in
// the queue (berth.WithoutQueue).
//
// In every struct a zero field means the default, a negative one off. Handler validates,
// and names the field in a *berth.ConfigError. The state of a strategy (budget, breakers,
// limits) belongs to the handler that Handler returned: what is wrapped by the same one
// shares it. All of them are safe for concurrent use, start no goroutine before they are
// needed, and leave none.
package resilience
