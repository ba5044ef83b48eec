// Finding and parsing a response head (RFC 9112 §2 to §5). The connection calls
// HeadEnd while it reads and ParseHead once the head is there, for interim
// responses too; the trailer section of a chunked body goes through the same
// field parser.

package h1

import (
	"bytes"
	"net/http"
)

// DefaultMaxFields is the number of field lines that a head may have when
// [HeadOptions] names none. A field line of three bytes costs a map entry and a
// slice, some 100 bytes; with this bound (curl's, too) a head costs at most half
// a megabyte more than its own text.
const DefaultMaxFields = 5000

// HeadOptions are the choices of the endpoint's policy.
type HeadOptions struct {
	// Strict refuses every deviation that is tolerated otherwise; see [Lax].
	Strict bool

	// MaxFields bounds the field lines of one head. Zero means
	// [DefaultMaxFields], negative means no bound but that of the head's size.
	MaxFields int
}

func (o HeadOptions) maxFields() int {
	switch {
	case o.MaxFields == 0:
		return DefaultMaxFields
	case o.MaxFields < 0:
		return int(^uint(0) >> 1)
	}
	return o.MaxFields
}

// HeadEnd returns the index just past the empty line that ends the head at the
// start of b, or -1 when b does not hold it yet. Lines may end in a bare LF.
// from is the length that b had when an earlier call returned -1, or 0: bytes
// before it are not searched again, so that a peer that dribbles costs no more
// than one that does not.
//
// An empty line at the very start is a head without a status line: its end is
// returned, and [ParseHead] rejects it.
func HeadEnd(b []byte, from int) int {
	if from < 2 {
		if n := emptyLine(b); n > 0 {
			return n
		}
		from = 0
	} else {
		from -= 2 // a line end, or one and the CR of the next
	}
	for {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return -1
		}
		from += i + 1
		if n := emptyLine(b[from:]); n > 0 {
			return from + n
		}
	}
}

// emptyLine returns the length of the empty line at the start of b, 0 if there
// is none.
func emptyLine(b []byte) int {
	switch {
	case len(b) > 0 && b[0] == '\n':
		return 1
	case len(b) > 1 && b[0] == '\r' && b[1] == '\n':
		return 2
	}
	return 0
}

// ParseHead parses one response head, empty line included, into resp. It sets
// Proto, ProtoMajor, ProtoMinor, Status, StatusCode, Header, ContentLength,
// TransferEncoding, Close and Trailer the way [http.ReadResponse] does, and
// nothing else. method is the request's: the answer to HEAD has no body.
//
// One string is made of the head, and every value is a part of it. Values are
// held in slices of length and capacity 1 cut from values, which the caller
// gives away; when it is used up, ParseHead allocates.
//
// Errors are [*ProtocolError]; resp is then in no particular state.
func ParseHead(resp *http.Response, head []byte, values []string, method string, o HeadOptions) (Framing, error) {
	text := string(head)
	p := fieldParser{b: head, s: text, values: values, limit: o.maxFields()}

	line, ok := p.line()
	if !ok {
		return Framing{}, headError(Malformed, "incomplete head")
	}
	lax, err := parseStatusLine(resp, line, text[:len(line)])
	if err != nil {
		return Framing{}, err
	}
	// Every line but the first and the empty one is a field, or continues one.
	// The hint is bounded because lines may repeat a name.
	p.lines = bytes.Count(head, newline) - 2
	resp.Header = make(http.Header, min(max(p.lines, 0), 64))
	if kind, detail := p.parse(resp.Header); kind != 0 {
		return Framing{}, headError(kind, detail)
	}
	f, err := frame(resp, method, p.seen, &p.values)
	if err != nil {
		return Framing{}, err
	}
	if f.Lax |= lax | p.lax; f.Lax != 0 {
		if o.Strict {
			return Framing{}, headError(Refused, f.Lax.String())
		}
		f.Reusable = false
	}
	return f, nil
}

var newline = []byte{'\n'}

// seen is the set of fields with a meaning for the connection that a head has,
// so that looking for one that is not there costs nothing.
type seen uint8

const (
	seenConnection seen = 1 << iota
	seenKeepAlive
	seenLength
	seenCoding
	seenTrailer
	seenPragma
)

