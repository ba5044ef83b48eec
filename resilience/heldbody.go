package resilience

import (
	"context"
	"io"
	"net/http"
)

// hold has a context end with the body of a response: until then it must not, for the body
// is read under it.
func hold(resp *http.Response, cancel context.CancelCauseFunc) {
	if resp.Body == nil || resp.Body == http.NoBody {
		cancel(nil)
		return
	}
	held := heldBody{resp.Body, cancel}
	if w, is := resp.Body.(io.Writer); is {
		resp.Body = &heldStream{held, w}
		return
	}
	resp.Body = &held
}

// heldBody is a response body that ends a context with itself.
type heldBody struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (b *heldBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.cancel(nil)
	}
	return n, err
}

func (b *heldBody) Close() error {
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// heldStream is that of a response that has switched protocols (101).
type heldStream struct {
	heldBody
	io.Writer
}
