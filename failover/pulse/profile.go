package pulse

import (
	"fmt"
	"time"
)

// Profile is how fast a silent node is noticed. With heartbeats every Interval,
// a node that dies is suspected after
//
//	T = Misses × Interval − U,  0 ≤ U < Interval
//
// where U is the age of its last heartbeat when it died: at most Misses ×
// Interval, on average half an Interval less. Added to it are the time a
// heartbeat travels and how late this node's own loop runs; if that is late by
// more than [Profile.PauseLimit] allows, the silence is thrown away and the
// count starts over, so the worst case under a pause is the pause and another
// Misses × Interval.
type Profile struct {
	Name     string
	Interval time.Duration
	Misses   int
}

// The profiles.
var (
	Fast         = Profile{"fast", 5 * time.Millisecond, 3}
	Standard     = Profile{"standard", 20 * time.Millisecond, 3}
	Conservative = Profile{"conservative", 100 * time.Millisecond, 3}
)

// Profiles lists them, the fastest first.
func Profiles() []Profile { return []Profile{Fast, Standard, Conservative} }

// FindProfile returns the profile of that name, or an error that lists them.
func FindProfile(name string) (Profile, error) {
	for _, p := range Profiles() {
		if p.Name == name {
			return p, nil
		}
	}
	return Profile{}, fmt.Errorf("%q is not a profile; use fast, standard or conservative", name)
}

// Silence is how long a path may be silent before it counts as down.
func (p Profile) Silence() time.Duration { return time.Duration(p.Misses) * p.Interval }

// Doubt is the silence at which the other node's kernel is asked, one heartbeat
// before anything is done: its answer comes in time to prevent a wrong takeover.
func (p Profile) Doubt() time.Duration { return time.Duration(p.Misses-1) * p.Interval }

// PauseLimit is the longest gap between two turns of the own loop, which turns
// at least once in an Interval. A longer one is a pause of our own (a stopped
// process, a frozen virtual machine), and no silence across it counts.
func (p Profile) PauseLimit() time.Duration { return 2 * p.Interval }
