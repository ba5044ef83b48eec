package realclients

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// A WebSocket client over Berth's Upgrade: more connections at once than MaxConns,
// since an upgraded connection is its caller's; messages of all sizes, compressed or
// not, closes from either side, and plain requests beside them.
func TestWebSocket(t *testing.T) {
	handler := func() http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/plain" {
				fmt.Fprint(w, r.Proto)
				return
			}
			c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover, Subprotocols: []string{"echo"}})
			if err != nil {
				return
			}
			c.SetReadLimit(8 << 20)
			defer c.CloseNow()
			for {
				kind, b, err := c.Read(r.Context())
				if err != nil {
					return
				}
				if string(b) == "bye" {
					c.Close(websocket.StatusNormalClosure, "you said it")
					return
				}
				if c.Write(r.Context(), kind, b) != nil {
					return
				}
			}
		})
	}
	over(t, handler, 2, func(t *testing.T, url string, hc *http.Client) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				c, resp, err := websocket.Dial(ctx, url+"/ws", &websocket.DialOptions{HTTPClient: hc, Subprotocols: []string{"echo"}, CompressionMode: websocket.CompressionContextTakeover})
				if err != nil {
					t.Errorf("dial: %v", err)
					return
				}
				defer c.CloseNow()
				c.SetReadLimit(8 << 20)
				if resp.StatusCode != 101 || c.Subprotocol() != "echo" {
					t.Errorf("%s, subprotocol %q", resp.Status, c.Subprotocol())
				}
				for n := 1; n <= 4<<20; n *= 8 {
					msg := strings.Repeat(string(rune('a'+i)), n)
					if err := c.Write(ctx, websocket.MessageText, []byte(msg)); err != nil {
						t.Errorf("write: %v", err)
						return
					}
					if _, b, err := c.Read(ctx); err != nil || string(b) != msg {
						t.Errorf("%d bytes came back as %d, %v", n, len(b), err)
						return
					}
				}
				if i%2 == 0 {
					if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
						t.Errorf("close: %v", err)
					}
					return
				}
				c.Write(ctx, websocket.MessageText, []byte("bye"))
				if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
					t.Errorf("after bye: %v", err)
				}
			})
		}
		wg.Wait()
		resp, err := hc.Get(url + "/plain")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	})
}
