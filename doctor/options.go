package doctor

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/berth-go/berth/internal/source"
)

// Options of an examination. The zero Options look at everything for two seconds.
type Options struct {
	Interval     time.Duration    // between two looks; 0 is 2 s, below 10 ms is an error
	PIDs         []int            // findings of these processes alone; nil is all. Must live in one network namespace
	Destinations []netip.AddrPort // findings of these alone; port 0 is any; nil is all
	From         []string         // programs that serve Transport.Handler: http URL, or unix:PATH of a socket
	Lang         string           // "en" or "zh"; "" is "en"
	Limits       Limits           // what is too much
}

// Limits say from when on something is a finding. In each field zero is the default, and
// negative never finds. Shares are of 1.
type Limits struct {
	// PortsWarn and PortsFail are shares of the ports to one destination. 0.5: from half
	// on Linux looks for a free port twenty times longer. 0.9: the rest goes in seconds.
	PortsWarn, PortsFail float64
	// ChurnRate is new connections a second of one process to one destination, most of
	// which end soon. 10: a pool that reuses opens fewer in a minute.
	ChurnRate float64
	// TimeWait is clients' sockets in TIME_WAIT. 5,000: a sixth of the ports, if all
	// went to one destination.
	TimeWait int
	// CloseWait and CloseWaitFail are sockets of a process in CLOSE_WAIT at both looks. 10:
	// a pool holds a few that it will notice at their next use. 500: half of the usual
	// limit of descriptors.
	CloseWait, CloseWaitFail int
	// FinWait2 is sockets of a process in FIN_WAIT_2 at both looks. 10: a half-closed
	// connection is rare, and nothing ends it while the process keeps it.
	FinWait2 int
	// SynSent is connections of one destination being opened at both looks. 3: one may
	// be a lost packet.
	SynSent int
	// Unread is bytes that arrived on a client's connection and that nobody read between
	// the looks. 1024: above the session tickets that TLS servers send unasked.
	Unread int
	// FilesWarn and FilesFail are shares of a process's limit of descriptors, and of the
	// host's. 0.8 and 0.95.
	FilesWarn, FilesFail float64
	// TableWarn and TableFail are shares of the kernel's own limits: conntrack, TIME_WAIT
	// buckets, TCP memory, orphans. 0.8 and 0.95.
	TableWarn, TableFail float64
}

func (l Limits) withDefaults() Limits {
	def(&l.PortsWarn, 0.5)
	def(&l.PortsFail, 0.9)
	def(&l.ChurnRate, 10)
	def(&l.TimeWait, 5000)
	def(&l.CloseWait, 10)
	def(&l.CloseWaitFail, 500)
	def(&l.FinWait2, 10)
	def(&l.SynSent, 3)
	def(&l.Unread, 1024)
	def(&l.FilesWarn, 0.8)
	def(&l.FilesFail, 0.95)
	def(&l.TableWarn, 0.8)
	def(&l.TableFail, 0.95)
	return l
}

// def makes zero the default and negative more than there can be.
func def[T int | float64](v *T, or T) {
	switch {
	case *v == 0:
		*v = or
	case *v < 0:
		*v = 1 << 27
	}
}

// OptionError: an option is wrong.
type OptionError struct {
	Option string
	Reason string
}

func (e *OptionError) Error() string { return fmt.Sprintf("doctor: %s: %s", e.Option, e.Reason) }

func (o Options) withDefaults() (Options, error) {
	if o.Interval == 0 {
		o.Interval = 2 * time.Second
	}
	if o.Interval < 10*time.Millisecond {
		return o, &OptionError{"interval", fmt.Sprintf("%v is below 10ms", o.Interval)}
	}
	switch o.Lang {
	case "":
		o.Lang = "en"
	case "en", "zh":
	default:
		return o, &OptionError{"language", fmt.Sprintf("%q is neither en nor zh", o.Lang)}
	}
	for _, pid := range o.PIDs {
		if pid <= 0 {
			return o, &OptionError{"pid", fmt.Sprintf("%d is no process", pid)}
		}
	}
	for _, d := range o.Destinations {
		if !d.Addr().IsValid() {
			return o, &OptionError{"destination", "has no address"}
		}
	}
	for _, from := range o.From {
		if _, err := source.Parse(from); err != nil {
			return o, &OptionError{"from", err.Error()}
		}
	}
	o.Limits = o.Limits.withDefaults()
	return o, nil
}
