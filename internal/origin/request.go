// Requests as they stood on the wire: the bytes of the head beside what net/http
// makes of them. The parser of net/http is the judge of what our client writes.

package origin

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/textproto"
)

const (
	// maxHead bounds a request head, and a trailer section, in bytes.
	maxHead = 1 << 20

	// maxContent bounds what ReadRequest keeps of a body, in bytes.
	maxContent = 64 << 20
)

// Request is a request read from a connection.
type Request struct {
	*http.Request // as http.ReadRequest parsed it; nil when it could not

	// Head is the head as it arrived, with the empty line that ends it; what there
	// was of it when the read failed.
	Head []byte

	// Content is the body without its framing. ReadRequest fills it; after ReadHead
	// it is nil and Request.Body reads from the connection.
	Content []byte
}

// ReadHead reads a request up to the end of its head and leaves the body on the
// wire: read it from Request.Body or as bytes from c, or leave it there.
// A 100 (Continue) is the script's to send.
//
// The error is io.EOF when the connection ended before the first byte, and wraps
// io.ErrUnexpectedEOF when it ended in the middle. The Request is never nil; its
// Head has what arrived.
func (c *Conn) ReadHead() (*Request, error) {
	head, err := c.readBlock()
	r := &Request{Head: head}
	if err == io.EOF {
		return r, err
	}
	if err != nil {
		return r, fmt.Errorf("origin: read head: %w", err)
	}
	r.Request, err = http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	if err != nil {
		r.Request = nil
		return r, fmt.Errorf("origin: parse head: %w", err)
	}
	c.origin.requests.Add(1)
	switch {
	case r.ContentLength > 0:
		r.Body = &lengthBody{r: c.reader(), left: r.ContentLength}
	case r.ContentLength < 0:
		r.Body = &chunkedBody{c: c, r: httputil.NewChunkedReader(c.reader()), trailer: &r.Trailer}
	default:
		r.Body = http.NoBody
	}
	return r, nil
}

// ReadRequest reads a request with its body, which it also puts into Content,
// 64 MiB at most. It answers no Expect: 100-continue. Errors are ReadHead's; one
// in the body comes with the Content read so far.
func (c *Conn) ReadRequest() (*Request, error) {
	r, err := c.ReadHead()
	if err != nil {
		return r, err
	}
	return r, r.readContent()
}

// readContent moves the body from the wire into Content, and leaves a Body that
// reads it again.
func (r *Request) readContent() error {
	content, err := io.ReadAll(io.LimitReader(r.Body, maxContent+1))
	if err == nil && len(content) > maxContent {
		err = fmt.Errorf("more than %d bytes", maxContent)
	}
	r.Content = content
	r.Body = io.NopCloser(bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("origin: read body: %w", err)
	}
	return nil
}

// readBlock reads lines up to and with the first empty one.
func (c *Conn) readBlock() ([]byte, error) {
	var block []byte
	for line := 0; ; {
		part, err := c.reader().ReadSlice('\n')
		block = append(block, part...)
		switch {
		case len(block) > maxHead:
			return block, fmt.Errorf("more than %d bytes", maxHead)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == io.EOF && len(block) > 0:
			return block, io.ErrUnexpectedEOF
		case err != nil:
			return block, err
		}
		if s := string(block[line:]); s == "\r\n" || s == "\n" {
			return block, nil
		}
		line = len(block)
	}
}

// lengthBody reads a body of a Content-Length.
type lengthBody struct {
	r    io.Reader
	left int64
}

func (b *lengthBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err == io.EOF && b.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (b *lengthBody) Close() error { return nil }

// chunkedBody reads a chunked body, and then its trailer section, which the
// chunked reader leaves on the wire (RFC 9112 §7.1.2).
type chunkedBody struct {
	c       *Conn
	r       io.Reader
	trailer *http.Header
	err     error // sticky
}

func (b *chunkedBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p)
	if err == io.EOF {
		err = b.readTrailer()
	}
	b.err = err
	return n, err
}

// readTrailer returns io.EOF when the section was read and parsed.
func (b *chunkedBody) readTrailer() error {
	block, err := b.c.readBlock()
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	fields, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(block))).ReadMIMEHeader()
	if err != nil {
		return fmt.Errorf("parse trailer: %w", err)
	}
	if len(fields) > 0 {
		*b.trailer = http.Header(fields)
	}
	return io.EOF
}

func (b *chunkedBody) Close() error { return nil }
