package berth_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// A body that is announced as chunked is, even when it is none.
func TestChunkedNoBodyHasItsLastChunk(t *testing.T) {
	bubble(t, berth.Policy{ResponseHeaderTimeout: time.Minute}, origin.Echo(), func(r *rig) {
		for _, method := range []string{"POST", "GET"} {
			req := r.request(r.Context(), method, "/", http.NoBody)
			req.TransferEncoding = []string{"chunked"}
			resp, err := r.tr.RoundTrip(req)
			if err != nil {
				r.Fatalf("%s: %v", method, err) // a timeout when the server still waits for the body
			}
			io.Copy(io.Discard, resp.Body)
		}
		r.wantDials(1)
	})
}
