package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berth-go/berth/sockets"
)

// What the conntrack experiment asks of netfilter: that it tracks, that it does not,
// and entries in its table (nfnetlink, linux/netfilter/nf_tables.h and
// nfnetlink_conntrack.h).

const trackTable = "berth"

// track has netfilter track the namespace's connections: it does as soon as a rule
// looks at their state.
func (n *network) track() error {
	return rule("track", 0, attribute(unix.NFTA_LIST_ELEM, attribute(unix.NFTA_EXPR_NAME, zeroEnded("ct")), attribute(unix.NFTA_EXPR_DATA,
		attribute(unix.NFTA_CT_KEY, network32(unix.NFT_CT_STATE)), attribute(unix.NFTA_CT_DREG, network32(unix.NFT_REG32_00)))))
}

// exempt has netfilter track nothing that leaves.
func (n *network) exempt() error {
	const raw = -300 // NF_IP_PRI_RAW: before connections are tracked
	return rule("exempt", raw, attribute(unix.NFTA_LIST_ELEM, attribute(unix.NFTA_EXPR_NAME, zeroEnded("notrack"))))
}

// rule adds a chain for what this namespace sends, with one rule.
func rule(chain string, priority int32, expression []byte) error {
	const localOut = 3 // NF_INET_LOCAL_OUT
	of := func(kind, flags uint16, attributes ...[]byte) []byte {
		return message(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, netfilterHead(unix.AF_INET, 0), attributes...)
	}
	batch := message(unix.NFNL_MSG_BATCH_BEGIN, 0, netfilterHead(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES))
	batch = append(batch, of(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, attribute(unix.NFTA_TABLE_NAME, zeroEnded(trackTable)))...)
	batch = append(batch, of(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, attribute(unix.NFTA_CHAIN_TABLE, zeroEnded(trackTable)),
		attribute(unix.NFTA_CHAIN_NAME, zeroEnded(chain)), attribute(unix.NFTA_CHAIN_TYPE, zeroEnded("filter")),
		attribute(unix.NFTA_CHAIN_HOOK, attribute(unix.NFTA_HOOK_HOOKNUM, network32(localOut)), attribute(unix.NFTA_HOOK_PRIORITY, network32(uint32(priority)))))...)
	batch = append(batch, of(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND|unix.NLM_F_ACK, attribute(unix.NFTA_RULE_TABLE, zeroEnded(trackTable)),
		attribute(unix.NFTA_RULE_CHAIN, zeroEnded(chain)), attribute(unix.NFTA_RULE_EXPRESSIONS, expression))...)
	batch = append(batch, message(unix.NFNL_MSG_BATCH_END, 0, netfilterHead(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES))...)
	if err := netlink(unix.NETLINK_NETFILTER, "rule "+chain, batch); err != nil {
		return lacking("nf_tables", err)
	}
	return nil
}

// netfilterHead is a struct nfgenmsg.
func netfilterHead(family byte, resource uint16) []byte {
	return append([]byte{family, 0}, network16(resource)...)
}

func network16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
func network32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// States of a tracked connection (linux/netfilter/nf_conntrack_tcp.h).
const (
	trackedEstablished = 3
	trackedTimeWait    = 7
)

// fill puts connections that were never made into the table until it takes no more.
func (n *network) fill(state byte) error {
	most, err := sockets.Sysctl("net.netfilter.nf_conntrack_max")
	if err != nil {
		return lacking("nf_conntrack_max", err)
	}
	limit, err := strconv.Atoi(most)
	if err != nil {
		return err
	}
	if limit > trackedMost {
		return lacking("the host's nf_conntrack_max", fmt.Errorf("%d entries are more than a test should take memory for", limit))
	}
	const together = 256 // messages in a datagram
	for from := 0; ; from += together {
		var batch []byte
		for i := from; i < from+together; i++ {
			flags := uint16(unix.NLM_F_CREATE | unix.NLM_F_EXCL)
			if i == from+together-1 {
				flags |= unix.NLM_F_ACK
			}
			batch = append(batch, entry(uint32(i), state, flags)...)
		}
		err := netlink(unix.NETLINK_NETFILTER, "conntrack", batch)
		switch {
		case errors.Is(err, syscall.ENOMEM) && from > 0:
			return nil
		case err != nil:
			return lacking("entries of conntrack", err)
		case from > limit+together:
			return fmt.Errorf("%d entries, and the limit of %d is not reached", from, limit)
		}
	}
}

