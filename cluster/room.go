package cluster

import (
	"context"
	"fmt"

	"dyad/cluster/api"
)

// What the size of the store leads to, in percent of its quota.
const (
	// pressPercent in use shrinks the hot window to one segment.
	pressPercent = 60
	// refusePercent refuses new intents, waitPercent lets facts wait in the
	// journal: the record of a failover is worth more than one more change.
	refusePercent = 80
	waitPercent   = 95
)

// When the store's file is rewritten without its holes (defragmented). While
// that goes on its member answers nobody, so it must be worth it: the file is
// half holes, or it nears its bound and a fifth of it is holes.
const (
	defragMinPercent  = 25 // of the quota: a smaller file is left alone
	defragFreePercent = 50 // of the file
	defragNearPercent = 60 // of the quota
	defragNearFree    = 20 // of the file
)

// Room makes room in the store's file.
type Room interface {
	Size(ctx context.Context) (api.StoreSize, error)
	// Compact drops what deleted and overwritten keys held.
	Compact(ctx context.Context) error
	// Defrag rewrites this member's file without holes.
	Defrag(ctx context.Context) error
	// HandOver makes the other member lead; it fails if there is none.
	HandOver(ctx context.Context) error
	// Disarm lets the store take writes again after it was full.
	Disarm(ctx context.Context) error
}

// relieve looks at the store's size and makes room if that helps.
func (r *retainer) relieve(ctx context.Context) error {
	room := r.a.p.Retention.Room
	if room == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, fetchBound)
	defer cancel()
	size, err := room.Size(ctx)
	if err != nil {
		return nil // a store that does not answer has its own condition
	}
	r.size.Store(&size)
	if size.NoSpace {
		return r.reopen(ctx, size)
	}
	if !WorthDefrag(size) {
		return nil
	}
	// One at a time, and never the leader of two: the leader hands over first
	// and comes round as the follower, and there is only one of each.
	if size.Leader && len(r.a.State().Writers) > 1 {
		if err := room.HandOver(ctx); err != nil {
			return nil // the other one is not there to lead; writing stalls anyway
		}
		r.a.p.Logger.Info("the other node leads the store now", "event", "store.handover", "reason", "this member's file is to be rewritten")
		return nil
	}
	return r.defrag(ctx, size)
}

// WorthDefrag tells whether the store's file should be rewritten.
func WorthDefrag(s api.StoreSize) bool {
	free := (s.Total - s.InUse) * 100
	return s.Percent() >= defragMinPercent && free >= s.Total*defragFreePercent ||
		s.Percent() >= defragNearPercent && free >= s.Total*defragNearFree
}

func (r *retainer) defrag(ctx context.Context, was api.StoreSize) error {
	room := r.a.p.Retention.Room
	if err := room.Defrag(ctx); err != nil {
		return quiet(fmt.Errorf("rewrite the store's file: %w", err))
	}
	size, err := room.Size(ctx)
	if err != nil {
		return nil
	}
	r.size.Store(&size)
	r.a.p.Logger.Info("the store's file was rewritten", "event", "store.defrag", "reason", "much of it was free",
		"was_bytes", was.Total, "now_bytes", size.Total)
	return nil
}

// reopen brings a store back that reached its quota: what was overwritten or
// deleted goes, the file shrinks, and if that was enough the alarm is switched
// off. Both members have to shrink; whoever does so last lifts it.
func (r *retainer) reopen(ctx context.Context, was api.StoreSize) error {
	room := r.a.p.Retention.Room
	if err := room.Compact(ctx); err != nil {
		return quiet(fmt.Errorf("make room in the store: %w", err))
	}
	if err := r.defrag(ctx, was); err != nil {
		return err
	}
	if size := r.size.Load(); size.Percent() < waitPercent {
		if err := room.Disarm(ctx); err != nil {
			return quiet(fmt.Errorf("let the store take writes again: %w", err))
		}
		r.a.p.Logger.Warn("the store takes writes again", "event", "store.space", "reason", "it was full, and there is room now", "percent", size.Percent())
	}
	return nil
}

// full tells whether the store is too full for changes; if so, why and what to
// do.
func (r *retainer) full() (bool, string) {
	s := r.size.Load()
	if s == nil || !s.NoSpace && s.Percent() < refusePercent {
		return false, ""
	}
	return true, fmt.Sprintf("the store takes %d %% of its %d MiB, and from %d %% on only facts are written; "+
		"old events are sealed and dropped by themselves when both nodes run; try: dyad status, then dyad backup FILE and a larger retention.quotaMiB",
		s.Percent(), s.Quota>>20, refusePercent)
}

// factsWait tells whether even facts stay in the journal.
func (r *retainer) factsWait() bool {
	s := r.size.Load()
	return s != nil && (s.NoSpace || s.Percent() >= waitPercent)
}
