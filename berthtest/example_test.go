package berthtest_test

import (
	"testing"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/berthtest"
)

func ExampleAssertNoLeaks() {
	_ = func(t *testing.T) { // a test of yours
		tr := &berth.Transport{}
		defer tr.Close()
		defer berthtest.AssertNoLeaks(t, tr)
		// … requests over tr
	}
}
