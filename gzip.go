package berth

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// InflateError: a response that Berth decompresses grows beyond
// Policy.MaxInflateRatio or MaxInflatedBytes. Code BERTH1016.
type InflateError struct {
	Endpoint string
	In, Out  int64 // bytes that arrived, bytes that they became
	Limit    string
}

func (e *InflateError) Error() string {
	return fmt.Sprintf("berth: %s: %d bytes of gzip became %d: more than %s [BERTH1016]", e.Endpoint, e.In, e.Out, e.Limit)
}

// Code returns BERTH1016.
func (e *InflateError) Code() string { return "BERTH1016" }

// wantsGzip says whether the response is to be asked for in gzip and decompressed:
// the caller says nothing about codings, and wants no range of the coded bytes. A
// HEAD would learn the wrong length (golang/go#5522).
func wantsGzip(req *http.Request, cfg *Config) bool {
	return !cfg.DisableCompression && req.Method != http.MethodHead && req.Method != http.MethodConnect &&
		first(req.Header["Accept-Encoding"]) == "" && first(req.Header["Range"]) == ""
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// inflate has a response in gzip decompressed as it is read.
func (ep *endpoint) inflate(resp *http.Response) {
	if !strings.EqualFold(first(resp.Header["Content-Encoding"]), "gzip") || resp.StatusCode == http.StatusSwitchingProtocols {
		return
	}
	delete(resp.Header, "Content-Encoding")
	delete(resp.Header, "Content-Length")
	resp.ContentLength = -1
	resp.Uncompressed = true
	resp.Body = &inflated{body: resp.Body, ep: ep}
}

// inflater is what decompressing takes, 44 KB, from a body's first Read to its last.
type inflater struct {
	zr   gzip.Reader
	br   *bufio.Reader
	body io.Reader // nil while nobody has it: it pins no response then
	in   int64     // bytes that were read
}

var inflaters = sync.Pool{New: func() any {
	i := new(inflater)
	i.br = bufio.NewReader(i)
	return i
}}

func (i *inflater) Read(p []byte) (int, error) {
	n, err := i.body.Read(p)
	i.in += int64(n)
	return n, err
}

// begin reads the head of the stream.
func (i *inflater) begin(body io.Reader) error {
	i.body, i.in = body, 0
	i.br.Reset(i)
	return i.zr.Reset(i.br)
}

// inflateFree is how much a response may grow to before the ratio counts: a short
// one of zeros is no bomb.
const inflateFree = 8 << 20

// inflated is the body of a response in gzip. Close may run while Read does.
type inflated struct {
	body io.ReadCloser
	ep   *endpoint
	out  int64

	mu      sync.Mutex
	z       *inflater // nil before the first Read and after the last
	err     error     // of the last Read
	reading bool
	closed  bool
}

var errConcurrentRead = errors.New("http: concurrent read of a response body")

func (b *inflated) Read(p []byte) (int, error) {
	b.mu.Lock()
	switch {
	case b.closed:
		b.mu.Unlock()
		return b.body.Read(p) // says so
	case b.err != nil:
		b.mu.Unlock()
		return 0, b.err
	case b.reading:
		b.mu.Unlock()
		return 0, errConcurrentRead
	}
	b.reading = true
	z := b.z
	b.mu.Unlock()

	n, err := 0, error(nil)
	if z == nil {
		z = inflaters.Get().(*inflater)
		err = z.begin(b.body)
	}
	if err == nil {
		n, err = z.zr.Read(p)
		b.out += int64(n)
		if limit := b.exceeded(z.in); limit != nil {
			n, err = 0, limit
			b.body.Close()
		}
	}

	b.mu.Lock()
	b.reading = false
	if b.z, b.err = z, err; err != nil || b.closed {
		b.putBack()
	}
	b.mu.Unlock()
	return n, err
}

// exceeded returns the error of a body that grew too large.
func (b *inflated) exceeded(in int64) error {
	p := &b.ep.now.Load().policy
	if most := p.MaxInflatedBytes; most > 0 && b.out > most {
		return &InflateError{Endpoint: b.ep.name, In: in, Out: b.out, Limit: fmt.Sprintf("MaxInflatedBytes, %d", most)}
	}
	ratio := int64(or(p.MaxInflateRatio, defaultMaxInflateRatio, 0))
	if ratio > 0 && b.out > inflateFree && b.out/ratio > in {
		return &InflateError{Endpoint: b.ep.name, In: in, Out: b.out, Limit: fmt.Sprintf("MaxInflateRatio, %d", ratio)}
	}
	return nil
}

// putBack gives the inflater up. mu is held.
func (b *inflated) putBack() {
	if b.z != nil {
		b.z.body = nil
		inflaters.Put(b.z)
		b.z = nil
	}
}

func (b *inflated) Close() error {
	b.mu.Lock()
	b.closed = true
	if !b.reading {
		b.putBack()
	}
	b.mu.Unlock()
	return b.body.Close()
}
