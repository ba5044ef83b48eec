package clients

import "net/http"

// IdempotencyKeys gives POST and PATCH requests that have none an Idempotency-Key of 128
// random bits (draft-ietf-httpapi-idempotency-key-header). It belongs around the retries:
// all attempts carry the same key, by which the server can tell that they are one request,
// and so do redirects that keep the method. Servers that do not know the field act upon
// each attempt: use it only where they do.
func IdempotencyKeys() Handler {
	return func(next http.RoundTripper) http.RoundTripper { return &keyAdder{forward{next}} }
}

const idempotencyKey = "Idempotency-Key"

type keyAdder struct{ forward }

func (a *keyAdder) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodPost && req.Method != http.MethodPatch || req.Header[idempotencyKey] != nil {
		return a.next.RoundTrip(req)
	}
	key := ""
	if r := req.Response; r != nil && r.Request != nil && sameOrigin(req) {
		key = r.Request.Header.Get(idempotencyKey)
	}
	if key == "" {
		key = random()
	}
	return a.next.RoundTrip(with(req, idempotencyKey, key))
}
