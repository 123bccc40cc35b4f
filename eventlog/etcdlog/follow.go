package etcdlog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"dyad/eventlog"
)

// How a follower keeps up.
const (
	// followPauseMin and followPauseMax bound the pause before a follower
	// starts over. It doubles while nothing new is delivered.
	followPauseMin = 10 * time.Millisecond
	followPauseMax = time.Second
	// recheckEvery is how often a waiting follower looks at the head itself. A
	// watch that survived a forced restart of the store may be silent for ever.
	recheckEvery = 2 * time.Second
	// slowAfter is how long a consumer may take for one step before its watch is
	// given up: the client buffers a watch without bound, a range does not.
	slowAfter = time.Second
)

// Reasons to range again.
var (
	errStopped = errors.New("the consumer stopped")
	errSlow    = errors.New("the consumer was slow")
	errSilent  = errors.New("the watch told nothing and the head moved")
	errEnded   = errors.New("the watch ended")
)

// Follow implements [eventlog.Log]: range to the head, watch from the next
// revision, and range again from the last delivered event whenever the watch
// ends for whatever reason.
func (l *Log) Follow(ctx context.Context, after eventlog.Head) iter.Seq2[[]eventlog.Envelope, error] {
	return func(yield func([]eventlog.Envelope, error) bool) {
		f := follower{l: l, at: after, yield: yield}
		if err := f.run(ctx); err != nil && ctx.Err() == nil {
			yield(nil, err)
		}
	}
}

type follower struct {
	l     *Log
	at    eventlog.Head // the last event delivered
	floor eventlog.Seq  // the log's floor, as it was last read
	yield func([]eventlog.Envelope, error) bool

	marked bool // the empty step was delivered
}

// run goes on until the consumer stops or ctx ends (nil), or an error is final.
func (f *follower) run(ctx context.Context) error {
	pause := followPauseMin
	for {
		before := f.at.Seq
		err := f.once(ctx)
		switch {
		case errors.Is(err, errStopped):
			return nil
		case ctx.Err() != nil:
			return nil
		case f.l.ctx.Err() != nil:
			return eventlog.ErrClosed
		case final(err):
			return err
		}
		f.l.log.Debug("the follower starts over", "event", "log.follow", "reason", err, "after", f.at.Seq)
		if f.at.Seq > before {
			pause = followPauseMin
		}
		if f.l.pause(ctx, pause) != nil {
			continue // the switch above tells which it was
		}
		pause = min(2*pause, followPauseMax)
	}
}

// once ranges to the head and watches from there. It always returns an error:
// the reason it ended.
func (f *follower) once(ctx context.Context) error {
	if err := f.l.gate(ctx); err != nil {
		return err
	}
	revision, err := f.catchUp(ctx)
	if err != nil {
		return err
	}
	if !f.marked {
		f.marked = true
		if !f.yield(nil, nil) {
			return errStopped
		}
	}
	return f.watch(ctx, revision+1)
}

// catchUp delivers everything up to the head and returns the store's revision
// there.
func (f *follower) catchUp(ctx context.Context) (int64, error) {
	for {
		p, err := f.l.page(ctx, f.at.Seq, pageEvents)
		if err != nil {
			return 0, err
		}
		if p.head.Seq < f.at.Seq {
			return 0, f.behind(ctx)
		}
		at, err := eventlog.VerifyRun(f.at, p.events)
		if err != nil {
			return 0, err
		}
		if at.Seq == p.head.Seq && at.Hash != p.head.Hash {
			return 0, fmt.Errorf("%w: event %d is another one than was seen before", eventlog.ErrCorrupt, at.Seq)
		}
		if f.at = at; len(p.events) > 0 && !f.yield(p.events, nil) {
			return 0, errStopped
		}
		if p.end() {
			return p.revision, nil
		}
	}
}

// behind explains a local log that ends before what was delivered: either the
// local member is catching up, or the events are gone from the quorum too.
func (f *follower) behind(ctx context.Context) error {
	h, err := f.l.readHead(ctx)
	if err != nil {
		return err
	}
	if h.Seq < f.at.Seq {
		return fmt.Errorf("%w: the log ends with event %d, %d was seen before", eventlog.ErrGap, h.Seq, f.at.Seq)
	}
	return fmt.Errorf("%w: the local member is behind event %d", eventlog.ErrUnavailable, f.at.Seq)
}

// watch delivers events as they come. What looks wrong in a watch is judged by
// ranging again, not here; only a changed event is final at once.
func (f *follower) watch(ctx context.Context, from int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(f.l.ctx, cancel)()
	if f.l.opts.Shared {
		ctx = clientv3.WithRequireLeader(ctx) // a member that is cut off from the others says so
	}
	events := f.l.client.Watch(ctx, f.l.keys.events(), clientv3.WithPrefix(), clientv3.WithRev(from))
	recheck := time.NewTicker(recheckEvery)
	defer recheck.Stop()
	for {
		select {
		case resp, ok := <-events:
			if !ok {
				return errEnded
			}
			if err := resp.Err(); err != nil {
				return fmt.Errorf("%w: %w", errEnded, err)
			}
			run, err := f.decode(ctx, resp.Events)
			if err != nil {
				return err
			}
			if err := f.deliver(run, cancel); err != nil {
				return err
			}
			recheck.Reset(recheckEvery)
		case <-recheck.C:
			h, err := f.l.readHead(ctx, f.l.local()...)
			if err != nil {
				return err
			}
			if h.Seq != f.at.Seq {
				return errSilent
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *follower) decode(ctx context.Context, events []*clientv3.Event) ([]eventlog.Envelope, error) {
	run := make([]eventlog.Envelope, 0, len(events))
	for _, ev := range events {
		if ev.Type == clientv3.EventTypeDelete {
			if err := f.trimmed(ctx, ev.Kv.Key); err != nil {
				return nil, err
			}
			continue
		}
		e, err := f.l.read(ev.Kv)
		if err != nil {
			return nil, err
		}
		run = append(run, e)
	}
	return run, nil
}

// trimmed checks that a deleted event lies below the floor. Trim raises the
// floor before it deletes, and the watch comes from the member that is asked, so
// the member has that floor by now.
func (f *follower) trimmed(ctx context.Context, key []byte) error {
	seq, ok := f.l.keys.sequence(key)
	if ok && seq <= f.floor {
		return nil
	}
	floor, err := f.l.readFloor(ctx, f.l.local()...)
	if err != nil {
		return err
	}
	if f.floor = floor.Seq; !ok || seq > f.floor {
		// Where the head is gone too the store lost the log: that is no other history.
		if _, err := f.l.readHead(ctx, f.l.local()...); err != nil {
			return err
		}
		return fmt.Errorf("%w: %s was deleted", eventlog.ErrCorrupt, key)
	}
	return nil
}

// deliver hands a watched run to the consumer. giveUp ends the watch if the
// consumer takes too long.
func (f *follower) deliver(run []eventlog.Envelope, giveUp func()) error {
	at, err := eventlog.VerifyRun(f.at, run)
	if err != nil {
		return fmt.Errorf("%w: %v", errEnded, err) // not final: the range decides
	}
	if len(run) == 0 {
		return nil
	}
	_ = f.l.saw(0, at.Seq) // whatever it is: the watch is on its way
	f.at = at
	slow := time.AfterFunc(slowAfter, giveUp)
	for len(run) > 0 {
		n := min(len(run), eventlog.MaxPage)
		if !f.yield(run[:n], nil) {
			slow.Stop()
			return errStopped
		}
		run = run[n:]
	}
	if !slow.Stop() {
		return errSlow
	}
	return nil
}
