package prom

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-go/berth"
)

// Config configures a Collector. The zero Config is a good one.
type Config struct {
	// ConstLabels are put on every metric. Collectors of several transports in one
	// registry need them, with different values: {"transport": "payments"}.
	ConstLabels prometheus.Labels

	// MaxServers bounds the servers that are told apart; a host has one for each scheme,
	// port and group. Default 1,000. Servers beyond it are summed under the host "_other".
	// It bounds the destinations of the metrics of ports as well, of which those with the
	// most ports taken are shown. Negative: no bound.
	MaxServers int
}

const (
	defaultMaxServers = 1000

	// otherHost is the host of the servers that have no series of their own.
	otherHost = "_other"
)

// Collector is a prometheus.Collector over a transport. It counts nothing itself, but
// remembers what endpoints had counted that the transport has forgotten since, so that
// counters of a server never fall. It keeps the transport from being collected as long as
// something refers to it. Safe for concurrent use, by several scrapes too.
type Collector struct {
	tr         *berth.Transport
	maxServers int
	families   []*family
	constant   labels

	// mu guards what follows. Nothing is sent while it is held; the pools' own locks are
	// taken one at a time.
	mu      sync.Mutex
	members map[berth.Endpoint]*member
	rows    map[berth.Server]*row
	other   *row           // nil as long as there is room
	reasons []string       // why connections were closed, as first seen
	reason  map[string]int // index in reasons
	scrapes int
	samples int // of the last scrape
}

// New returns a Collector over tr, to be registered by the caller. The error is a
// *berth.ConfigError.
func New(tr *berth.Transport, cfg Config) (*Collector, error) {
	if tr == nil {
		return nil, &berth.ConfigError{Field: "prom.New", Reason: "no transport"}
	}
	if err := validate(cfg.ConstLabels); err != nil {
		return nil, &berth.ConfigError{Field: "prom.Config.ConstLabels", Reason: err.Error()}
	}
	c := &Collector{tr: tr, maxServers: cfg.MaxServers, families: newFamilies(cfg.ConstLabels),
		members: map[berth.Endpoint]*member{}, rows: map[berth.Server]*row{}, reason: map[string]int{}}
	if c.maxServers == 0 {
		c.maxServers = defaultMaxServers
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.ConstLabels)) {
		c.constant = append(c.constant, pair(name, cfg.ConstLabels[name]))
	}
	c.constant = slices.Clip(c.constant)
	return c, nil
}

var labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// validate says what is wrong with constant labels. A registry would say it of the first
// metric.
func validate(constant prometheus.Labels) error {
	for name, value := range constant {
		switch {
		case !labelName.MatchString(name), strings.HasPrefix(name, "__"):
			return fmt.Errorf("%q is no name of a label", name)
		case slices.Contains(ownLabels, name):
			return fmt.Errorf("%q is a label that metrics have already", name)
		case !utf8.ValidString(value):
			return fmt.Errorf("the value of %q is not UTF-8", name)
		}
	}
	return nil
}

// Describe sends the descriptions of all metrics.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range c.families {
		ch <- f.desc
	}
}

// Collect reads the transport's statistics and sends them.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	s := c.scrape()
	for i := range s.values {
		ch <- &s.values[i]
	}
	for i := range s.histograms {
		ch <- &s.histograms[i]
	}
}