// fieldParser reads field lines from b. s is the same text as a string: what is
// returned is cut from it.
type fieldParser struct {
	b      []byte
	s      string
	pos    int
	values []string // storage for values, see ParseHead
	lines  int      // estimate of the lines to come, for allocating more of it
	limit  int      // field lines that are still allowed

	seen seen
	lax  Lax
}

// line returns the next line without its end; ok is false when there is none.
func (p *fieldParser) line() (line []byte, ok bool) {
	rest := p.b[p.pos:]
	n := bytes.IndexByte(rest, '\n')
	if n < 0 {
		return nil, false
	}
	p.pos += n + 1
	if n > 0 && rest[n-1] == '\r' {
		return rest[:n-1], true
	}
	p.lax |= LaxBareLF
	return rest[:n], true
}

// folded reports whether the next line continues the one before it.
func (p *fieldParser) folded() bool {
	return p.pos < len(p.b) && isOWS(p.b[p.pos])
}

// parse reads field lines into h up to the empty line. A violation is returned as
// its kind and words for it, kind 0 meaning none.
func (p *fieldParser) parse(h http.Header) (Kind, string) {
	if p.folded() {
		// RFC 9112 §2.2: whitespace between the start line and the first field is
		// to be rejected, or to be consumed along with whatever it precedes.
		return Malformed, "first field line begins with whitespace"
	}
	for {
		start := p.pos
		line, ok := p.line()
		if !ok {
			return Malformed, "incomplete head"
		}
		if len(line) == 0 {
			return 0, ""
		}
		colon := bytes.IndexByte(line, ':')
		if colon < 0 {
			return Malformed, "field line without a colon"
		}
		name, spaced, ok := canonical(line[:colon], p.s[start:start+colon])
		if !ok {
			return Malformed, "malformed field name"
		}
		if spaced {
			p.lax |= LaxNameSpace
		}
		i, j := start+colon+1, start+len(line)
		for i < j && isOWS(p.b[i]) {
			i++
		}
		for i < j && isOWS(p.b[j-1]) {
			j--
		}
		if !isValue(p.b[i:j]) {
			return Malformed, "control character in a field value"
		}
		value := p.s[i:j]
		if p.folded() {
			if value, ok = p.unfold(value); !ok {
				return Malformed, "malformed folded field line"
			}
		}
		if p.limit--; p.limit < 0 {
			return TooLarge, "too many fields"
		}
		p.add(h, name, value)
	}
}

// unfold appends the continuation lines that follow, each as one space and its
// text ("replace each received obs-fold with one or more SP octets", RFC 9112
// §5.2).
func (p *fieldParser) unfold(first string) (value string, ok bool) {
	buf := []byte(first)
	for p.folded() {
		line, ok := p.line()
		if !ok || !isValue(line) {
			return "", false
		}
		buf = append(append(buf, ' '), trimOWS(line)...)
	}
	p.lax |= LaxObsFold
	for len(buf) > 0 && buf[0] == ' ' {
		buf = buf[1:] // the value began on a later line than the name
	}
	return string(buf), true
}

// add appends value to the field name of h.
func (p *fieldParser) add(h http.Header, name, value string) {
	switch name {
	case "Connection":
		p.seen |= seenConnection
	case "Keep-Alive":
		p.seen |= seenKeepAlive
	case "Content-Length":
		p.seen |= seenLength
	case "Transfer-Encoding":
		p.seen |= seenCoding
	case "Trailer":
		p.seen |= seenTrailer
	case "Pragma":
		p.seen |= seenPragma
	}
	p.lines--
	if have := h[name]; have != nil {
		h[name] = append(have, value)
		return
	}
	if len(p.values) == 0 {
		p.values = make([]string, min(max(p.lines+1, 1), 64))
	}
	h[name] = one(&p.values, value)
}

// one returns a slice that holds value alone, cut from *values or allocated. Its
// capacity is 1, so that appending to it touches no other.
func one(values *[]string, value string) []string {
	v := *values
	if len(v) == 0 {
		return []string{value}
	}
	v[0] = value
	*values = v[1:]
	return v[:1:1]
}
