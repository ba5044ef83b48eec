package lab

import (
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-go/berth/internal/origin"
)

// strained is a server that can do only so much: of what arrives outageWorkers are worked
// on at a time, in the order in which they came, a failure as long as a success, and
// whether somebody still waits for the answer or not.
type strained struct {
	*server
	start   time.Time
	failing atomic.Int64 // so many tenths
	slots   chan struct{}

	mu     sync.Mutex
	queued int
	done   int64
	came   []int // by the phase of the call
	rate   *rate
}

// What the server can do is twice what its callers ask for: 200 requests a second.
const (
	outageWorkers = 16
	outageWork    = 80 * time.Millisecond
	outageQueue   = 100 // wait, half a second; a request beyond them is refused at once
)

const (
	worked  = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	broken  = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
	tooMany = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
)

func serveStrained(variant byte) (*strained, error) {
	ln, err := listen(52, variant)
	if err != nil {
		return nil, err
	}
	s := &strained{start: time.Now(), slots: make(chan struct{}, outageWorkers), came: make([]int, wellAgain+1), rate: newRate("requests that arrive a second")}
	o := origin.New(ln)
	s.server = &server{o, addrOf(ln)}
	o.Handle(func(c *origin.Conn) {
		for {
			req, err := c.ReadHead()
			if err != nil {
				return
			}
			says := tooMany
			if s.enter(req.Request) {
				if says = s.work(c); says == "" {
					return
				}
			}
			if c.Write(says) != nil {
				return
			}
		}
	})
	return s, nil
}

// enter counts a request, and says whether there is a place in the queue for it. The length
// of its path is the phase in which it was called.
func (s *strained) enter(req *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.came[min(len(req.URL.Path)-1, wellAgain)]++
	s.rate.add(time.Since(s.start), 1)
	if s.queued >= outageQueue {
		return false
	}
	s.queued++
	return true
}

// work waits for its turn and works; "" says that the server has ended.
func (s *strained) work(c *origin.Conn) string {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-s.Done():
		return ""
	}
	s.mu.Lock()
	s.queued--
	s.done++
	n := s.done
	s.mu.Unlock()
	if !c.Sleep(outageWork) {
		return ""
	}
	if tenths := s.failing.Load(); n*tenths%10 < tenths {
		return broken
	}
	return worked
}

// arrivals returns how many requests came, by the phase of their calls.
func (s *strained) arrivals() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.came)
}

// arriving is how many came a second.
func (s *strained) arriving() Series {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rate.series()
}
