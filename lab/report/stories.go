package report

import (
	"regexp"
	"strings"

	"github.com/berth-go/berth/lab"
)

// story is what people are told of an experiment: what a document claims, what was
// done, and what came out. A sentence of the last may name measurements as
// {variant|name}; it is left out where one of them is missing.
type story struct {
	claim, done string
	came        []string
	codes       []string
	plots       []plot
}

// tell returns the paragraphs.
func (st story) tell(e lab.Result) []string {
	var all []string
	if p := strings.TrimSpace(st.claim + " " + st.done); p != "" {
		all = append(all, p)
	}
	var out []string
	for _, s := range st.came {
		if filled, ok := fill(s, e); ok {
			out = append(out, filled)
		}
	}
	if len(out) > 0 {
		all = append(all, strings.Join(out, " "))
	}
	return all
}

var measurement = regexp.MustCompile(`\{([^{}|]+)\|([^{}|]+)\}`)

// fill puts the measurements into a sentence, unless one of them is missing.
func fill(sentence string, e lab.Result) (string, bool) {
	all := true
	filled := measurement.ReplaceAllStringFunc(sentence, func(m string) string {
		part := measurement.FindStringSubmatch(m)
		for _, v := range e.Variants {
			if value, ok := v.Measured[part[2]]; ok && v.Name == part[1] {
				if s, isText := value.(string); isText && s == lab.NotObserved {
					break
				}
				return text(value)
			}
		}
		all = false
		return ""
	})
	return filled, all
}

// after returns what follows a separator in a variant's name, or the whole.
func after(sep string) func(lab.Variant) string {
	return func(v lab.Variant) string {
		if i := strings.LastIndex(v.Name, sep); i >= 0 {
			return strings.TrimSpace(v.Name[i+len(sep):])
		}
		return v.Name
	}
}

// before returns what stands before a separator in a variant's name.
func before(sep string) func(lab.Variant, string) string {
	return func(v lab.Variant, _ string) string {
		if i := strings.LastIndex(v.Name, sep); i >= 0 {
			return strings.TrimSpace(v.Name[:i])
		}
		return v.Name
	}
}

func limitOf(v lab.Variant) string {
	if i := strings.Index(v.Name, " limit "); i >= 0 {
		return "at most" + v.Name[i+len(" limit"):]
	}
	return "unlimited"
}

func whoIsLimited(v lab.Variant, _ string) string {
	for _, who := range []string{"berth", "net/http", "raw loop"} {
		if strings.HasPrefix(v.Name, who) {
			return who
		}
	}
	return v.Name
}

const gatewayName = ", snat-128 (simulated)"

func withoutGateway(v lab.Variant) string { return strings.TrimSuffix(v.Name, gatewayName) }

func where(v lab.Variant) string {
	if simulated(v) {
		return "128 ports of a simulated gateway"
	}
	return "200 ports of this host"
}

func simulated(v lab.Variant) bool { return strings.Contains(v.Name, "simulated") }

// clientless shortens the names of rows that are net/http's with a connection a request.
func clientless(v lab.Variant, _ string) string {
	name := strings.TrimPrefix(v.Name, "net/http, a connection a request, ")
	if strings.Contains(name, "net/http, backlog") { // whose connections are kept
		return name
	}
	return strings.TrimPrefix(name, "net/http, ")
}

// inTimeWait keeps the rows of sysctls whose hundred ports go to TIME_WAIT.
func inTimeWait(v lab.Variant) bool {
	return len(v.Series) > 0 && strings.Contains(v.Name, "100 ports") && !strings.Contains(v.Name, "FIN_WAIT_2")
}

func onRealPorts(v lab.Variant) bool { return !simulated(v) }

// kneeLabel names the curves, which hang on each client's last row.
func kneeLabel(v lab.Variant, series string) string {
	who, _, _ := strings.Cut(v.Name, " at ")
	if series == "perfect p99" {
		if who != "berth" {
			return ""
		}
		return "p99 of a perfect queue"
	}
	return who + ", " + strings.TrimPrefix(series, "wait ")
}

func kneeHue(v lab.Variant, series string) string {
	if series == "perfect p99" {
		return "other"
	}
	return hueOf(v.Name)
}

const overlap = "Lines that coincide are both seen: net/http’s is the wider one beneath."

