package lab

import "strings"

// Verdict is what became of a variant, for people.
type Verdict string

const (
	Holds   Verdict = "holds"
	Noisy   Verdict = "holds (noisy)" // a time was missed on a busy machine, and the counts decide
	Unseen  Verdict = NotObserved     // nothing of what is expected could be measured
	Failed  Verdict = "FAILED"        // one of Berth's own that does not hold
	Differs Verdict = "differs"       // another's that is not as it is for Berth
)

// Verdict returns what became of the variant.
func (v *Variant) Verdict() Verdict {
	switch {
	case !v.OK && v.Berth():
		return Failed
	case !v.OK:
		return Differs
	case v.unseen():
		return Unseen
	case strings.Contains(v.Note, "noisy"):
		return Noisy
	}
	return Holds
}

// unseen says that nothing of what is expected could be measured.
func (v *Variant) unseen() bool {
	for k := range v.Expected {
		if v.Measured[k] != NotObserved {
			return false
		}
	}
	return len(v.Expected) > 0
}

// Held counts Berth's own variants: those that hold, and those that do not.
func (r *Report) Held() (held, failed int) {
	for _, e := range r.Experiments {
		for _, v := range e.Variants {
			switch {
			case !v.Berth():
			case v.OK:
				held++
			default:
				failed++
			}
		}
	}
	return held, failed
}
