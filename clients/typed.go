package clients

import "net/http"

// Typed makes a client type of a named client, by its constructor: one that takes an
// *http.Client, as most do, or a *[Client], for what is relative to the base URL. The value
// may be kept for ever. The error is an *UnknownClientError.
//
//	github, err := clients.Typed(reg, "github", NewGitHub)
func Typed[T any, C *http.Client | *Client](reg *Registry, name string, construct func(C) T) (T, error) {
	c, err := reg.Named(name)
	if err != nil {
		var none T
		return none, err
	}
	switch construct := any(construct).(type) {
	case func(*http.Client) T:
		return construct(c.Client), nil
	default:
		return construct.(func(*Client) T)(c), nil
	}
}

// MustTyped is Typed for a name that is known to be there; it panics with the error
// otherwise.
func MustTyped[T any, C *http.Client | *Client](reg *Registry, name string, construct func(C) T) T {
	v, err := Typed(reg, name, construct)
	if err != nil {
		panic(err)
	}
	return v
}
