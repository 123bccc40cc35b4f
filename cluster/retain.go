package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"dyad/cluster/api"
	"dyad/eventlog"
	"dyad/projections"
)

// Times and bounds of the keeper of old events.
const (
	// retainEvery is how often it looks, if [Retention].Every says nothing.
	retainEvery = 5 * time.Second
	// retainBound bounds one question to the store, fetchBound one segment from
	// the other node.
	retainBound = 10 * time.Second
	fetchBound  = time.Minute
	// maxRound bounds how many segments one round seals or fetches, so that a
	// round ends.
	maxRound = 64
)

// Retention is what keeps old events, and the store small.
type Retention struct {
	Segments Segments
	// Floor is the last event that left the store, Trim lets more go: it must
	// refuse what is in no segment here.
	Floor func(context.Context) (eventlog.Head, error)
	Trim  func(context.Context, eventlog.Head) error
	// Room may be nil: then the store has no bound.
	Room Room
	// Every is how often to look; 0 is every 5 s.
	Every time.Duration
}

// Segments are sealed files of old events (dyad/eventlog/segment).
type Segments interface {
	// End is the event up to which nothing is missing.
	End() eventlog.Head
	List() []api.Segment
	// Cut is how many events of run make the next whole segment; 0: not enough.
	// Size is how many that are at most.
	Cut(run []eventlog.Envelope) int
	Size() int
	// Marshal makes a segment's bytes, Seal writes the next one.
	Marshal(cluster string, prev eventlog.Head, run []eventlog.Envelope) ([]byte, error)
	Seal(cluster string, run []eventlog.Envelope) error
	// Add takes another node's copy of the segment behind End, fully checked.
	Add(b []byte) error
	File(first eventlog.Seq) ([]byte, error)
	SetAside(first eventlog.Seq) error
	Verify(ctx context.Context, progress func(events int)) error
}

// retainer keeps a node's old events: it seals them, fetches what is missing,
// lets the log be trimmed, and keeps the store below its quota.
type retainer struct {
	a     *Agent
	size  atomic.Pointer[api.StoreSize]
	floor atomic.Pointer[eventlog.Head]
	swept bool // what a trim may have left was dropped, since the start
	// trouble is why segments can't be kept; empty if they can.
	trouble atomic.Pointer[string]
}

func (r *retainer) run(ctx context.Context) {
	if r.a.p.Retention == nil {
		return
	}
	every := r.a.p.Retention.Every
	if every <= 0 {
		every = retainEvery
	}
	for {
		err := r.round(ctx)
		if ctx.Err() != nil {
			return
		}
		text := ""
		if err != nil {
			text = err.Error()
			r.a.p.Logger.Warn("old events can't be kept as they should", "event", "retain.failed", "reason", err)
		}
		r.trouble.Store(&text)
		if !pause(ctx, every) {
			return
		}
	}
}

// round does whatever is to be done now. Each step can fail alone: a node that
// can't fetch still makes room.
func (r *retainer) round(ctx context.Context) error {
	errs := []error{r.relieve(ctx)}
	bounded, cancel := context.WithTimeout(ctx, retainBound)
	floor, err := r.a.p.Retention.Floor(bounded)
	cancel()
	if err != nil {
		return errors.Join(append(errs, quiet(err))...)
	}
	r.floor.Store(&floor)
	errs = append(errs, r.fetch(ctx, floor))
	if !r.a.Snapshot().Synced {
		return errors.Join(errs...)
	}
	errs = append(errs, r.seal(ctx, floor), r.trim(ctx, floor))
	return errors.Join(errs...)
}

// quiet leaves out what others report: a log that does not answer.
func quiet(err error) error {
	if errors.Is(err, eventlog.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, eventlog.ErrClosed) {
		return nil
	}
	return err
}

// fetch gets the segments below the log's floor that are missing here, or are
// damaged, from the other node.
//
// They, and not the other node's checkpoint, are what a fresh node folds: the
// chain proves them, up to the floor whose hash stands in the log itself.
func (r *retainer) fetch(ctx context.Context, floor eventlog.Head) error {
	segments := r.a.p.Retention.Segments
	for range maxRound {
		end := segments.End()
		if end.Seq >= floor.Seq {
			return nil
		}
		if err := r.fetchOne(ctx, end); err != nil {
			return fmt.Errorf("events from %d on are in no segment here and can't be fetched: %w", end.Seq+1, err)
		}
	}
	return nil
}

