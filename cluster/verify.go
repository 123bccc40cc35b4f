package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"dyad/cluster/api"
	"dyad/eventlog"
)

const fixDamage = "; try: keep both nodes running, a damaged segment is replaced by the other node's copy; if that does not help, dyad restore"

// Segments implements [api.Backend].
func (a *Agent) Segments() []api.Segment {
	if a.p.Retention == nil {
		return nil
	}
	return a.p.Retention.Segments.List()
}

// Segment implements [api.Backend].
func (a *Agent) Segment(ctx context.Context, first, upTo eventlog.Seq) ([]byte, error) {
	if a.p.Retention == nil {
		return nil, noSegment(first, "this node keeps none")
	}
	segments := a.p.Retention.Segments
	for _, s := range segments.List() {
		if s.First == first && (upTo == 0 || s.Last <= upTo) && s.Damage == "" {
			return segments.File(first)
		}
	}
	if upTo < first {
		return nil, noSegment(first, "none is sealed here that begins there")
	}
	var prev eventlog.Head
	if first > 1 {
		before, err := a.p.Log.Read(ctx, first-2, 1)
		if err != nil {
			return nil, err
		}
		if len(before) == 0 {
			return nil, noSegment(first, "the log ends before it")
		}
		prev = eventlog.HeadOf(before[0])
	}
	run, err := a.ret.next(ctx, prev)
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(run, func(e eventlog.Envelope) bool { return e.Seq > upTo }); i >= 0 {
		run = run[:i]
	}
	if n := segments.Cut(run); n > 0 {
		run = run[:n]
	}
	if len(run) == 0 {
		return nil, noSegment(first, "the log ends before it")
	}
	return segments.Marshal(a.State().Cluster, prev, run)
}

func noSegment(first eventlog.Seq, why string) error {
	return &api.Error{Class: api.ClassRefused, Code: "segment-unknown", What: fmt.Sprintf("the segment with event %d", first), Why: why, Fix: "dyad log verify"}
}

// Verify implements [api.Backend].
func (a *Agent) Verify(ctx context.Context, fromStart bool, progress func(done, of eventlog.Seq)) (api.Verification, error) {
	v := api.Verification{Node: a.p.Config.Node, From: 1}
	head, err := a.p.Log.Head(ctx)
	if err != nil {
		return v, err
	}
	v.Head = head
	var floor eventlog.Head
	ends := map[eventlog.Seq]eventlog.Head{}
	if a.p.Retention != nil {
		if floor, err = a.p.Retention.Floor(ctx); err != nil {
			return v, err
		}
		a.verifySegments(ctx, &v, fromStart, floor, ends, func(n int) { progress(eventlog.Seq(n), max(head.Seq, eventlog.Seq(n))) })
	}
	at := floor
	if !fromStart {
		v.From = floor.Seq + 1
	}
	for at.Seq < head.Seq {
		run, err := a.p.Log.Read(ctx, at.Seq, eventlog.MaxPage)
		if err == nil && len(run) == 0 {
			err = fmt.Errorf("%w: the log ends with event %d, and its head names %d", eventlog.ErrGap, at.Seq, head.Seq)
		}
		if err == nil {
			_, err = eventlog.VerifyRun(at, run)
		}
		if !isDamage(err) && err != nil {
			return v, err
		}
		if err != nil {
			v.Damage = append(v.Damage, "the store, after event "+fmt.Sprint(at.Seq)+": "+err.Error()+fixDamage)
			break
		}
		for _, e := range run {
			if end, ok := ends[e.Seq]; ok && end.Hash != e.Hash {
				v.Damage = append(v.Damage, fmt.Sprintf("event %d is another one in its sealed segment than in the store%s", e.Seq, fixDamage))
			}
		}
		v.Events += len(run)
		at = eventlog.HeadOf(run[len(run)-1])
		progress(at.Seq, max(head.Seq, at.Seq))
	}
	if v.To = at.Seq; at.Seq == head.Seq && at.Hash != head.Hash {
		v.Damage = append(v.Damage, fmt.Sprintf("event %d is not the one that the head of the store names%s", at.Seq, fixDamage))
	}
	v.Others = a.compareLogs(ctx)
	for _, o := range v.Others {
		if o.Error == "" && !o.Same {
			v.Damage = append(v.Damage, fmt.Sprintf("this node and %s have different histories; try: dyad status on both, and do not change anything", o.Node))
		}
	}
	return v, nil
}

