package main

// The clients of the ablation: what a request costs without one thing or another.
const (
	berthDialed = "berth, a dial function" // ADR 7 and 8 do not apply: watch armed at once, three system calls
	rawParked   = "raw, parked at once"    // two system calls: the floor of what berth does
	callerAlone = "caller alone"           // a context and a request, and nothing sent
)

// useNothing makes requests and sends none.
func (c *client) useNothing(l load) {
	c.worker = func() (func() error, error) {
		next, err := requests(l)
		if err != nil {
			return nil, err
		}
		return func() error {
			_, cancel := next()
			cancel()
			return nil
		}, nil
	}
}
