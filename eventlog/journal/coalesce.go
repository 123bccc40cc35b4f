package journal

import (
	"errors"
	"slices"
	"time"

	"dyad/eventlog"
)

// flapping are the types that come in runs when something flaps. They are
// coalesced first.
var flapping = []eventlog.Type{
	eventlog.TypeSessionUp, eventlog.TypeSessionDown, eventlog.TypeNodeVerdict, eventlog.TypeStanceChanged,
	eventlog.TypeRoutesAnnounced, eventlog.TypeServiceHealth, eventlog.TypeStoreDown, eventlog.TypeStoreUp, eventlog.TypeLogMode,
	eventlog.TypeAccessDenied,
	eventlog.TypeNextHopTaken, eventlog.TypeNextHopGiven, eventlog.TypePulseDown, eventlog.TypePulseUp,
}

// tidy coalesces when more than may wait do. It rewrites the journal as one
// segment; until that is durable nothing changes, and a failure only means that
// it is tried again later.
func (j *Journal) tidy() {
	if len(j.pending) <= j.tidyAt {
		return
	}
	before := len(j.pending)
	// A rewrite costs as much as what waits: not again before an eighth is new.
	defer func() { j.tidyAt = max(j.max, len(j.pending)+j.max/8) }()
	after := j.coalesced()
	if len(after) >= before {
		return
	}
	if err := j.rewrite(after); err != nil {
		j.log.Warn("the journal could not be coalesced", "event", "journal.coalesce", "reason", err, "facts", before)
		return
	}
	j.log.Warn("flapping facts were coalesced", "event", "journal.coalesce", "reason", "the log could not be written for long",
		"before", before, "after", len(after))
}

// coalesced is pending with the older three quarters coalesced: flaps first, and
// everything but orphaned events if that was not enough.
func (j *Journal) coalesced() []item {
	fresh := len(j.pending) - j.max/4
	out := append(coalesce(j.pending[:fresh], func(t eventlog.Type) bool { return slices.Contains(flapping, t) }), j.pending[fresh:]...)
	if len(out) <= j.max*3/4 {
		return out
	}
	return append(coalesce(j.pending[:fresh], func(t eventlog.Type) bool { return t != eventlog.TypeLogOrphaned }), j.pending[fresh:]...)
}

// coalesce keeps of each stream and type that may be coalesced the last fact, in
// its place, and lets it tell about those before it.
func coalesce(items []item, may func(eventlog.Type) bool) []item {
	type run struct {
		stream string
		typ    eventlog.Type
	}
	later := map[run]int{} // index in out
	var out []item         // newest first
	for _, it := range slices.Backward(items) {
		key := run{it.fact.Stream, it.fact.Type}
		at, ok := later[key]
		if ok && may(key.typ) {
			out[at].fact.Repeats = merged(it.fact, out[at].fact)
			continue
		}
		later[key] = len(out)
		out = append(out, it)
	}
	slices.Reverse(out)
	return out
}

func merged(earlier, later eventlog.Draft) *eventlog.Repeats {
	a, b := repeats(earlier), repeats(later)
	return &eventlog.Repeats{Count: a.Count + b.Count, First: earliest(a.First, b.First), Last: b.Last}
}

func repeats(d eventlog.Draft) eventlog.Repeats {
	if d.Repeats != nil {
		return *d.Repeats
	}
	return eventlog.Repeats{Count: 1, First: d.ObservedAt, Last: d.ObservedAt}
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// rewrite replaces all segments by one that holds items.
func (j *Journal) rewrite(items []item) error {
	base, tail, err := record{Prev: j.tail, Base: true}.encode()
	if err != nil {
		return err
	}
	lines, tail, err := encodeRun(tail, items)
	if err != nil {
		return err
	}
	j.maxIndex++
	index := j.maxIndex
	f, err := writeWhole(j.dir, segmentName(index), append(base, lines...))
	if err != nil {
		// It may have its name all the same, and would then stand for all
		// segments before it: what comes next goes into one after it.
		return errors.Join(err, j.retire())
	}
	err = j.retire() // superseded
	for i := range items {
		items[i].file = index
	}
	old := j.files
	j.active, j.size = f, int64(len(base)+len(lines))
	j.files, j.pending, j.tail = []file{{index: index}}, items, tail
	for _, o := range old {
		// If one stays, the next Open deletes it: the new segment stands for it.
		err = errors.Join(err, j.drop(o))
	}
	if err != nil {
		j.log.Warn("superseded segments were left", "event", "journal.coalesce", "reason", err)
	}
	return nil
}
