package resilience

type Retry struct{}
type Hedge struct{}
