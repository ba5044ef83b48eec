package prom

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// family is a metric's name, and what its series have in common.
type family struct {
	name, help string
	kind       dto.MetricType
	server     bool     // it has the labels of a server
	label      string   // and this one; "" for none
	values     []string // of it; nil when they are not known beforehand
	more       []string // further labels

	desc *prometheus.Desc
}

// serverLabels are those of metrics about a server; ownLabels all that any metric has.
var (
	serverLabels = []string{"scheme", "host", "port", "group"}
	ownLabels    = append([]string{"state", "result", "reason", "by", "destination", "of", "le"}, serverLabels...)
)

// Where families are in Collector.families.
const (
	famEndpoints = iota
	famConnections
	famConnectionsMax
	famWaiting
	famOldestWait
	famRequests
	famReused
	famDials
	famRejected
	famClosed
	famClosedBy
	famLeaks
	famLeaksTotal
	famLeakSites
	famWait
	famHold
	famPorts
	famPortsLive
	famPortsHeld
	famPortsUsed
)

const (
	counter   = dto.MetricType_COUNTER
	gauge     = dto.MetricType_GAUGE
	histogram = dto.MetricType_HISTOGRAM
)

func newFamilies(constant prometheus.Labels) []*family {
	portLabels := []string{"destination", "of"}
	list := []*family{
		famEndpoints: {name: "endpoints", kind: gauge,
			help: "Endpoints that hold a connection or a waiting request, or did so during the last minutes."},
		famConnections: {name: "connections", kind: gauge, server: true, label: "state", values: connStates,
			help: "Connections by state. Their sum counts against the limit."},
		famConnectionsMax: {name: "connections_max", kind: gauge, server: true,
			help: "The limit of connections, Policy.MaxConns. Absent when there is none."},
		famWaiting: {name: "waiting", kind: gauge, server: true,
			help: "Requests that wait for a connection."},
		famOldestWait: {name: "oldest_wait_seconds", kind: gauge, server: true,
			help: "How long the oldest of them has waited so far, 0 when none waits."},
		famRequests: {name: "requests_total", kind: counter, server: true,
			help: "Requests that got a connection, retries included."},
		famReused: {name: "reused_total", kind: counter, server: true,
			help: "Requests on a connection that had carried one before."},
		famDials: {name: "dials_total", kind: counter, server: true, label: "result", values: dialResults,
			help: "Dials by their end."},
		famRejected: {name: "rejected_total", kind: counter, server: true, label: "reason", values: rejectReasons,
			help: "Requests that got no connection, by reason."},
		famClosed: {name: "closed_total", kind: counter, server: true, label: "reason",
			help: "Connections closed, by reason. Reasons that did not occur are absent."},
		famClosedBy: {name: "closed_by_total", kind: counter, server: true, label: "by", values: closedBy,
			help: "Connections closed, by who closed first and keeps the port in TIME_WAIT."},
		famLeaks: {name: "leaks", kind: gauge, server: true, label: "state", values: []string{"suspect"},
			help: "Response bodies that nobody has read for Policy.LeakAfter."},
		famLeaksTotal: {name: "leaks_total", kind: counter, server: true, label: "state", values: leakStates,
			help: "Response bodies that looked forgotten, and that the garbage collector found to be."},
		famLeakSites: {name: "leak_sites", kind: gauge,
			help: "Places in the program whose response bodies looked forgotten or were, 1,000 at most."},
		famWait: {name: "wait_seconds", kind: histogram, server: true,
			help: "How long requests waited for a connection that had to wait. The sum is not known, NaN."},
		famHold: {name: "hold_seconds", kind: histogram, server: true,
			help: "How long requests held a connection. The sum is not known, NaN."},
		famPorts: {name: "ports", kind: gauge, more: portLabels,
			help: "Ports that there are to a destination."},
		famPortsLive: {name: "ports_live", kind: gauge, more: portLabels,
			help: "Ports taken that have a connection."},
		famPortsHeld: {name: "ports_held", kind: gauge, more: portLabels,
			help: "Ports taken that have none, in TIME_WAIT or held by a gateway."},
		famPortsUsed: {name: "ports_used_ratio", kind: gauge, more: portLabels,
			help: "The share of the ports that are taken, 0 to 1."},
	}
	for _, f := range list {
		f.name = "berth_pool_" + f.name
		f.desc = prometheus.NewDesc(f.name, f.help, f.labelNames(), constant)
	}
	return list
}

// labelNames returns the names of the family's labels without the constant ones.
func (f *family) labelNames() (names []string) {
	if f.server {
		names = append(names, serverLabels...)
	}
	if f.label != "" {
		names = append(names, f.label)
	}
	return append(names, f.more...)
}
