package resilience

type LimitError struct{ error }
type CircuitOpenError struct{ error }
