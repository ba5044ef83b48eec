package otelberth_test

import (
	"log"
	"net/http"

	"go.opentelemetry.io/otel"

	"github.com/berth-go/berth"
	otelberth "github.com/berth-go/berth/telemetry/otel"
)

// A program that has OpenTelemetry's global providers passes them in, and has durations of
// requests recorded too, since nothing else does so here.
func Example() {
	tel, err := otelberth.New(otelberth.Config{
		MeterProvider:   otel.GetMeterProvider(),
		TracerProvider:  otel.GetTracerProvider(),
		RequestDuration: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer tel.Close()
	tr, err := berth.New(berth.Config{Trace: tel.Trace()})
	if err != nil {
		log.Fatal(err)
	}
	tel.Observe(tr)
	client := &http.Client{Transport: tel.Handler()(tr)}
	_ = client
}
