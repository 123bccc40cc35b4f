package etcdlog

import (
	"maps"

	"dyad/eventlog"
)

// maxRecalled bounds how many streams' revisions a handle remembers.
const maxRecalled = 4096

// recall is what this handle's last append left behind. As long as nobody else
// writes, the next one builds on it without asking the store; where somebody
// did, the write finds that out and tells what stands. It belongs to whoever has
// the turn.
//
// Invariant: every stream in it has that revision at the head in it. Streams
// change only together with the head, which the write compares.
type recall struct {
	base
	ok bool
}

// basis is the base of an append that depends on d, if all of it is remembered.
// That its keys are new is assumed; the write compares that too.
func (r *recall) basis(d dependencies) (base, bool) {
	if !r.ok {
		return base{}, false
	}
	at := r.base
	at.Streams, at.Keys = make(map[string]uint64, len(d.streams)), nil
	for _, s := range d.streams {
		rev, known := r.Streams[s]
		if !known {
			return base{}, false
		}
		at.Streams[s] = rev
	}
	at.recalled = true
	return at, true
}

// keep remembers after, which stands now that sealed was written behind at.
func (r *recall) keep(at, after base, sealed []eventlog.Envelope) {
	streams := r.Streams
	if !r.ok || r.head != at.head || len(streams)+len(at.Streams) > maxRecalled {
		streams = map[string]uint64{}
	}
	maps.Copy(streams, at.Streams)
	for _, e := range sealed {
		streams[e.Stream] = e.StreamRev
	}
	after.Streams = streams
	*r = recall{base: after, ok: true}
}
