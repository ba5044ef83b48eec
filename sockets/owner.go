package sockets

import (
	"iter"
	"maps"
	"slices"
)

// Process is a process of this host, as far as this one may see it.
type Process struct {
	PID        int
	Name       string // the kernel's; 15 bytes at most on Linux, and what the program made of it
	Program    string // the first word of its command line; never an argument
	Files      int    // descriptors open; 0 when not told
	FilesLimit uint64 // how many it may open (soft RLIMIT_NOFILE); 0 when not told
	Namespace  string // of the network, as "net:[4026531840]"; "" when not told
}

// Owners says which process has which socket open.
type Owners struct {
	Processes map[int]Process // by process id
	Unseen    int             // processes whose open files this one may not list

	byInode map[uint64]int
}

// PID returns the process that has the socket of that inode open, the lowest where
// several have; 0 when none is known.
func (o *Owners) PID(inode uint64) int {
	if o == nil || inode == 0 {
		return 0
	}
	return o.byInode[inode]
}

// All gives the inode of every socket that a process has open, of any family, and that
// process.
func (o *Owners) All() iter.Seq2[uint64, int] {
	if o == nil {
		return maps.All(map[uint64]int(nil))
	}
	return maps.All(o.byInode)
}

// Attribute sets the PID of the sockets that have none yet and whose owner is known.
func (o *Owners) Attribute(list []Socket) {
	for i := range list {
		if list[i].PID == 0 {
			list[i].PID = o.PID(list[i].Inode)
		}
	}
}

// Listening returns a function that says whether a socket belongs to a server: whether
// its local port is one that a socket of the list listens on. The rest are a client's.
func Listening(list []Socket) func(Socket) bool {
	var on []Socket
	for _, s := range list {
		if s.State == Listen {
			on = append(on, s)
		}
	}
	ports := map[uint16][]Socket{}
	for _, s := range on {
		ports[s.Local.Port()] = append(ports[s.Local.Port()], s)
	}
	return func(s Socket) bool {
		return s.State == Listen || slices.ContainsFunc(ports[s.Local.Port()], func(l Socket) bool {
			return l.Local.Addr().IsUnspecified() || l.Local.Addr() == s.Local.Addr()
		})
	}
}
