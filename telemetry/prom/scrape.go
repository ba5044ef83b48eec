package prom

import (
	"cmp"
	"math"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/berth-go/berth"
)

// scrape is what one scrape found. Its metrics are values of their own rather than
// prometheus.MustNewConstMetric's, so that the labels of a series, which are most of a
// scrape's memory, are made once.
type scrape struct {
	values     []value
	histograms []buckets
}

func (c *Collector) scrape() *scrape {
	c.mu.Lock()
	s := &scrape{values: make([]value, 0, c.samples+c.samples/8)}
	c.read()
	for _, r := range c.allRows() {
		c.rowInto(s, r)
	}
	s.add(c.families[famEndpoints], c.constant, float64(c.live()))
	c.samples = len(s.values)
	c.mu.Unlock()

	s.add(c.families[famLeakSites], c.constant, float64(len(c.tr.Leaks())))
	c.portsInto(s)
	return s
}

// live is how many endpoints the last scrape found.
func (c *Collector) live() int { return len(c.members) }

// rowInto adds the series of one server.
func (c *Collector) rowInto(s *scrape, r *row) {
	total := r.live.plus(r.retired) // live is made anew at each scrape
	r.live = total
	one := func(family int, v float64) {
		s.add(c.families[family], c.seriesOf(r, family, 0, ""), v)
	}
	each := func(family int, v ...float64) {
		f := c.families[family]
		for i := range v {
			s.add(f, c.seriesOf(r, family, i, f.values[i]), v[i])
		}
	}
	counters := func(family, at int) {
		f := c.families[family]
		for i, name := range f.values {
			s.add(f, c.seriesOf(r, family, i, name), float64(total.at(at+i)))
		}
	}
	each(famConnections, float64(r.state.dialing), float64(r.state.leased), float64(r.state.idle), float64(r.state.draining))
	if r.members > 0 && !r.state.unlimited {
		one(famConnectionsMax, float64(r.state.max))
	}
	one(famWaiting, float64(r.state.waiting))
	one(famOldestWait, r.state.oldest.Seconds())
	one(famRequests, float64(total.at(atRequests)))
	one(famReused, float64(total.at(atReused)))
	counters(famDials, atDials)
	counters(famRejected, atRejected)
	counters(famClosedBy, atBy)
	counters(famLeaksTotal, atLeaks)
	each(famLeaks, float64(r.state.suspects))
	for i, reason := range c.reasons {
		if n := total.at(atClosed + i); n > 0 {
			s.add(c.families[famClosed], c.seriesOf(r, famClosed, i, reason), float64(n))
		}
	}
	s.addBuckets(c.families[famWait].desc, c.seriesOf(r, famWait, 0, ""), total, atWait)
	s.addBuckets(c.families[famHold].desc, c.seriesOf(r, famHold, 0, ""), total, atHold)
}

// seriesOf returns the labels of a row's series: the i-th of the family, whose own label
// has that value.
func (c *Collector) seriesOf(r *row, family, i int, value string) labels {
	for len(r.series[family]) <= i {
		r.series[family] = append(r.series[family], nil)
	}
	l := r.series[family][i]
	if l == nil {
		if f := c.families[family]; f.label != "" {
			l = labels{pair(f.label, value)}
		}
		l = sorted(l, r.labels, c.constant)
		r.series[family][i] = l
	}
	return l
}

// portsInto adds what destinations take of the ports: those that take most, where there
// are more than the bound.
func (c *Collector) portsInto(s *scrape) {
	usage := c.tr.Ports()
	if c.maxServers > 0 && len(usage) > c.maxServers {
		slices.SortStableFunc(usage, func(a, b berth.PortUsage) int { return cmp.Compare(b.Used(), a.Used()) })
		usage = usage[:c.maxServers]
	}
	for _, u := range usage {
		of, destination := "host", u.Destination
		if u.Budget {
			of = "budget"
		}
		if destination == "" {
			destination = "_all"
		}
		l := sorted(labels{pair("destination", destination), pair("of", of)}, c.constant)
		s.add(c.families[famPortsLive], l, float64(u.Live))
		s.add(c.families[famPortsHeld], l, float64(u.Held))
		if u.Ports > 0 {
			s.add(c.families[famPorts], l, float64(u.Ports))
			s.add(c.families[famPortsUsed], l, u.Used())
		}
	}
}

// ---- metrics ----

// labels are sorted by name, never change, and have no room behind: the registry's
// wrappers append to them.
type labels []*dto.LabelPair

func pair(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }

func sorted(lists ...labels) labels {
	l := labels(slices.Concat(lists...))
	slices.SortFunc(l, func(a, b *dto.LabelPair) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return slices.Clip(l)
}

// value is a counter or a gauge.
type value struct {
	family *family
	labels labels
	v      float64
}

func (s *scrape) add(f *family, l labels, v float64) { s.values = append(s.values, value{f, l, v}) }

// Desc is part of prometheus.Metric.
func (v *value) Desc() *prometheus.Desc { return v.family.desc }

// Write is part of prometheus.Metric.
func (v *value) Write(out *dto.Metric) error {
	out.Label = v.labels
	if v.family.kind == counter {
		out.Counter = &dto.Counter{Value: &v.v}
	} else {
		out.Gauge = &dto.Gauge{Value: &v.v}
	}
	return nil
}

// buckets is a histogram.
type buckets struct {
	desc   *prometheus.Desc
	labels labels
	n      [numBuckets]uint64
}

func (s *scrape) addBuckets(d *prometheus.Desc, l labels, total counts, at int) {
	h := buckets{desc: d, labels: l}
	for i := range h.n {
		h.n[i] = total.at(at + i)
	}
	s.histograms = append(s.histograms, h)
}

// Desc is part of prometheus.Metric.
func (h *buckets) Desc() *prometheus.Desc { return h.desc }

// notKnown is the sum of a histogram: a transport counts in which bucket a duration fell
// and adds none up. A sum of 0, or one made of the bounds, would look like a mean.
var notKnown = math.NaN()

// Write is part of prometheus.Metric.
func (h *buckets) Write(out *dto.Metric) error {
	list := make([]dto.Bucket, numBounds)
	cumulative := make([]uint64, numBuckets)
	bounds := make([]float64, numBounds)
	pointers := make([]*dto.Bucket, numBounds)
	var n uint64
	for i := range h.n {
		n += h.n[i]
		cumulative[i] = n
		if i == numBounds {
			break // beyond the last bound: the count alone has it
		}
		bounds[i] = bound(i).Seconds()
		b := &list[i]
		b.CumulativeCount, b.UpperBound = &cumulative[i], &bounds[i]
		pointers[i] = b
	}
	sum := notKnown
	out.Label = h.labels
	out.Histogram = &dto.Histogram{SampleCount: &cumulative[numBounds], SampleSum: &sum, Bucket: pointers}
	return nil
}
