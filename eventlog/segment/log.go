package segment

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"dyad/eventlog"
)

// Log is one whole log out of two: sealed segments up to the floor of a trimmed
// log, and that log from there on. It implements [eventlog.Log].
//
// Where segments are missing (a node that just joined), Read is
// eventlog.ErrUnavailable and Follow waits: somebody is fetching them. What is
// damaged is *DamageError.
type Log struct {
	hot      eventlog.Trimmer
	segments *Store
}

var _ eventlog.Log = (*Log)(nil)

// Join joins both.
func Join(hot eventlog.Trimmer, segments *Store) *Log { return &Log{hot: hot, segments: segments} }

// Append implements [eventlog.Log].
func (l *Log) Append(ctx context.Context, b eventlog.Batch) ([]eventlog.Envelope, error) {
	return l.hot.Append(ctx, b)
}

// Head implements [eventlog.Log].
func (l *Log) Head(ctx context.Context) (eventlog.Head, error) { return l.hot.Head(ctx) }

// Trim drops events from the log in front once they are in segments here.
//
// Invariant: what is not in an unbroken run of segments on this node is not
// dropped by this node. Errors: ErrMissing, and those of [eventlog.Trimmer].
func (l *Log) Trim(ctx context.Context, upTo eventlog.Head) error {
	if h, ok := l.segments.EndAt(upTo.Seq); !ok {
		return fmt.Errorf("%w: none that ends with event %d", ErrMissing, upTo.Seq)
	} else if h != upTo {
		return fmt.Errorf("%w: event %d is another one in the segments", eventlog.ErrCorrupt, upTo.Seq)
	}
	return l.hot.Trim(ctx, upTo)
}

// Read implements [eventlog.Log].
func (l *Log) Read(ctx context.Context, after eventlog.Seq, limit int) ([]eventlog.Envelope, error) {
	limit = min(limit, eventlog.MaxPage)
	var out []eventlog.Envelope
	for len(out) < limit {
		run, err := l.hot.Read(ctx, after, limit-len(out))
		cold := errors.Is(err, eventlog.ErrTrimmed)
		if cold {
			run, err = l.segments.Read(after, limit-len(out))
		}
		if err != nil {
			return nil, err
		}
		if len(out) > 0 {
			if _, err := eventlog.VerifyRun(eventlog.HeadOf(out[len(out)-1]), run); err != nil {
				return nil, fmt.Errorf("where the segments meet the log: %w", err)
			}
		}
		if out = append(out, run...); !cold || len(run) == 0 {
			break // what the log gives short of the limit, it gives to any reader
		}
		after = out[len(out)-1].Seq
	}
	return out, nil
}

// Follow implements [eventlog.Log].
func (l *Log) Follow(ctx context.Context, after eventlog.Head) iter.Seq2[[]eventlog.Envelope, error] {
	return func(yield func([]eventlog.Envelope, error) bool) {
		marked := false // the empty step was delivered
		for at := after; ; {
			var trimmed *eventlog.TrimmedError
			for run, err := range l.hot.Follow(ctx, at) {
				if errors.As(err, &trimmed) {
					break
				}
				if err == nil && len(run) > 0 {
					at = eventlog.HeadOf(run[len(run)-1])
				}
				if err == nil && len(run) == 0 && marked {
					continue
				}
				marked = marked || err == nil && len(run) == 0
				if !yield(run, err) || err != nil {
					return
				}
			}
			if trimmed == nil || ctx.Err() != nil {
				return
			}
			next, err := l.followCold(ctx, at, trimmed.Floor, yield)
			if err != nil {
				if !errors.Is(err, errStopped) && ctx.Err() == nil {
					yield(nil, err)
				}
				return
			}
			at = next
		}
	}
}

var errStopped = errors.New("the consumer stopped")

// followCold delivers events from segments until floor, waiting for those that
// are missing.
func (l *Log) followCold(ctx context.Context, at, floor eventlog.Head, yield func([]eventlog.Envelope, error) bool) (eventlog.Head, error) {
	for at.Seq < floor.Seq {
		news := l.segments.Changed()
		run, err := l.segments.Read(at.Seq, eventlog.MaxPage)
		if errors.Is(err, ErrMissing) {
			select {
			case <-news:
				continue
			case <-ctx.Done():
				return at, ctx.Err()
			}
		}
		if err != nil {
			return at, err
		}
		next, err := eventlog.VerifyRun(at, run)
		if err != nil {
			return at, err
		}
		if at = next; !yield(run, nil) {
			return at, errStopped
		}
	}
	if at.Seq == floor.Seq && at.Hash != floor.Hash {
		return at, fmt.Errorf("%w: event %d in the segments is another one than the log was trimmed at", eventlog.ErrCorrupt, at.Seq)
	}
	return at, nil
}
