package projections

import (
	"fmt"
	"maps"
	"slices"

	"dyad/eventlog"
)

// trimLog refuses what would drop an event that a writer of the log has not
// sealed: the other node could not give it back.
func (f *folder) trimLog(c TrimLog) ([]eventlog.Draft, error) {
	what := fmt.Sprintf("trim up to event %d", c.UpTo.Seq)
	if c.UpTo.Seq >= f.s.Head.Seq {
		return nil, refuse("trim-beyond-end", what, "trim less", "the log ends with event %d", f.s.Head.Seq)
	}
	if c.UpTo.Seq <= f.s.Floor.Seq {
		return nil, nil
	}
	for _, n := range f.s.LogWriters() { // a voter that is no node keeps nothing
		if c.Sealed[n] < c.UpTo.Seq {
			return nil, refuse("trim-not-sealed", what, "wait until it has; dyad status shows how far it is",
				"%s has sealed up to event %d only (%v)", n, c.Sealed[n], slices.Sorted(maps.Keys(c.Sealed)))
		}
	}
	return change(eventlog.TypeLogTrimmed, "log", eventlog.TrimPayload{UpTo: c.UpTo, Sealed: c.Sealed}, nil, false)
}
