package report

import (
	"strings"

	"github.com/berth-go/berth/lab"
)

// The stories of the experiments on named clients and on resilience.

func factoryStory() story {
	return story{
		codes: []string{"BERTH2002", "BERTH2011", "BERTH2009", "BERTH2012", "BERTH1025"},
		claim: "A client a request runs out of ports; a static one never sees its configuration or DNS change; so a factory is recommended that replaces what is beneath every two minutes.",
		done: "Here five names send to three servers, three of them to one: by a client a request, by one static client, by a factory that replaces a transport a name now and then, and by a registry of named clients over one transport. " +
			"Halfway the configuration changes, while somebody has kept a client.",
		came: []string{
			"For {berth, a registry of names|requests} requests a client a request takes {net/http, a client a request|ports} ports and as many lookups, closed or not; closed, it leaves {net/http, a client a request, closed|time_wait} in TIME_WAIT, not closed {net/http, a client a request|goroutines} goroutines.",
			"The factory that rotates takes {a factory that rotates|ports} ports and {a factory that rotates|lookups} lookups, one static client {net/http, one static client|ports} and {net/http, one static client|lookups}, the registry {berth, a registry of names|ports} and {berth, a registry of names|lookups}.",
			"A client that was kept still sends version {a factory that rotates|captured_sends} of the configuration out of the factory, and version {berth, a registry of names|captured_sends} out of the registry.",
			"{a factory that rotates, reloads under load|reloads} reloads under load opened {a factory that rotates, reloads under load|connections} connections where transports are replaced, and {berth, a registry of names, reloads under load|connections} over the registry, one for each of five workers; {berth, a registry of names, reloads under load|failed} of {berth, a registry of names, reloads under load|requests} requests failed by it.",
			"A name in the registry takes {berth, a registry of many names, 400 names|heap_kb_per_client} KB, a transport with its connection {net/http, a transport a name, 400 names|heap_kb_per_client} KB.",
		},
		plots: []plot{
			{title: "Ports, as requests go by", caption: "The axis upwards is logarithmic.", series: []string{"ports"}, as: "line", log: true, x: "requests", y: "ports", only: func(v lab.Variant) bool { return !strings.HasSuffix(v.Name, "TLS") }},
			{title: "In TIME_WAIT", series: []string{"time_wait"}, as: "line", x: "requests", y: "sockets", only: func(v lab.Variant) bool { return !strings.HasSuffix(v.Name, "TLS") }},
			{title: "Connections opened, with a reload each tenth of a second", series: []string{"connections opened"}, as: "step", x: "s", y: "connections"},
		},
	}
}

func retryStormStory() story {
	return story{
		codes: []string{"BERTH2032", "BERTH1020", "BERTH1021", "BERTH1019", "BERTH2004"},
		claim: "A helper that tries three more times makes four times the load just when a server has none to spare, and keeps it down when its own fault is over.",
		done:  "Here a server that can do twice what it is asked for fails three requests in ten, then all, then none. Its callers ask once, or four times at once, or by Berth’s strategies.",
		came: []string{
			"While all fail, a call is {net/http, no retries|load} request to the server without retries, {net/http, three more tries at once|load} with naive ones, {berth, Retry without a budget|load} with a backoff but no budget, {berth, Retry with a budget|load} with a budget, and {berth, the standard pipeline|load} behind a breaker.",
			"Long after the fault is over, the share of calls that succeed is {net/http, no retries|success_at_the_end} without retries, {net/http, three more tries at once|success_at_the_end} with naive ones and {berth, Retry without a budget|success_at_the_end} without a budget: the retries of those that wait too long are what the others wait behind.",
			"With a budget the server has recovered {berth, Retry with a budget|recovered_ms} ms after the fault, with a breaker {berth, the standard pipeline|recovered_ms} ms.",
			"Where three in ten fail, retries help: {net/http, no retries|success_30_pct} of the calls succeed without, {berth, Retry with a budget|success_30_pct} with a budget. A breaker that opens at a tenth, .NET’s default, takes that away: {berth, the standard pipeline|success_30_pct}.",
		},
		plots: []plot{
			{title: "Requests that arrive at the server", caption: "Each second. It can do 200.", series: []string{"requests that arrive a second"}, as: "step", x: "s", y: "a second", panel: byName, levels: []note{{200, "what it can do"}}},
			{title: "Calls that succeed", caption: "Each second, of 100 that are made.", series: []string{"calls that succeed a second"}, as: "step", x: "s", y: "a second", panel: byName},
		},
	}
}

func hedgeStory() story {
	room := func(v lab.Variant) bool { return !strings.Contains(v.Name, "pool full") }
	return story{
		codes: []string{"BERTH2034", "BERTH1024", "BERTH2005"},
		claim: "Where a few answers are slow whatever the request, a second attempt cuts the tail. Where all are slow, it doubles the load.",
		done:  "Here one answer in fifty takes fifty times as long. Then the pool is full all the time, of such answers, and of a server that is slow altogether.",
		came: []string{
			"Without hedging the slowest in a hundred take {berth, no hedging|p99_ms} ms; hedged after 30 ms {berth, hedged after 30 ms|p99_ms} ms, for {berth, hedged after 30 ms|extra_load_pct} % more load; hedged after the 95th percentile {berth, hedged after the 95th percentile|p99_ms} ms, for {berth, hedged after the 95th percentile|extra_load_pct} %.",
			"Where the pool is full and every answer slow, hedging by hand makes {net/http, pool full, every answer slow, hedged by hand|extra_load_pct} % more load, opens {net/http, pool full, every answer slow, hedged by hand|connections} connections where {net/http, pool full, every answer slow, no hedging|connections} would do, and is answered no sooner: {net/http, pool full, every answer slow, hedged by hand|p99_ms} ms, without {net/http, pool full, every answer slow, no hedging|p99_ms}.",
			"Berth’s pool refuses those hedges, {berth, pool full, every answer slow, hedged after 30 ms|hedges_refused_by_the_pool} of them: the wait for a connection is {berth, pool full, every answer slow, hedged after 30 ms|wait_p99_ms} ms as it was {berth, pool full, every answer slow, no hedging|wait_p99_ms}.",
			"What it forgoes is seen as well: where the pool is full of a few very slow answers, by hand they are cut off, at {net/http, pool full, hedged by hand|p99_ms} ms, and with Berth they are not, at {berth, pool full, hedged after 30 ms|p99_ms}. More connections help there.",
		},
		plots: []plot{
			{title: "How long requests take, with room in the pool", caption: "The share of the requests that took at most so many milliseconds; the axis upwards is logarithmic.", series: []string{"latency ms by quantile"}, as: "line", log: true, x: "% of the requests", y: "ms", unit: "ms", only: room},
			{title: "How long requests take, where the pool is full", caption: "The axis upwards is logarithmic.", series: []string{"latency ms by quantile"}, as: "line", log: true, x: "% of the requests", y: "ms", unit: "ms",
				only: func(v lab.Variant) bool { return !room(v) },
				panel: func(v lab.Variant) string {
					if strings.Contains(v.Name, "every answer slow") {
						return "Every answer is slow"
					}
					return "One in fifty is"
				}},
			{title: "Load beyond one attempt a request, in per cent", bars: "extra_load_pct"},
			{title: "Connections opened", bars: "connections"},
		},
	}
}
