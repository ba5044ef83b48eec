// Trailer fields (RFC 9110 §6.5) around the body that carries them: declared in
// the head, merged into the response after the body, named in a request's head.
// The section itself is read and written with the last chunk.

package h1

import (
	"net/http"
	"slices"
	"strconv"
)

// declareTrailer moves the Trailer field into resp.Trailer, as keys with nil
// values.
func declareTrailer(resp *http.Response) error {
	lists := resp.Header["Trailer"]
	delete(resp.Header, "Trailer")
	for _, list := range lists {
		for rest, more := list, true; more; {
			var name string
			name, rest, more = cutElement(rest)
			if name == "" {
				continue
			}
			name = http.CanonicalHeaderKey(name)
			if forbiddenTrailer(name) {
				return headError(Malformed, "bad trailer key "+strconv.Quote(name))
			}
			if resp.Trailer == nil {
				resp.Trailer = make(http.Header)
			}
			resp.Trailer[name] = nil
		}
	}
	return nil
}

// forbiddenTrailer reports whether the field with this canonical name decides the
// framing, so that no trailer may carry it (RFC 9110 §6.5.1).
func forbiddenTrailer(name string) bool {
	return name == "Transfer-Encoding" || name == "Content-Length" || name == "Trailer"
}

// MergeTrailer puts received trailer fields into resp.Trailer: values for the
// declared keys, and the undeclared fields beside them. Nil changes nothing.
func MergeTrailer(resp *http.Response, t http.Header) {
	if resp.Trailer == nil {
		resp.Trailer = t
		return
	}
	for name, values := range t {
		resp.Trailer[name] = values
	}
}

// trailerNames returns the keys of t, sorted, or an error if one cannot be sent.
func trailerNames(t http.Header) ([]string, error) {
	names := make([]string, 0, len(t))
	for name := range t {
		if !isToken(name) {
			return nil, &RequestError{Detail: "invalid trailer field name " + strconv.Quote(name)}
		}
		if forbiddenTrailer(http.CanonicalHeaderKey(name)) {
			return nil, &RequestError{Detail: "invalid Trailer key " + strconv.Quote(name)}
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}
