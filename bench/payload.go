package main

import (
	"bytes"
	"fmt"
	"strings"
)

// The resources of the server. A path is one letter, so that the server finds it
// without parsing.
const (
	pathSmall   = "/s" // 4 header fields, 128 bytes
	pathHeaders = "/h" // 12 header fields, 1 KiB
	pathPost    = "/p" // takes a body, answers like pathSmall
	pathLarge   = "/m" // 1 MiB
	pathHold    = "/b" // answered when as many requests wait as the server was told
)

const (
	largeBody = 1 << 20
	postBody  = 64 << 10
)

// responses are complete: the server writes them as they are.
var responses = map[byte][]byte{
	pathSmall[1]:   response(128, "Content-Type: text/plain", "Date: Sat, 21 Nov 2026 12:00:00 GMT", "Server: bench"),
	pathPost[1]:    response(128, "Content-Type: text/plain", "Date: Sat, 21 Nov 2026 12:00:00 GMT", "Server: bench"),
	pathHold[1]:    response(128, "Content-Type: text/plain", "Date: Sat, 21 Nov 2026 12:00:00 GMT", "Server: bench"),
	pathLarge[1]:   response(largeBody, "Content-Type: application/octet-stream", "Date: Sat, 21 Nov 2026 12:00:00 GMT", "Server: bench"),
	pathHeaders[1]: response(1024, "Content-Type: application/json; charset=utf-8", "Date: Sat, 21 Nov 2026 12:00:00 GMT", "Server: bench", "Cache-Control: private, max-age=0, must-revalidate", "Etag: \"5f3c9a7be01\"", "Vary: Accept-Encoding, Origin", "Strict-Transport-Security: max-age=31536000; includeSubDomains", "X-Content-Type-Options: nosniff", "X-Frame-Options: DENY", "X-Request-Id: 3f0c8a52-7a0e-4b6b-9d3a-5f0e2a1c9b77", "X-Ratelimit-Remaining: 4999"),
}

func response(body int, fields ...string) []byte {
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\n")
	for _, f := range fields {
		b.WriteString(f + "\r\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", body, strings.Repeat("x", body))
	return b.Bytes()
}
