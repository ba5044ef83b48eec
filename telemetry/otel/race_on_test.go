//go:build race

package otelberth_test

const raceEnabled = true
