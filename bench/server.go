package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/berth-go/berth/internal/origin"
)

// serverOptions are what the driver tells a server process.
type serverOptions struct {
	tls     bool
	hold    int           // how many requests for pathHold are answered together
	latency time.Duration // of every answer
	streams int           // an HTTP/2 server allows on a connection; 0 is one for HTTP/1.1
}

// runServer serves until standard input ends, which is when the driver does.
func runServer(o serverOptions) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	switch {
	case o.streams > 0:
		go serveHTTP2(ln, o)
	case o.latency > 0:
		defer origin.Fast(ln, responses[pathSmall[1]], o.latency).Close()
	case o.tls:
		cert, _ := origin.Cert()
		go serveEach(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}), o.hold)
	default:
		go serveFast(ln.(*net.TCPListener), o.hold)
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// serveHTTP2 is net/http's server. It ends with the process.
func serveHTTP2(ln net.Listener, o serverOptions) {
	body := make([]byte, 128)
	cert, _ := origin.Cert()
	s := &http.Server{
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: o.streams},
		ErrorLog:  log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(o.latency)
			w.Header()["Content-Type"] = []string{"text/plain"}
			w.Write(body)
		}),
	}
	if err := s.ServeTLS(ln, "", ""); err != nil {
		fmt.Fprintln(os.Stderr, "bench: server:", err)
		os.Exit(1)
	}
}

// serveEach serves each connection on a goroutine: TLS, and systems without epoll.
// It ends with the process.
func serveEach(ln net.Listener, hold int) {
	var b barrier
	b.init(hold)
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			r := bufio.NewReaderSize(c, 4<<10)
			for {
				path, err := readRequest(r)
				if err != nil {
					return
				}
				if path == pathHold[1] {
					b.wait()
				}
				if _, err := c.Write(responses[path]); err != nil {
					return
				}
			}
		}()
	}
}

// readRequest reads a request and its body away and returns the path's letter.
func readRequest(r *bufio.Reader) (path byte, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	path = pathOf(line)
	length := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if len(line) <= 2 {
			break
		}
		length += lengthOf(line)
	}
	_, err = r.Discard(length)
	return path, err
}

// pathOf returns the letter behind the slash of a request line.
func pathOf(line []byte) byte {
	if i := bytes.IndexByte(line, '/'); i >= 0 && i+1 < len(line) {
		return line[i+1]
	}
	return 0
}

var contentLength = []byte("content-length:")

// lengthOf returns the value of a Content-Length line, 0 of any other.
func lengthOf(line []byte) int {
	if len(line) <= len(contentLength) || !bytes.EqualFold(line[:len(contentLength)], contentLength) {
		return 0
	}
	n, _ := strconv.Atoi(string(bytes.TrimSpace(line[len(contentLength):])))
	return n
}

// barrier lets requests go when enough wait.
type barrier struct {
	mu   sync.Mutex
	n    int
	full chan struct{}
	want int
}

func (b *barrier) init(want int) { b.want, b.full = want, make(chan struct{}) }

func (b *barrier) wait() {
	b.mu.Lock()
	full := b.full
	if b.n++; b.n >= b.want {
		b.n, b.full = 0, make(chan struct{})
		close(full)
	}
	b.mu.Unlock()
	<-full
}
