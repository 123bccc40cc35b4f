// Package memlog is an [eventlog.Log] in memory: for simulations, for tests,
// and as the plainest reading of the contract. It starts no goroutine, so it
// runs in virtual time.
package memlog

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"dyad/eventlog"
)

// Log keeps its events in memory. It passes the suite in eventlog/logtest.
type Log struct {
	clock func() time.Time

	mu sync.Mutex
	// Invariant: events[i].Seq is floor.Seq+i+1, and each follows the one before it.
	events  []eventlog.Envelope
	floor   eventlog.Head // the last event that was trimmed
	head    eventlog.Head
	streams map[string]uint64
	keys    map[string]eventlog.Seq
	news    chan struct{} // closed and replaced whenever something changes
	closed  bool
	down    error // why nothing can be appended; nil if it can
}

// New returns an empty log that records events at clock's time. A nil clock is
// the wall clock.
func New(clock func() time.Time) *Log {
	if clock == nil {
		clock = time.Now
	}
	return &Log{
		clock: clock, news: make(chan struct{}),
		streams: map[string]uint64{}, keys: map[string]eventlog.Seq{},
	}
}

var _ eventlog.Trimmer = (*Log)(nil)

// Append implements [eventlog.Log].
func (l *Log) Append(ctx context.Context, b eventlog.Batch) ([]eventlog.Envelope, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(ctx); err != nil {
		return nil, err
	}
	if l.down != nil {
		return nil, fmt.Errorf("%w: %w", eventlog.ErrUnavailable, l.down)
	}
	sealed, err := eventlog.SealBatch(eventlog.Base{Head: l.head, Streams: l.streams, Keys: l.keys}, l.clock(), b)
	if err != nil || len(sealed) == 0 {
		return nil, err
	}
	for _, e := range sealed {
		l.streams[e.Stream] = e.StreamRev
		if e.Key != "" {
			l.keys[e.Key] = e.Seq
		}
	}
	l.events = append(l.events, sealed...)
	l.head = eventlog.HeadOf(sealed[len(sealed)-1])
	l.pulse()
	return sealed, nil
}

// Head implements [eventlog.Log].
func (l *Log) Head(ctx context.Context) (eventlog.Head, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head, l.usable(ctx)
}

// Read implements [eventlog.Log].
func (l *Log) Read(ctx context.Context, after eventlog.Seq, limit int) ([]eventlog.Envelope, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(ctx); err != nil {
		return nil, err
	}
	if after < l.floor.Seq && limit > 0 {
		return nil, &eventlog.TrimmedError{Floor: l.floor}
	}
	return l.page(after, limit), nil
}

// page is what Read returns; l.mu is held.
func (l *Log) page(after eventlog.Seq, limit int) []eventlog.Envelope {
	if after >= l.head.Seq || limit <= 0 {
		return nil
	}
	rest := l.events[after-l.floor.Seq:]
	return append([]eventlog.Envelope(nil), rest[:min(limit, eventlog.MaxPage, len(rest))]...)
}

// Follow implements [eventlog.Log].
func (l *Log) Follow(ctx context.Context, after eventlog.Head) iter.Seq2[[]eventlog.Envelope, error] {
	return func(yield func([]eventlog.Envelope, error) bool) {
		for at, marked := after, false; ; {
			run, news, err := l.next(ctx, at)
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				at, err = eventlog.VerifyRun(at, run)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if len(run) > 0 {
				if !yield(run, nil) {
					return
				}
				continue
			}
			if !marked && !yield(nil, nil) {
				return
			}
			marked = true
			select {
			case <-news:
			case <-ctx.Done():
				return
			}
		}
	}
}

// next is the page after at, and a channel that is closed when there is more.
func (l *Log) next(ctx context.Context, at eventlog.Head) ([]eventlog.Envelope, <-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch err := l.usable(ctx); {
	case err != nil:
		return nil, nil, err
	case at.Seq > l.head.Seq:
		return nil, nil, fmt.Errorf("%w: the log ends with event %d, %d was seen before", eventlog.ErrGap, l.head.Seq, at.Seq)
	case at.Seq < l.floor.Seq:
		return nil, nil, &eventlog.TrimmedError{Floor: l.floor}
	case at.Seq > 0 && l.at(at.Seq).Hash != at.Hash:
		return nil, nil, fmt.Errorf("%w: event %d is another one than was seen before", eventlog.ErrCorrupt, at.Seq)
	}
	return l.page(at.Seq, eventlog.MaxPage), l.news, nil
}

// at is the head of a log that ended with event s, from the floor on; l.mu is
// held.
func (l *Log) at(s eventlog.Seq) eventlog.Head {
	if s == l.floor.Seq {
		return l.floor
	}
	return eventlog.HeadOf(l.events[s-l.floor.Seq-1])
}

// Trim implements [eventlog.Trimmer].
func (l *Log) Trim(ctx context.Context, upTo eventlog.Head) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch err := l.usable(ctx); {
	case err != nil:
		return err
	case upTo.Seq <= l.floor.Seq:
		return nil
	case upTo.Seq > l.head.Seq:
		return fmt.Errorf("%w: trim up to event %d, the log ends with %d", eventlog.ErrGap, upTo.Seq, l.head.Seq)
	case l.at(upTo.Seq) != upTo:
		return fmt.Errorf("%w: event %d is not the one to trim up to", eventlog.ErrCorrupt, upTo.Seq)
	}
	n := upTo.Seq - l.floor.Seq
	for _, e := range l.events[:n] {
		if l.keys[e.Key] <= upTo.Seq {
			delete(l.keys, e.Key)
		}
	}
	l.events, l.floor = append([]eventlog.Envelope(nil), l.events[n:]...), upTo
	return nil
}

// Floor implements [eventlog.Trimmer].
func (l *Log) Floor(ctx context.Context) (eventlog.Head, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.floor, l.usable(ctx)
}

// Suspend makes appends fail with ErrUnavailable, as a log without quorum does,
// for the given reason. nil ends it. Reads and followers go on.
func (l *Log) Suspend(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = why
}

// Close ends all followers and refuses everything from then on with ErrClosed.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.pulse()
}

func (l *Log) pulse() {
	close(l.news)
	l.news = make(chan struct{})
}

func (l *Log) usable(ctx context.Context) error {
	if l.closed {
		return eventlog.ErrClosed
	}
	return ctx.Err()
}
