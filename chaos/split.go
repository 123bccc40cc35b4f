package chaos

import "time"

// Instants are when the survivor of a fault did what, by its own clock. In a
// lab, and in a drill on one host, that is also the prober's clock.
type Instants struct {
	Detected, Decided, Announced time.Time
	// NextHop is when the first frame left that takes over a next hop; zero if none
	// did.
	NextHop time.Time
}

// What brought traffic back, as far as the survivor can tell.
const (
	ByNextHop    = "next-hop"   // the frames were out before the announcements
	ByPreference = "preference" // the announcements were
)

// by tells which of the two ways was under way first, and since when. A next hop
// is taken by a process that was told in advance: nothing is left to decide.
func (in Instants) by() (way string, decided, out time.Time) {
	if in.NextHop.IsZero() || !in.Announced.IsZero() && in.Announced.Before(in.NextHop) {
		return ByPreference, in.Decided, in.Announced
	}
	return ByNextHop, in.Detected, in.NextHop
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
	// By is ByNextHop or ByPreference.
	By string
	// Decide: held for dead → what to do is decided.
	Decide time.Duration
	// Announce: decided → the frames sent, or the routes handed to the speaker.
	Announce time.Duration
	// Converge: from there → traffic is back; the routers' part.
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
	way, decided, out := in.by()
	return Parts{
		Known:    true,
		By:       way,
		Detect:   cut(in.Detected),
		Decide:   cut(decided),
		Announce: cut(out),
		Converge: cut(to),
	}
}
