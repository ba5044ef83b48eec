package berth

import (
	"net/http"
	"time"

	"github.com/berth-go/berth/internal/pool"
)

// LeaseInfo describes a lease: one request's hold on a connection, from the moment it gets
// it to the end of the response body.
type LeaseInfo struct {
	Method    string        `json:"method"`
	Path      string        `json:"path"`  // without the query
	Phase     string        `json:"phase"` // "sending request", "awaiting response", "reading body", "body unread", "draining body"
	Held      time.Duration `json:"held"`
	SinceByte time.Duration `json:"since_byte"` // since the response last brought something; negative when it has not

	// Unread is how long nobody has read the body, to the second; 0 in every phase but
	// "body unread". Suspect says that this is Policy.LeakAfter or more.
	Unread  time.Duration `json:"unread,omitempty"`
	Suspect bool          `json:"suspect,omitempty"`

	// Site is where the request was made: file, line and function, the innermost outside
	// net/http and Berth. Stack has all, the innermost first. They are known of a sample, of
	// every lease of an endpoint that starved within the last minute or has lost a body
	// within the last ten, and of all leases of one with little to do; else empty.
	Site  string   `json:"site,omitempty"`
	Stack []string `json:"stack,omitempty"`

	Local  string `json:"local"` // address and port of the connection
	Remote string `json:"remote"`
}

func newLeaseInfo(l pool.LeaseInfo) LeaseInfo {
	i := LeaseInfo{Method: l.Method, Path: l.Path, Phase: l.Phase.String(), Held: l.Held, SinceByte: l.SinceByte,
		Unread: l.Unread, Suspect: l.Suspect}
	if i.Method == "" {
		i.Method = http.MethodGet
	}
	if i.Path == "" {
		i.Path = "/"
	}
	i.Site, i.Stack = siteOf(l.Site)
	if c := connOf(l.Conn); c != nil {
		at := c.info()
		i.Local, i.Remote = at.Local, at.Remote
	}
	return i
}
