package failover

import (
	"fmt"
	"time"

	"dyad/projections"
)

// Failback says when a node that died gets its share back, once it has proved that
// it is well. A suspicion, a drain and a planned stop are not concerned: nothing was
// wrong with that node.
type Failback struct {
	// Manual: when an operator lets it; see [Allowed].
	Manual bool
	// Windows are the times of day at which it may happen by itself; none: always.
	Windows []Window
}

// Window is a time of day in UTC, from From to before To, both since midnight and
// below 24 h. To before From is the next day.
type Window struct{ From, To time.Duration }

const day = 24 * time.Hour

// opens is when now, or after it, the window is open: now itself if it is.
func (w Window) opens(now time.Time) time.Time {
	midnight := now.UTC().Truncate(day)
	at := now.Sub(midnight)
	if w.From <= w.To && at >= w.From && at < w.To || w.From > w.To && (at >= w.From || at < w.To) {
		return now
	}
	next := midnight.Add(w.From)
	if at >= w.From {
		next = next.Add(day)
	}
	return next
}

// opens is when a return may happen by itself; never if it has to be allowed.
func (f Failback) opens(now time.Time) (at time.Time, never bool) {
	if f.Manual {
		return time.Time{}, true
	}
	if len(f.Windows) == 0 {
		return now, false
	}
	for i, w := range f.Windows {
		if t := w.opens(now); i == 0 || t.Before(at) {
			at = t
		}
	}
	return at, false
}

// held tells whether a node that is well again has to wait for a word, or for the
// time of day; wake is zero if only a word helps.
func (m *Machine) held(now time.Time, name string, p *peer) (r projections.Reason, wake time.Time, held bool) {
	if !p.died || m.allowed[name] > p.allowed {
		return r, wake, false
	}
	at, never := m.cfg.Failback.opens(now)
	switch {
	case never:
		return projections.Reason{Code: "failback-held", Text: name + " is back and well, and waits for an operator's word: dyad node failback " + name}, wake, true
	case at.After(now):
		return projections.Reason{
			Code: "failback-held",
			Text: fmt.Sprintf("%s is back and well, and gets its share at %s", name, at.UTC().Format("15:04 MST")),
		}, at, true
	}
	return r, wake, false
}