func isDamage(err error) bool {
	return errors.Is(err, eventlog.ErrCorrupt) || errors.Is(err, eventlog.ErrGap)
}

// verifySegments checks the sealed files: all of every one, or that they follow
// each other up to the floor. It notes their ends, to compare them with the log.
func (a *Agent) verifySegments(ctx context.Context, v *api.Verification, whole bool, floor eventlog.Head, ends map[eventlog.Seq]eventlog.Head, progress func(int)) {
	segments := a.p.Retention.Segments
	if whole {
		if err := segments.Verify(ctx, progress); err != nil {
			v.Damage = append(v.Damage, err.Error())
		}
	}
	for _, s := range segments.List() {
		v.Segments++
		ends[s.Last] = s.End
		if whole && s.First <= floor.Seq {
			v.Events += int(min(s.Last, floor.Seq)-s.First) + 1
		}
		if !whole && s.Damage != "" {
			v.Damage = append(v.Damage, fmt.Sprintf("the segment with events from %d on: %s%s", s.First, s.Damage, fixDamage))
		}
	}
	if end := segments.End(); end.Seq < floor.Seq && len(v.Damage) == 0 {
		v.Damage = append(v.Damage, fmt.Sprintf("events %d–%d are in no sealed segment on this node%s", end.Seq+1, floor.Seq, fixDamage))
	}
	if h, ok := ends[floor.Seq]; ok && h != floor {
		v.Damage = append(v.Damage, fmt.Sprintf("event %d is another one in its sealed segment than the log was trimmed at%s", floor.Seq, fixDamage))
	}
}

// compareLogs asks the other nodes for their heads, and looks whether this node
// has the same event there.
func (a *Agent) compareLogs(ctx context.Context) []api.Comparison {
	sealed := map[eventlog.Seq]eventlog.Head{}
	for _, s := range a.Segments() {
		sealed[s.First] = s.End
	}
	var out []api.Comparison
	for name, ans := range others(ctx, a, func(ctx context.Context, n eventlog.Node) (api.Comparison, error) {
		c := api.Comparison{Node: n.Name}
		st, err := a.p.Peer.Status(ctx, n)
		if err != nil {
			return c, err
		}
		c.Head = st.Head
		if c.Same, err = a.sameEvent(ctx, st.Head); err != nil {
			return c, err
		}
		theirs, err := a.p.Peer.Segments(ctx, n)
		for _, s := range theirs {
			if end, both := sealed[s.First]; both && end.Seq == s.Last && end != s.End {
				c.Same = false
			}
		}
		return c, err
	}) {
		ans.v.Node = name
		if ans.err != nil {
			ans.v.Error = brief(ans.err)
		}
		out = append(out, ans.v)
	}
	slices.SortFunc(out, func(x, y api.Comparison) int { return compareNames(x.Node, y.Node) })
	return out
}

// sameEvent tells whether this node has the event that ends another node's log.
// If it is not here yet, it waits as long as ctx lets it.
func (a *Agent) sameEvent(ctx context.Context, theirs eventlog.Head) (bool, error) {
	if theirs.Seq == 0 {
		return true, nil
	}
	if !a.awaitFolded(ctx, theirs.Seq) {
		return false, fmt.Errorf("it has event %d, which has not come here yet", theirs.Seq)
	}
	run, err := a.p.Log.Read(ctx, theirs.Seq-1, 1)
	if err != nil {
		return false, err
	}
	return len(run) == 1 && run[0].Hash == theirs.Hash, nil
}