func (r *retainer) fetchOne(ctx context.Context, end eventlog.Head) error {
	ctx, cancel := context.WithTimeout(ctx, fetchBound)
	defer cancel()
	err := errors.New("there is no other node; restore a backup, or copy the file from one")
	for _, n := range r.peers() {
		var b []byte
		if b, err = r.a.p.Peer.Segment(ctx, n, end.Seq+1); err != nil {
			continue
		}
		if err = r.a.p.Retention.Segments.Add(b); err == nil {
			r.a.p.Logger.Info("a segment came from the other node", "event", "segment.fetched", "reason", "it was missing", "first", end.Seq+1, "node", n.Name)
			return nil
		}
		if errors.Is(err, eventlog.ErrCorrupt) && end.Seq > 0 {
			return r.differs(ctx, n, err)
		}
	}
	return err
}

// peers are the other nodes: those of the log, and, on a node whose fold waits for
// the very segments that are to be fetched, those that the detector hears.
func (r *retainer) peers() (out []eventlog.Node) {
	snap := r.a.Snapshot()
	for _, name := range r.a.peerNames(snap.State) {
		out = append(out, snap.State.Nodes[name])
	}
	for name, report := range snap.Reports {
		if _, known := snap.State.Nodes[name]; !known && report.API != "" && name != r.a.p.Config.Node {
			out = append(out, eventlog.Node{Name: name, API: report.API})
		}
	}
	return out
}

// differs looks whether our newest segment is the other node's too. If not, the
// log, whose floor lies above, was trimmed with the other's: ours is of a
// history that did not go on, and is set aside.
func (r *retainer) differs(ctx context.Context, n eventlog.Node, why error) error {
	theirs, err := r.a.p.Peer.Segments(ctx, n)
	if err != nil {
		return errors.Join(why, err)
	}
	end := r.a.p.Retention.Segments.End()
	for _, t := range theirs {
		if t.Last == end.Seq && t.Damage == "" && t.End != end {
			return r.setAside(end, "the other node's ends differently: "+why.Error())
		}
	}
	return why
}

// setAside takes the segment that ends with end out of use.
func (r *retainer) setAside(end eventlog.Head, why string) error {
	for _, s := range r.a.p.Retention.Segments.List() {
		if s.End == end {
			r.a.p.Logger.Error("a segment of another history is set aside", "event", "segment.aside", "reason", why, "first", s.First, "last", s.Last)
			return r.a.p.Retention.Segments.SetAside(s.First)
		}
	}
	return nil
}

// seal writes segments of what left the hot window.
func (r *retainer) seal(ctx context.Context, floor eventlog.Head) error {
	segments := r.a.p.Retention.Segments
	for range maxRound {
		head, end := r.a.State().Head, segments.End()
		if end.Seq < floor.Seq || !r.due(ctx, head, end) {
			return nil // fetching comes first, or nothing is old
		}
		run, err := r.next(ctx, end)
		if errors.Is(err, eventlog.ErrCorrupt) && end.Seq > floor.Seq {
			// The log, of which we have every event from the floor on, does not
			// follow our newest segment: it is the segment that is wrong.
			return r.setAside(end, err.Error())
		}
		if err != nil {
			return quiet(err)
		}
		n := segments.Cut(run)
		if n == 0 || !r.old(head, run[n-1]) {
			return nil
		}
		if err := segments.Seal(r.a.State().Cluster, run[:n]); err != nil {
			return err
		}
		r.a.p.Logger.Info("old events are sealed", "event", "segment.sealed", "reason", "they left the hot window", "first", run[0].Seq, "last", run[n-1].Seq)
	}
	return nil
}

// hotEvents is how many events stay in the store. A store that fills up keeps
// fewer.
func (r *retainer) hotEvents() eventlog.Seq {
	hot := r.a.p.Config.Retention.HotEvents
	if s := r.size.Load(); s != nil && s.InUse*100 >= s.Quota*pressPercent && s.Quota > 0 {
		hot = min(hot, r.a.p.Retention.Segments.Size())
	}
	return eventlog.Seq(hot)
}

// due is a cheap look at whether anything behind end may be old.
func (r *retainer) due(ctx context.Context, head, end eventlog.Head) bool {
	if end.Seq >= head.Seq {
		return false
	}
	if end.Seq+r.hotEvents() < head.Seq {
		return true
	}
	first, err := r.a.p.Log.Read(ctx, end.Seq, 1)
	return err == nil && len(first) == 1 && r.old(head, first[0])
}

// old tells whether an event has left the hot window.
func (r *retainer) old(head eventlog.Head, e eventlog.Envelope) bool {
	return e.Seq+r.hotEvents() <= head.Seq || r.a.p.Now().Sub(e.Time) > r.a.p.Config.Retention.HotAge.Std()
}