// entry is the request for the i-th connection, between addresses of RFC 2544's
// range for tests.
func entry(i uint32, state byte, flags uint16) []byte {
	src, dst := []byte{198, 18, 0, 1}, []byte{198, 19, byte(i >> 24), byte(i >> 16)}
	const sport = 1024
	tuple := func(kind uint16, src, dst []byte, sport, dport uint16) []byte {
		return attribute(kind,
			attribute(unix.NFNL_NFA_NEST|ctaTupleIP, attribute(1, src), attribute(2, dst)),
			attribute(unix.NFNL_NFA_NEST|ctaTupleProto, attribute(1, []byte{unix.IPPROTO_TCP}), attribute(2, network16(sport)), attribute(3, network16(dport))))
	}
	const seenReply, assured, confirmed = 1 << 1, 1 << 2, 1 << 3
	return message(unix.NFNL_SUBSYS_CTNETLINK<<8|ctNew, flags, netfilterHead(unix.AF_INET, 0),
		tuple(unix.NFNL_NFA_NEST|ctaTupleOrig, src, dst, sport, uint16(i)), tuple(unix.NFNL_NFA_NEST|ctaTupleReply, dst, src, uint16(i), sport),
		attribute(ctaStatus, network32(seenReply|assured|confirmed)), attribute(ctaTimeout, network32(300)),
		attribute(unix.NFNL_NFA_NEST|ctaProtoinfo, attribute(unix.NFNL_NFA_NEST|1, attribute(1, []byte{state}))))
}

// Of enum ctattr_type and its kin.
const (
	ctNew         = 0
	ctDelete      = 2
	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaStatus     = 3
	ctaProtoinfo  = 4
	ctaTimeout    = 7
	ctaTupleIP    = 1
	ctaTupleProto = 2
)

// forget empties the table.
func (n *network) forget() error {
	return netlink(unix.NETLINK_NETFILTER, "conntrack", message(unix.NFNL_SUBSYS_CTNETLINK<<8|ctDelete, unix.NLM_F_ACK, netfilterHead(unix.AF_INET, 0)))
}

// tracked returns how many connections the table has in a state, and the longest time
// that one of them still stays, in seconds.
func (n *network) tracked(state string) (entries, longest int, err error) {
	b, err := os.ReadFile("/proc/self/net/nf_conntrack")
	if err != nil {
		return 0, 0, lacking("the table of conntrack", err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 5 && f[5] == state { // ipv4 2 tcp 6 119 TIME_WAIT src=…
			entries++
			if seconds, err := strconv.Atoi(f[4]); err == nil {
				longest = max(longest, seconds)
			}
		}
	}
	return entries, longest, nil
}

// trackDrops returns the packets that were dropped for want of an entry, and the
// entries that others had to leave for.
func (n *network) trackDrops() (dropped, early int64, err error) {
	b, err := os.ReadFile("/proc/self/net/stat/nf_conntrack")
	if err != nil {
		return 0, 0, lacking("the counters of conntrack", err)
	}
	var names []string
	for line := range strings.Lines(string(b)) { // one of names, then one a processor
		f := strings.Fields(line)
		if names == nil {
			names = f
			continue
		}
		for i, v := range f {
			count, err := strconv.ParseInt(v, 16, 64)
			switch {
			case i >= len(names) || err != nil:
			case names[i] == "drop":
				dropped += count
			case names[i] == "early_drop":
				early += count
			}
		}
	}
	return dropped, early, nil
}

// moreFiles raises the limit of open files, as far as the hard limit goes.
func (n *network) moreFiles() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	l.Cur = l.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
}