// storyOf returns the story of an experiment; of one that is not known, an empty one.
func storyOf(name string) story {
	switch name {
	case "limit":
		return story{
			codes: []string{"BERTH2003", "BERTH1001"},
			claim: "An article about .NET’s SocketsHttpHandler sends 200 requests at once with MaxConnectionsPerServer 2, then 10, and reports 8,013 and 2,123 ms.",
			done: "Here a server on loopback takes 80 ms for each answer. The same requests go through Berth, through net/http, and through a raw loop that only writes and reads bytes over that " +
				"many connections: nothing can be faster. While they run, the kernel is asked how many connections are established.",
			came: []string{
				"With 2 connections Berth took {berth limit 2|wall_ms} ms and the raw loop {raw loop limit 2|wall_ms}; with 10, {berth limit 10|wall_ms} and {raw loop limit 10|wall_ms} ms.",
				"The kernel showed {berth limit 2|connections} and {berth limit 10|connections} of Berth’s connections; without a limit, {berth unlimited|connections}, and everything was done after {berth unlimited|wall_ms} ms.",
			},
			plots: []plot{
				{title: "Connections over time", caption: "Established, as the kernel shows them. Each panel has its own axes. " + overlap, series: []string{"connections"}, as: "step", x: "s", y: "connections", panel: limitOf, label: whoIsLimited, own: true},
				{title: "How long until the answer", caption: "All requests are there from the start: the share of them that was answered within so many milliseconds. A straight line is a queue that loses nothing.",
					series: []string{"latency ms by quantile"}, as: "line", x: "% of the requests", y: "ms", unit: "ms", panel: limitOf, label: whoIsLimited, own: true},
			},
		}
	case "lifetime":
		return story{
			codes: []string{"BERTH2011", "BERTH2012"},
			claim: "The same article sends five requests two seconds apart. With a PooledConnectionLifetime of ten minutes netstat shows one connection; with one second, four ports in TIME_WAIT and one connection.",
			done:  "Here Berth does the same with its Lifetime. net/http has no lifetime, so its rows use the idle timeout. Every port is followed in the kernel’s table.",
			came: []string{
				"With the long lifetime Berth used {berth lifetime 10 min|ports} port; with the short one {berth lifetime 1 s, idle 1 s|ports}, of which {berth lifetime 1 s, idle 1 s|time_wait} were in TIME_WAIT at the end and {berth lifetime 1 s, idle 1 s|established} was established.",
			},
			plots: []plot{{title: "Ports over time", caption: "A lane is a port, from when the kernel first showed it. An arrow at its end: the state lasted on. TIME_WAIT lasts a minute on Linux, whoever asked for the connection to end.",
				lanes: hasNoSegments, panel: byName}},
		}
	case "client-per-request":
		return story{
			codes: []string{"BERTH2002", "BERTH1004"},
			claim: "An entry about socket exhaustion blames clients that are made for each request, and lists ways out that are none: a using block, and a higher limit of connections.",
			done: "Here each way sends its requests one after the other, and the kernel is asked what is left. Then the same has a range of a hundred ports, until a request fails. " +
				"The last row tries the message that the entry is filed under: it is of a server where nobody listens, and has nothing to do with ports.",
			came: []string{
				"One shared transport of Berth’s used {berth shared|ports} port.",
				"A net/http client a request left {net/http a request, not disposed|established} established connections when nobody disposed of it, and {dead end: a using block (disposed)|time_wait} ports in TIME_WAIT when somebody did.",
				"With a hundred ports, a client a request failed at request {net/http a request, not disposed, 100 ports|failed_at}, and Berth used in that way at request {berth a request, closed, 100 ports|failed_at}.",
			},
			plots: []plot{{title: "Ports taken, as requests go by", caption: "What the kernel shows for the client’s side. Disposing changes the state, not the number.", series: []string{"established", "time_wait"}, as: "area",
				x: "requests", y: "ports", panel: byName}},
		}
	case "unread-body":
		return story{
			codes: []string{"BERTH2006"},
			claim: "A response body that is closed without being read to its end burns its connection: what is left of it would stand before the next answer.",
			done:  "Here eight workers close every body unread, for three sizes of it. Berth reads away what is worth it, up to 256 KiB by default. A third client is net/http that reads to the end.",
			came: []string{
				"With bodies of 128 B Berth opened {berth, 128 B|connections} connections and net/http {net/http, 128 B|connections}; with 100 KiB {berth, 100 KiB|connections} and {net/http, 100 KiB|connections}.",
				"A body of 1 MiB is more than is worth reading: there Berth opened {berth, 1 MiB|connections}, too.",
			},
			plots: []plot{
				{title: "Connections opened, by the size of the bodies", bars: "connections", panel: after(", "), label: before(", ")},
				{title: "Connections opened, as requests go by", caption: overlap, series: []string{"connections opened"}, as: "line", x: "requests", y: "connections", panel: after(", "), label: before(", ")},
			},
		}
	case "churn":
		return story{
			codes: []string{"BERTH2015"},
			claim: "http.DefaultTransport keeps two idle connections for a host. More workers than that hand their connections back to a pool that throws them away.",
			done:  "Here 64 workers send one request after the other, with the defaults of both, and with net/http as its users learn to set it.",
			came: []string{
				"For {berth, its defaults, 64 workers|requests} requests Berth opened {berth, its defaults, 64 workers|connections} connections. net/http opened {net/http, http.DefaultTransport's settings, 64 workers|connections} with its defaults, and {net/http, MaxIdleConnsPerHost 64, 64 workers|connections} with MaxIdleConnsPerHost 64.",
			},
			plots: []plot{
				{title: "Connections opened", bars: "connections", label: before(", 64 workers")},
				{title: "Connections opened, as requests go by", series: []string{"connections opened"}, as: "line", x: "requests", y: "connections", label: before(", 64 workers")},
			},
		}
	case "tcp-states":
		return story{
			codes: []string{"BERTH2012", "BERTH2013", "BERTH2014"},
			claim: "An article about HttpClientFactory explains TIME_WAIT with the four segments that end a connection, and has the client wait in it.",
			done: "Here one connection lives from its first segment to its last, closed by the client first and by the server first, through Berth and through plain sockets. The kernel tells of every change of state. " +
				"States that pass too fast to be seen are held open one by one.",
			came: []string{
				"When the client closed first, TIME_WAIT was on the side of the {berth, client closes first|time_wait}; when the server did, on that of the {berth, server closes first|time_wait}: whoever closes first waits.",
				"Of the nine states of a life, {berth, client closes first|states_seen} and {berth, server closes first|states_seen} were seen.",
				"TIME_WAIT lasted {kernel: TIME_WAIT lasts|seconds} seconds.",
			},
			plots: []plot{{title: "Who was in which state when", caption: "A segment’s arrow begins as its sender’s state changes; sequence numbers as in the article. A pale state was not seen to begin.", lanes: hasSegments, panel: byName}},
		}
	case "knee":
		return story{
			codes: []string{"BERTH2005"},
			claim: "An article about connection limits and the Azure SDK warns of latency spikes as soon as more is asked for than the limit carries.",
			done: "Here ten connections carry requests that come at random, at a share of what ten can carry. The wait beyond the server’s own time is set against a perfect queue, which loses nothing, " +
				"over the very same requests.",
			came: []string{
				"At half of the load 99 % of Berth’s requests waited no longer than {berth at 50 %|wait_p99_ms} ms, at 90 % {berth at 90 %|wait_p99_ms} ms, and at 120 % {berth at 120 %|wait_p99_ms} ms.",
				"The knee is the queue’s, not the client’s: net/http waited {net/http at 90 %|wait_p99_ms} ms at 90 %.",
			},
			plots: []plot{{title: "Wait for a connection, over the load", caption: "p50 and p99; the axis upwards is logarithmic.", series: []string{"wait p50", "wait p99", "perfect p99"}, as: "line", log: true,
				x: "% of what ten connections carry", y: "wait, ms", unit: "ms", label: kneeLabel, hue: kneeHue}},
		}
	case "groups":
		return story{
			codes: []string{"BERTH2010", "BERTH1017"},
			claim: "A support article tells of ASP.NET pages that set a new ConnectionGroupName for every request: each name has a pool of its own, and as long as the host is busy none is cleared.",
			done:  "Here that design is rebuilt, with the three ways out that the article names, beside Berth’s groups with MaxGroups 20. Each request of a group is followed by one that keeps the host busy.",
			came: []string{
				"The documented design ended with {documented, a name a request|most_established} established connections for {documented, a name a request|requests} requests; Berth never had more than {berth, a name a request|most_established}.",
			},
			plots: []plot{{title: "Established connections, as requests go by", series: []string{"established"}, as: "line", x: "requests", y: "connections"}},
		}
	case "dns":
		return story{
			codes: []string{"BERTH2009"},
			claim: "A client that is shared and lives long keeps its connections, and so does not see that a name has moved: the old complaint about a static HttpClient.",
			done:  "Here a name moves from one address to another under load, after a third of the time. Its name server is the experiment’s own and grants a TTL of one second.",
			came: []string{
				"Berth’s last request to the old address came {berth|last_to_old_ms} ms after the move; with nothing but a lifetime of two seconds, {berth, a lifetime of 2 s alone|last_to_old_ms} ms.",
				"net/http still sent to it {net/http|last_to_old_ms} ms after the move, when the run ended.",
				"Requests that failed: {berth|failed}, {berth, a lifetime of 2 s alone|failed} and {net/http|failed}.",
			},
			plots: []plot{{title: "Share of requests that go to the new address", series: []string{"share of the new address"}, as: "step", x: "s", y: "share"}},
		}
	case "live-limits":
		return story{
			codes: []string{"BERTH2003"},
			claim: "ServicePoint reads its default limit when an endpoint is first used; what is set later has no effect on it. SocketsHttpHandler’s limit cannot be changed after the first request at all.",
			done:  "Here the limit goes from 2 to 10 to 3 while twenty workers send. Berth applies it to what is there. With net/http the way is another transport for each limit.",
			came: []string{
				"The kernel showed {berth, Apply|conns_at_2}, {berth, Apply|conns_at_10} and {berth, Apply|conns_at_3} of Berth’s connections; {berth, Apply|failed} requests failed.",
				"The three transports of net/http added up to {net/http, another transport for each limit|conns_at_2}, {net/http, another transport for each limit|conns_at_10} and {net/http, another transport for each limit|conns_at_3}.",
			},
			plots: []plot{
				{title: "Connections over time", series: []string{"connections"}, as: "step", x: "s", y: "connections"},
				{title: "Time of a request", caption: "Every few requests one, at its end.", series: []string{"time of a request"}, as: "points", x: "s", y: "ms", unit: "ms"},
			},
		}
	case "ports":
		return story{
			codes: []string{"BERTH1004", "BERTH2008", "BERTH2012"},
			claim: "A port in TIME_WAIT is lost for a while, so connections that are opened faster than ports come back use all of them up; clouds give out even fewer, 128 for an instance.",
			done: "Here requests come at a rate, whatever became of those before, and there are 200 ports: with connections that are reused, with one a request and several ways to close it, with a second source address. " +
				"Then a simulated gateway has 128 ports, at a hundredth of the platform’s times.",
			came: []string{
				"Of {berth, a connection a request|requests} requests with a connection each, {berth, a connection a request|failed} of Berth’s failed, since it waits for a port; {net/http, a connection a request|failed} of net/http’s did, the first after {net/http, a connection a request|exhausted_seen_ms} ms, where arithmetic says {net/http, a connection a request|exhausted_predicted_ms}.",
				"With the close by reset that Close auto takes where it is safe, 99 % of the requests took no longer than {berth, a connection a request, close auto|p99_ms} ms.",
				"At the gateway {berth, a connection a request, close auto, snat-128 (simulated)|failed} of Berth’s requests failed and {net/http, a connection a request, snat-128 (simulated)|failed} of net/http’s.",
			},
			plots: []plot{
				{title: "Ports taken over time", caption: "What the kernel shows of the client’s side.", series: []string{"established", "time_wait"}, as: "steps", x: "s", y: "ports", panel: byName, only: onRealPorts, levels: []note{{200, "200 ports"}}},
				{title: "Ports taken at the simulated gateway", caption: "In use by connections, and held after they were closed.", series: []string{"in use at the gateway", "held by the gateway"}, as: "steps", x: "s", y: "ports", panel: withoutGateway, only: simulated, levels: []note{{128, "128 ports"}}},
				{title: "Requests that failed", caption: "Counted up, by the time at which they were sent. Lines on the ground are those of clients for whom nothing failed.", series: []string{"failed"}, as: "line", x: "s", y: "failed requests", panel: where,
					label: func(v lab.Variant, _ string) string { return withoutGateway(v) }},
				{title: "Time of a request", caption: "By the time at which it was sent; those that failed have none. The axis upwards is logarithmic.", series: []string{"time of a request"}, as: "points", log: true, x: "s", y: "ms", unit: "ms", panel: byName},
			},
		}
	case "parity":
		return story{
			codes: []string{"BERTH1004"},
			claim: "Linux looks for a free port among the odd ones first, and among the even ones only when those are used up. With a range of its own, set by IP_LOCAL_PORT_RANGE, a socket is spared that.",
			done:  "Here connections fill more than half of the ephemeral ports to one destination, and connect is timed on the way, with the option as Berth sets it and without.",
			came: []string{
				"The median of connect past half of the range was {berth's socket option|slower} times that at a tenth with the option, and {without it|slower} times that without.",
			},
			plots: []plot{{title: "Time of connect, over the share of ports in use", caption: "p50 and p99; the axis upwards is logarithmic.", series: []string{"p50", "p99"}, as: "line", log: true, x: "share of the range in use", y: "µs", unit: "µs",
				label: func(v lab.Variant, s string) string { return v.Name + ", " + s }}},
		}
	case "herd":
		return story{
			codes: []string{"BERTH2011", "BERTH2029"},
			claim: "Connections that are opened together and live equally long end together: every lifetime brings a storm of reconnects.",
			done:  "Here a hundred workers open their connections at once. Berth keeps a gap between retirements; net/http gets a lifetime as applications add it, without jitter and with a tenth of it.",
			came: []string{
				"In the busiest tenth of a second Berth reconnected {berth, the retirement gap|most_reconnects} times, net/http {net/http with a lifetime, no jitter|most_reconnects} times without jitter and {net/http with a lifetime, 10 % jitter|most_reconnects} with it.",
				"Slowest in a hundred requests: {berth, the retirement gap|p99_ms}, {net/http with a lifetime, no jitter|p99_ms} and {net/http with a lifetime, 10 % jitter|p99_ms} ms.",
			},
			plots: []plot{{title: "Reconnects in each tenth of a second", caption: "The first connections are not counted.", series: []string{"reconnects in 100 ms"}, as: "bars", x: "s", y: "reconnects", panel: byName,
				levels: []note{{40, "a herd above"}}}},
		}
	case "starvation":
		return story{
			codes: []string{"BERTH1001", "BERTH2003", "BERTH2004", "BERTH2005"},
			claim: "Twenty uploads at once and two connections: the article about connection limits and the Azure SDK names three symptoms, requests that time out, latency that spikes, " +
				"throughput that stays low whatever is added. A pipeline that retries makes one error of four: “A task was canceled”.",
			done: "Here twenty workers upload through 2, 4, 8 and 20 connections. Each try has a timeout that covers the wait for a connection, as HttpClient’s does, and there are four.",
			came: []string{
				"With two connections Berth and net/http fare alike: {berth, 2 connections|timeouts} and {net/http, 2 connections|timeouts} tries end for want of time, {berth, 2 connections|failed} and {net/http, 2 connections|failed} uploads fail altogether. " +
					"The difference is what is said of it: net/http’s errors say that time ran out, Berth’s name the limit, who holds the connections, and the number that would do.",
				"Twenty connections carry {berth, 20 connections|uploads_per_s} uploads a second, and nothing waits.",
			},
			plots: []plot{
				{title: "How long uploads wait for a connection", caption: "The share of all tries that waited at most so many milliseconds. A wait that ended in a timeout counts as that long. " + overlap,
					series: []string{"latency ms by quantile"}, as: "line", x: "% of the tries", y: "ms", unit: "ms", panel: after(", "), label: whoIsLimited},
				{title: "Connections over time", caption: "Each panel has its own axes. " + overlap, series: []string{"connections"}, as: "step", x: "s", y: "established", panel: after(", "), label: whoIsLimited, own: true},
			},
		}
	case "undisposed":
		return story{
			codes: []string{"BERTH1018", "BERTH2006"},
			claim: "A response stream that is neither read to its end nor closed keeps its connection. The article on the Azure SDK says that each burns one for ever, until nothing is left to send with.",
			done:  "Here as many streams are forgotten as there may be connections; then requests are sent one after the other. The same is done with streams that are closed.",
			came: []string{
				"net/http never recovers: {net/http, forgotten|failed} requests fail and {net/http, forgotten|succeeded} succeed, though the collector runs before each.",
				"Berth asks the collector when requests starve, finds {berth, forgotten|reclaimed} bodies that nobody refers to, closes their connections and names the line, {berth, forgotten|site}: the first request succeeds after {berth, forgotten|recovered_ms} ms.",
			},
			plots: []plot{{title: "Connections over time", caption: "Streams that are closed leave nothing to see: their requests are over in milliseconds.", series: []string{"connections"}, as: "step", x: "s", y: "established",
				only: func(v lab.Variant) bool { return strings.HasSuffix(v.Name, "forgotten") }, label: whoIsLimited}},
		}
	case "close-wait":
		return story{
			codes: []string{"BERTH2013"},
			claim: "CLOSE_WAIT is the state of a side whose peer has closed: it stays until the program closes, too. Many of them point at a client that forgets to.",
			done:  "Here the server closes first: connections that are idle, and others in the middle of a response that the client has forgotten. The collector runs in every row.",
			came: []string{
				"Of {net.Conn, never closed|close_wait} sockets that nobody closes, {net.Conn, never closed|left_after_gc} stay; of {net/http, body forgotten|close_wait} under forgotten responses of net/http, {net/http, body forgotten|left_after_gc}; of Berth’s {berth, body forgotten|left_after_gc}.",
				"Idle ones are found by a sweep: {berth, idle|left_after_gc} are left.",
			},
			plots: []plot{{title: "Sockets in CLOSE_WAIT", series: []string{"CLOSE_WAIT"}, as: "step", x: "s", y: "sockets"}},
		}
	case "fin-wait":
		return story{
			codes: []string{"BERTH2014"},
			claim: "FIN_WAIT2 is the state of a side that has closed and waits for its peer to close, too. A peer that never does leaves it to the kernel’s timeout.",
			done:  "Here the client closes first, and the server never does. What the kernel’s timer says is read a moment later.",
			came: []string{
				"A socket that is closed goes by itself: {berth, peer never closes|fin_wait2} of Berth’s have {berth, peer never closes|seconds} s to go, {net/http, peer never closes|fin_wait2} of net/http’s {net/http, peer never closes|seconds} s.",
				"Of those of which a program has closed only the writing side there is {net.Conn, half-closed|seconds}.",
				"A reset leaves {berth, reset|fin_wait2}.",
			},
			plots: []plot{
				{title: "Sockets in FIN_WAIT2 after the close", bars: "fin_wait2", as: "bars", y: "sockets"},
				{title: "Until they are gone", series: []string{"FIN_WAIT2"}, as: "step", x: "s", y: "sockets"},
			},
		}
	case "infinite-pool":
		return story{
			codes: []string{"BERTH2007", "BERTH2008", "BERTH1004"},
			claim: "A pool without a limit sounds like the end of waiting. The article on the Azure SDK warns of it: platforms bound the connections of an instance, and a burst goes beyond.",
			done:  "Here a burst meets a host that takes a tenth as many connections and resets the others.",
			came: []string{
				"Without a limit {net/http, unlimited|failed} of {net/http, unlimited|requests} requests fail over net/http and {berth, unlimited|failed} over Berth.",
				"Limited to a fifth of what the host takes, all succeed over {berth, limited|connections} connections, the slowest in a hundred after {berth, limited|p99_ms} ms; with a budget of ports as large as the host’s limit over {berth, port budget|connections}, after {berth, port budget|p99_ms} ms.",
			},
			plots: []plot{
				{title: "Connections over time", series: []string{"connections"}, as: "step", x: "s", y: "established", panel: byName, own: true},
				{title: "How long requests take", caption: "The share of all requests that took at most so many milliseconds, those that failed included.",
					series: []string{"latency ms by quantile"}, as: "line", x: "% of the requests", y: "ms", unit: "ms"},
			},
		}
	case "silence":
		return story{
			codes: []string{"BERTH2017", "BERTH2033", "BERTH2024", "BERTH2025", "BERTH2016", "BERTH1009"},
			claim: "A balancer, a NAT or a firewall forgets a connection and tells nobody; a host that drops packets answers no SYN. Both look like slowness, and the advice that goes around is TCP keep-alive, a longer timeout, or to try again.",
			done: "Here connections die while they are used, or while they are idle: the kernel throws away what arrives at the server’s end, before TCP sees it, or takes it and nobody reads. " +
				"Others are reset after a pause, and others never come about: a listener whose queue is full, a server that says nothing to TLS.",
			came: []string{
				"Over the one dead HTTP/2 connection {net/http HTTP/2, dead|failed} requests of net/http fail and none succeeds, and so it is with TCP keep-alive, which is silent while data are unacknowledged, with IdleConnTimeout, and with CloseIdleConnections.",
				"Pings have Berth answered again after {berth HTTP/2, dead, pings|recovered_ms} ms and net/http after {net/http HTTP/2, dead, pings|recovered_ms}; TCP_USER_TIMEOUT after {net/http HTTP/2, dead, TCP_USER_TIMEOUT 1 s|recovered_ms} ms, but not where something in between acknowledges.",
				"After {net/http, dropped after 1.5 s|pauses} pauses that are too long the first request fails {net/http, dropped after 1.5 s|first_failed} times over net/http, and {berth, dropped after 1.5 s, which looks at the socket|first_failed} times over Berth, which looks at the socket and sees nothing. " +
					"With an idle timeout below the other’s, or with probes or pings more often, {berth, dropped after 1.5 s, idle timeout 1 s|first_failed} fail.",
				"A reset after a pause fails {berth POST, reset after a pause|failed} POSTs of Berth and {net/http POST, reset after a pause|failed} of net/http: either leaves it to the caller, since a server that is asked again works again, " +
					"{net/http POST, reset after the work, everything sent again|done} times for {net/http POST, reset after the work, everything sent again|asked} orders.",
				"With a timeout of its own a dial that nobody answers fails after {berth, no answer to the SYN, dial timeout 0.25 s|slowest_ms} ms and says what it was. Of two addresses whose first is dead, Berth reaches the other after {berth, two addresses, the first is dead|slowest_ms} ms and net/http after {net/http, two addresses, the first is dead, dial timeout 4 s|slowest_ms}.",
			},
			plots: []plot{
				{title: "Requests that failed", caption: "Counted up, over one HTTP/2 connection that dies early on. A line that turns flat has found it out.", series: []string{"failed"}, as: "step", x: "s", y: "failed requests",
					only: func(v lab.Variant) bool { return strings.Contains(v.Name, "HTTP/2, dead") }, panel: func(v lab.Variant) string { return before(" HTTP/2")(v, "") }, label: func(v lab.Variant, _ string) string { return after("HTTP/2, ")(v) }},
				{title: "First requests after a pause that failed", caption: "Something in between drops what comes after 1.5 s without use.", bars: "first_failed", as: "bars", y: "requests",
					label: func(v lab.Variant, _ string) string { return strings.Replace(v.Name, ", dropped after 1.5 s", "", 1) },
					only:  func(v lab.Variant) bool { return strings.Contains(v.Name, "dropped after") }},
				{title: "Connects that nobody answers", caption: "In SYN_SENT, as the kernel shows them. Each panel has its own axes.", series: []string{"connects in flight"}, as: "step", x: "s", y: "connects", panel: byName, own: true,
					only: func(v lab.Variant) bool { return strings.Contains(v.Name, "to the SYN") }},
			},
		}
	case "dial-storm":
		return story{
			codes: []string{"BERTH2020", "BERTH1003", "BERTH2029"},
			claim: "When a connection takes longer to open than a request may take, requests give up and dials begin anew; whoever hedges, retries at once or starts cold multiplies them.",
			done: "Here a dial takes 400 ms and a request is given 250. Then a burst is hedged, a host that refuses is asked again and again, and twenty requests come at once after a start and after a quiet time, " +
				"with and without connections that are ready.",
			came: []string{
				"Where the dial ends with its request, {net/http, the dial ends with its request|dials} dials bring {net/http, the dial ends with its request|answered} answers; with time enough, {net/http, the dial ends with its request, a timeout of 1.5 s|dials} dials bring {net/http, the dial ends with its request, a timeout of 1.5 s|answered}.",
				"Where it goes on, net/http needs {net/http, the dial goes on|dials} and Berth {berth, the dial is the pool's|dials}; with MaxDials 2, {berth, the dial is the pool's, MaxDials 2|dials} do, never more than {berth, the dial is the pool's, MaxDials 2|dials_at_once} at once.",
				"Hedging a burst turns {net/http, a burst|dials} dials into {net/http, a burst, hedged|dials}.",
				"A host that refuses is dialled {net/http, refused, asked again and again|dials_per_s} times a second by net/http and {berth, refused, asked again and again|dials_per_s} times by Berth.",
				"Of the burst after a start {berth, after a start|slow} wait for a dial, with Warm {berth, after a start, Warm|slow}; after a quiet time {berth, after a quiet time|slow}, with MinIdle {berth, after a quiet time, MinIdle|slow}, " +
					"and with a longer idle timeout than the server’s {berth, after a quiet time, a longer idle timeout than the server's|slow}.",
			},
			plots: []plot{
				{title: "Dials begun, where they take longer than a request may", caption: "Counted up. A line that turns flat has its connections.", series: []string{"dials"}, as: "step", x: "s", y: "dials",
					only: func(v lab.Variant) bool { return strings.Contains(v.Name, "the dial ") }},
				{title: "Dials of a burst of twenty", series: []string{"dials"}, as: "step", x: "s", y: "dials",
					only: func(v lab.Variant) bool { return strings.Contains(v.Name, "a burst") }},
				{title: "Dials to a host that refuses", caption: "Each panel has its own axes.", series: []string{"dials"}, as: "step", x: "s", y: "dials", panel: byName, own: true,
					only: func(v lab.Variant) bool { return strings.Contains(v.Name, "refused") }},
				{title: "How long the burst takes", caption: "The share of its requests that took at most so many milliseconds.", series: []string{"latency ms by quantile"}, as: "line", x: "% of the requests", y: "ms", unit: "ms",
					panel: func(v lab.Variant) string {
						if strings.Contains(v.Name, "after a start") {
							return "After a start"
						}
						return "After a quiet time"
					}},
			},
		}
	case "sysctls":
		return story{
			codes: []string{"BERTH2030", "BERTH2012", "BERTH2014", "BERTH2026", "BERTH1004", "BERTH2033"},
			claim: "Where ports run out, settings of the kernel are recommended: tcp_tw_reuse, tcp_tw_recycle, a smaller tcp_fin_timeout, fewer tcp_max_tw_buckets, a wider range of ports.",
			done: "Here each is tried in a network namespace of its own, with a peer in a second one, so that nothing is as it is on loopback alone: seventy connections a second, one a request, and a hundred ports. " +
				"What remains is read from the kernel, with its own timer.",
			came: []string{
				"As it is, request {net/http, 100 ports, tcp_tw_reuse 0|failed_at} is the first to fail. Requests that fail with tcp_tw_reuse 1: {net/http, 100 ports, tcp_tw_reuse 1|failed}; and without timestamps: {net/http, 100 ports, tcp_tw_reuse 1, no timestamps|failed}.",
				"The default, 2, fails {net/http, 100 ports, tcp_tw_reuse 2|failed} requests to another host and {net/http, 100 ports, tcp_tw_reuse 2, loopback|failed} on loopback: a test there misleads.",
				"With tcp_fin_timeout 1 a port in TIME_WAIT still has {net/http, 100 ports, tcp_fin_timeout 1|seconds} s to go; of one in FIN_WAIT_2 it is {net/http, 100 ports, FIN_WAIT_2, tcp_fin_timeout 1|seconds} s, and nothing fails.",
				"A bound of 50 TIME_WAIT sockets leaves {net/http, 100 ports, tcp_max_tw_buckets 50|time_wait} and drops {net/http, 100 ports, tcp_max_tw_buckets 50|overflowed}. Twice the ports fail at request {net/http, 200 ports, tcp_tw_reuse 0|failed_at}.",
				"Whether this kernel has a tcp_tw_recycle: {tcp_tw_recycle|exists}.",
				"Berth, which reuses its connections, has {berth, 100 ports|failed} failures.",
			},
			plots: []plot{
				{title: "Requests that failed", caption: "Rows without a client’s name are net/http with a connection a request.", bars: "failed", label: clientless},
				{title: "Ports taken over time", caption: "What the kernel shows of the client’s side.", series: []string{"established", "time_wait"}, as: "steps", x: "s", y: "ports", panel: byName, only: inTimeWait, levels: []note{{100, "100 ports"}}},
			},
		}
	case "backlog":
		return story{
			codes: []string{"BERTH2022", "BERTH2025"},
			claim: "A server’s queue of connections that it has not accepted holds the smaller of what the program asks for and net.core.somaxconn. A SYN that finds it full is dropped, and comes again after a second.",
			done:  "Here a server stands still for half a second while forty requests come at once, in a network namespace of its own. In the last two rows the queue is full of connections whose clients say nothing.",
			came: []string{
				"A queue of 4 has {net/http, a connection a request, backlog 4|over_1s} requests take more than a second. With somaxconn 4096 and the same backlog it is {net/http, a connection a request, backlog 4, somaxconn 4096|over_1s}, with a backlog of 512 and somaxconn 4 {net/http, a connection a request, backlog 512, somaxconn 4|over_1s}, with both large {net/http, a connection a request, backlog 512, somaxconn 4096|over_1s}.",
				"Berth has {berth, backlog 4|over_1s} with the small queue: what got in is used for the others. Limited to 4 dials at once it makes {berth, backlog 4, MaxDials 4|dials} instead of {berth, backlog 4|dials}, and {berth, backlog 4, MaxDials 4|dropped} SYNs are dropped instead of {berth, backlog 4|dropped}.",
				"Behind half-open connections {net/http, a connection a request, half-open queue full, SYN cookies on|failed} requests fail with SYN cookies and {net/http, a connection a request, half-open queue full, SYN cookies off|failed} without.",
			},
			plots: []plot{
				{title: "Requests that took more than a second", caption: "Rows without a client’s name are net/http with a connection a request.", bars: "over_1s", label: clientless},
				{title: "SYNs and connections dropped at the server", caption: "Rows without a client’s name are net/http with a connection a request.", bars: "dropped", label: clientless},
				{title: "How long requests take", caption: "The share of all requests that took at most so many milliseconds.", series: []string{"latency ms by quantile"}, as: "line", x: "% of the requests", y: "ms", unit: "ms", panel: byName},
			},
		}
	case "conntrack":
		return story{
			codes: []string{"BERTH2021", "BERTH2025"},
			claim: "Netfilter remembers connections in a table. When it is full, what begins a new one is dropped, and no program is told.",
			done:  "Here the table of a network namespace is filled up to the host’s nf_conntrack_max with connections that were never made. Then requests are sent.",
			came: []string{
				"With a connection a request {net/http, a connection a request, table full|failed} of {net/http, a connection a request, table full|requests} fail; retried at once {net/http, a connection a request, table full, retried at once|failed}, with {net/http, a connection a request, table full, retried at once|dropped} packets dropped instead of {net/http, a connection a request, table full|dropped}; with twice the ports and more descriptors {net/http, a connection a request, table full, twice the ports, more descriptors|failed}.",
				"Exempt from tracking, {net/http, a connection a request, table full, NOTRACK|failed} fail; over the connection that Berth already had, {berth, reuses, table full|failed}.",
				"Connections that are over count, too: {net/http, a connection a request, time_wait 120|entries} requests left {net/http, a connection a request, time_wait 120|entries} entries, for {net/http, a connection a request, time_wait 120|seconds} s, or {net/http, a connection a request, time_wait 30|seconds} s with nf_conntrack_tcp_timeout_time_wait 30.",
			},
			plots: []plot{
				{title: "Requests that failed", caption: "Rows without a client’s name are net/http with a connection a request.", bars: "failed", label: clientless},
				{title: "Packets dropped", caption: "Rows without a client’s name are net/http with a connection a request.", bars: "dropped", label: clientless},
			},
		}
	case "sent-again":
		return story{
			codes: []string{"BERTH1009", "BERTH1012", "BERTH2024", "BERTH1008", "BERTH1007", "BERTH1015", "BERTH2033"},
			claim: "A request whose connection fails may have been acted upon, and nobody can tell. A wrapper that retries every error does such requests twice; one that retries none fails requests that never left.",
			done: "Here servers close a connection as a request arrives, answer too late, reset when the work is done, send half a body or more than was asked for, refuse and reset streams. " +
				"They count what they receive, and what they act upon more than once.",
			came: []string{
				"Of {berth, reset after it was done|requests} requests that were answered by a reset, Berth and net/http sent none again; the wrapper did {net/http, every error retried, reset after it was done|executed_twice} of {net/http, every error retried, reset after it was done|requests} more than once, and not one succeeded by it.",
				"Where every other dial is refused, a wrapper that asks berth.NotSent fails {berth, NotSent decides, refused or reset|failed} requests and does {berth, NotSent decides, refused or reset|executed_twice} twice; one that retries every error does {net/http, every error retried, refused or reset|executed_twice} twice.",
				"A client that reads on after a response took {a client that reads on, bytes behind a response|wrong} of {a client that reads on, bytes behind a response|requests} answers for another’s; Berth {berth, bytes behind a response|wrong}.",
				"Closing the connection when one stream is reset failed {net/http, connection closed on every reset|failed} requests in place of {berth, one stream reset|failed}.",
			},
			plots: []plot{
				{title: "Requests done more than once", bars: "executed_twice"},
				{title: "Requests that failed", bars: "failed"},
			},
		}
	case "http2":
		return story{
			codes: []string{"BERTH2018", "BERTH1015"},
			claim: "A server allows so many streams on an HTTP/2 connection. Clients that keep to one connection let further requests wait, or fail them.",
			done:  "Here twenty workers send at once, over TLS, where the server allows two streams a connection, and where it allows a hundred. A first request has told the client.",
			came: []string{
				"Berth opened {berth, 2 streams a connection|connections} connections, and 99 % of its requests took no longer than {berth, 2 streams a connection|p99_ms} ms; net/http opened {net/http, 2 streams a connection|connections}, and took {net/http, 2 streams a connection|p99_ms} ms.",
				"With StrictMaxConcurrentRequests net/http kept to {net/http, StrictMaxConcurrentRequests, 2 streams a connection|connections} connection, and {net/http, StrictMaxConcurrentRequests, 2 streams a connection|failed} of {net/http, StrictMaxConcurrentRequests, 2 streams a connection|requests} requests got no stream within two seconds. A larger limit of the pool changes nothing.",
				"Where a hundred streams are allowed one connection carries all, unless MaxStreamsPerConn says otherwise: then there are {berth, MaxStreamsPerConn 5, 100 streams a connection|connections}.",
			},
			plots: []plot{
				{title: "Connections opened", bars: "connections"},
				{title: "How long requests take", caption: "The share of the requests that took at most so many milliseconds; the axis upwards is logarithmic.", series: []string{"latency ms by quantile"}, as: "line", log: true,
					x: "% of the requests", y: "ms", unit: "ms", only: func(v lab.Variant) bool { return strings.HasSuffix(v.Name, ", 2 streams a connection") }},
			},
		}
	case "errors":
		return story{
			codes: []string{"BERTH1001", "BERTH1008", "BERTH1010", "BERTH1011", "BERTH1013", "BERTH2004"},
			claim: "An error that says only that time ran out hides which phase it went into, and invites a retry that cannot help.",
			done:  "Here settings contradict each other, requests are invalid, a transport is closed while requests wait, a pool’s only connection is held, and a request ends while it waits, dials, or awaits a head.",
			came: []string{
				"Three phases made {berth, a limit for each phase|distinct} errors of Berth’s and {net/http, one timeout for all|distinct} of net/http’s under one timeout.",
				"Retrying requests that got no connection made {berth, starved, retried|tries} tries of {berth, starved, retried|callers}, took {berth, starved, retried|wall_ms} ms in place of {berth, starved, not retried|wall_ms}, and {berth, starved, retried|received} of them reached the server.",
				"Shutdown served {berth, Shutdown|served} of {berth, Shutdown|requests} requests, Close the {berth, Close|served} that had a connection.",
			},
			plots: []plot{{title: "Requests that failed", bars: "failed"}},
		}
	case "proxies":
		return story{
			codes: []string{"BERTH2028", "BERTH1014", "BERTH2001"},
			claim: "net/http reads HTTP_PROXY once and remembers it for ever; a variable that points nowhere makes errors that look like the server’s.",
			done:  "Here the proxy changes while a client is in use, by the variable and by the policy, and other proxies are gone or want a password. The experiment resolves all names and dials nothing but its own.",
			came: []string{
				"After os.Setenv {net/http, os.Setenv at run time|through_new} of {net/http, os.Setenv at run time|requests} requests went through the new proxy, after CloseIdleConnections {net/http, os.Setenv and CloseIdleConnections|through_new}; with proxyenv.Proxy {berth, proxyenv.Proxy, the variable changed|through_new}, and {berth, the policy changed|through_new} when Berth’s policy is changed.",
				"Berth’s error names the proxy that wants a password; net/http’s is “{net/http, the proxy wants a password|error}”.",
			},
			plots: []plot{{title: "Requests through the new proxy, of ten", bars: "through_new"}},
		}
	case "bounds":
		return story{
			codes: []string{"BERTH1005", "BERTH1006", "BERTH1016", "BERTH1004", "BERTH2019", "BERTH2031", "BERTH2005", "BERTH2023"},
			claim: "A limit for each host is none for many hosts, idle connections stay after a burst, one address of a name gets all, and a few kilobytes of gzip fill the memory: unless something is set.",
			done:  "Here each is tried alone, with the setting and without it.",
			came: []string{
				"Over twenty hosts Berth had at most {berth, MaxConns 10 over 20 hosts|most_connections} connections, net/http with its limit for each host {net/http, MaxConnsPerHost 10 over 20 hosts|most_connections}. Half as many connections as hosts have a price: they were opened {berth, MaxConns 10 over 20 hosts|connections} times.",
				"Of three addresses the least used got {berth, Order spread over three addresses|least_share_%} % of the requests, and over net/http {net/http, a name of three addresses|least_share_%} %.",
				"A source address that is bound first had {net.Dialer, bound without IP_BIND_ADDRESS_NO_PORT|connections} connections out of {net.Dialer, bound without IP_BIND_ADDRESS_NO_PORT|ports} ports; bound as Berth does it, {berth, one source address, two destinations|connections} to two destinations.",
				"{net/http, a bomb of gzip|bytes_in} bytes became {net/http, a bomb of gzip|heap_mb} MB on the heap of a program that sets no limit; Berth stopped at {berth, a bomb of gzip|heap_mb}.",
			},
			plots: []plot{
				{title: "Connections to twenty hosts together", caption: "From the dial’s beginning to the close’s end.", series: []string{"connections"}, as: "step", x: "s", y: "connections", only: func(v lab.Variant) bool { return strings.HasSuffix(v.Name, "hosts") }},
				{title: "Connections after a burst of fifty", series: []string{"connections"}, as: "step", x: "s", y: "established", only: func(v lab.Variant) bool { return strings.HasSuffix(v.Name, "after a burst") }},
				{title: "The wait for a connection, as a metric", caption: overlap, series: []string{"latency ms by quantile"}, as: "line", x: "% of the requests", y: "ms", unit: "ms"},
				{title: "Memory that a bomb of gzip took, MB", bars: "heap_mb"},
			},
		}
	case "factory":
		return factoryStory()
	case "retry-storm":
		return retryStormStory()
	case "hedge":
		return hedgeStory()
	}
	return story{}
}