// next reads events behind end until they make a segment or the log ends.
func (r *retainer) next(ctx context.Context, end eventlog.Head) ([]eventlog.Envelope, error) {
	segments := r.a.p.Retention.Segments
	var run []eventlog.Envelope
	for at := end; len(run) < segments.Size(); {
		page, err := r.a.p.Log.Read(ctx, at.Seq, segments.Size()-len(run))
		if err != nil {
			return nil, err
		}
		if at, err = eventlog.VerifyRun(at, page); err != nil {
			return nil, err
		}
		if run = append(run, page...); len(page) == 0 || segments.Cut(run) > 0 {
			break
		}
	}
	return run, nil
}

// trim carries out what the log says may go, and says what may go next.
func (r *retainer) trim(ctx context.Context, floor eventlog.Head) error {
	say, end := r.a.State().Floor, r.a.p.Retention.Segments.End()
	if (say.Seq > floor.Seq || !r.swept && say.Seq > 0) && end.Seq >= say.Seq {
		bounded, cancel := context.WithTimeout(ctx, fetchBound)
		defer cancel()
		if err := r.a.p.Retention.Trim(bounded, say); err != nil {
			return quiet(err)
		}
		r.floor.Store(&say)
		r.swept = true
		r.a.p.Logger.Info("the log was trimmed", "event", "log.trim", "reason", "every node has sealed the events", "up_to", say.Seq)
		if r.a.p.Retention.Room != nil {
			return quiet(r.a.p.Retention.Room.Compact(bounded))
		}
		return nil
	}
	return r.propose(ctx)
}

// propose records that the log may be trimmed up to what every writer has
// sealed. One node does it, the first by name.
func (r *retainer) propose(ctx context.Context) error {
	s := r.a.State()
	writers := s.LogWriters()
	if len(writers) == 0 || writers[0] != r.a.p.Config.Node {
		return nil
	}
	if ok, _ := r.a.writable(r.a.Snapshot()); !ok {
		return nil
	}
	least := r.a.p.Retention.Segments.End()
	sealed := map[string]eventlog.Seq{}
	for _, n := range writers {
		end := r.a.p.Retention.Segments.End()
		if n != r.a.p.Config.Node {
			bounded, cancel := context.WithTimeout(ctx, remoteBound)
			st, err := r.a.p.Peer.Status(bounded, s.Nodes[n])
			cancel()
			if err != nil {
				return nil // it keeps its events; the next round asks again
			}
			end = st.Sealed
		}
		if sealed[n] = end.Seq; end.Seq < least.Seq {
			least = end
		}
	}
	upTo, err := r.boundary(least)
	if err != nil || upTo.Seq <= s.Floor.Seq {
		return err
	}
	return quiet(r.a.Submit(ctx, projections.TrimLog{UpTo: upTo, Sealed: sealed}, "every node has sealed them"))
}

// boundary is the newest end of a segment here at or before least, which every
// node has. Where both have an end, both must have the same event there.
func (r *retainer) boundary(least eventlog.Head) (upTo eventlog.Head, err error) {
	for _, s := range r.a.p.Retention.Segments.List() {
		if s.Damage != "" || s.Prev != upTo || s.Last > least.Seq {
			break
		}
		upTo = s.End
	}
	if upTo.Seq == least.Seq && upTo != least {
		return eventlog.Head{}, fmt.Errorf("%w: the sealed segments of the nodes differ at event %d; try: dyad log verify", eventlog.ErrCorrupt, least.Seq)
	}
	return upTo, nil
}

// status fills in what a node says of its old events.
func (r *retainer) status(st *api.Status) {
	if r.a.p.Retention == nil {
		return
	}
	st.Sealed, st.Size = r.a.p.Retention.Segments.End(), r.size.Load()
	if f := r.floor.Load(); f != nil {
		st.Floor = *f
	}
}

func (r *retainer) diagnosis(d *diagnosis) {
	if r.a.p.Retention == nil {
		return
	}
	d.size = r.size.Load()
	if t := r.trouble.Load(); t != nil {
		d.retention = *t
	}
	for _, s := range r.a.p.Retention.Segments.List() {
		if s.Damage != "" {
			d.damaged = append(d.damaged, fmt.Sprintf("the sealed segment with events from %d on is damaged: %s", s.First, s.Damage))
		}
	}
	f := r.floor.Load()
	if end := r.a.p.Retention.Segments.End(); f != nil && end.Seq < f.Seq {
		d.missing = f.Seq - end.Seq
	}
}
