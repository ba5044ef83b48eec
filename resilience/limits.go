package resilience

// Retry is a stand-in.
type Retry struct{}
