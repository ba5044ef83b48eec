package resilience

type CircuitOpenError struct{ error }
