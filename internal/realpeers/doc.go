// Package realpeers has no code: its tests run Berth against the servers and proxies
// that it meets in production, as Debian packages them: nginx, HAProxy, Squid and
// microsocks. Where one is not installed its tests say so and are skipped, unless
// BERTH_REAL_PEERS=1 demands them, as .ci/run does.
package realpeers
