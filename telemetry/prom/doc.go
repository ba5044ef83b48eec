// Package prom shows the connection pools of a [berth.Transport] to Prometheus. A
// [Collector] reads the transport's own statistics when it is scraped; between scrapes it
// costs nothing.
//
//	c, err := prom.New(tr, prom.Config{})
//	if err != nil {
//		return err
//	}
//	prometheus.MustRegister(c)
//	http.Handle("/metrics", promhttp.Handler())
//
// docs/telemetry.md has all metrics. dashboard.json beside this file is a dashboard for
// Grafana 10 and later, alerts.yaml rules for Prometheus.
package prom
