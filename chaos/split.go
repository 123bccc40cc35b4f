package chaos

import "time"

// Instants are when the survivor of a fault did what, by its own clock. In a
// lab, and in a drill on one host, that is also the prober's clock.
type Instants struct {
	Detected, Decided, Announced time.Time
}

// Parts are an outage cut at the survivor's instants.
//
// Invariant: no part is negative, and if Known they add up to the outage.
type Parts struct {
	// Known is false if the survivor told no instants of this outage; then
	// every part is zero.
	Known bool
	// Detect: first lost probe → the node is held for dead.
	Detect time.Duration
	// Decide: held for dead → what to announce is decided.
	Decide time.Duration
	// Announce: decided → handed to the speaker.
	Announce time.Duration
	// Converge: handed to the speaker → traffic is back; the routers' part.
	Converge time.Duration
}

// Total is the sum of the parts.
func (p Parts) Total() time.Duration { return p.Detect + p.Decide + p.Announce + p.Converge }

// Split cuts the outage [from, to) at the instants. An instant before the
// outage counts as its beginning (the survivor may notice before the next probe
// is due), one after it as its end (traffic was back before the survivor looked
// at its clock). Instants from before the fault belong to an earlier takeover
// and are not this outage's.
func Split(fault, from, to time.Time, in Instants) Parts {
	if !to.After(from) || in.Detected.IsZero() || in.Detected.Before(fault) {
		return Parts{}
	}
	at := from
	cut := func(t time.Time) time.Duration {
		if t.After(to) {
			t = to
		}
		if t.Before(at) { // also an instant that was not told
			t = at
		}
		d := t.Sub(at)
		at = t
		return d
	}
	return Parts{
		Known:    true,
		Detect:   cut(in.Detected),
		Decide:   cut(in.Decided),
		Announce: cut(in.Announced),
		Converge: cut(to),
	}
}
