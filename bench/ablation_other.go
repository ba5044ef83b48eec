//go:build !unix

package main

// parkedWorker: without a descriptor nothing can be parked at once.
func (c *client) parkedWorker(l load) (func() error, error) { return c.rawWorker(l) }
