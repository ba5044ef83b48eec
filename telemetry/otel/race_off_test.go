//go:build !race

package otelberth_test

const raceEnabled = false
