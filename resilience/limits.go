package resilience

type Rate struct{}
type Concurrency struct{ PerEndpoint bool }
type LimitError struct{ error }
type CircuitOpenError struct{ error }
type Retry struct{}
type Hedge struct{}
type Breaker struct{}
