package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"dyad/eventlog"
	"dyad/failover"
)

// Bounds of the recorder.
const (
	// maxUnwritten facts wait in memory for the journal's fsync. Beyond that
	// whoever reports a fact waits too, so nothing is dropped.
	maxUnwritten = 16384
	// copyPage facts are copied into the log with one append, or fewer into a
	// store that takes smaller transactions only.
	copyPage = 512
	// copyRetry is the pause after the log could not be written.
	copyRetry    = 250 * time.Millisecond
	copyRetryMax = 2 * time.Second
	// journalRetry is the pause after the journal could not be written.
	journalRetry = 500 * time.Millisecond
)

// recorder writes facts to the journal as they come, off the failover path, and
// copies the journal into the log whenever the log can be written.
type recorder struct {
	a       *Agent
	queue   chan eventlog.Draft
	written *signal
	page    int // facts to copy with one append; touched by copy only
	mu      sync.Mutex
	failing string // why the journal can't be written; empty if it can
}

func newRecorder(a *Agent) *recorder {
	return &recorder{a: a, queue: make(chan eventlog.Draft, maxUnwritten), written: newSignal(), page: copyPage}
}

// fact queues a fact for the journal.
func (r *recorder) fact(f failover.Fact) { r.draft(r.draftOf(f)) }

// now writes a fact to the journal before it returns, for a caller that must not
// go on without.
func (r *recorder) now(ctx context.Context, f failover.Fact) error {
	if err := r.a.p.Journal.Append(ctx, r.draftOf(f)); err != nil {
		return err
	}
	r.written.pulse()
	return nil
}

func (r *recorder) draft(d eventlog.Draft) { r.queue <- d }

func (r *recorder) draftOf(f failover.Fact) eventlog.Draft {
	a := r.a
	d, err := eventlog.NewDraft(f.Type, f.Stream, f.Data, nil)
	if err != nil {
		a.p.Logger.Error("a fact can't be encoded", "event", f.Type, "reason", err)
		d = eventlog.Draft{Type: f.Type, Version: 1, Stream: f.Stream}
	}
	if len(f.Evidence) > 0 {
		if b, err := json.Marshal(f.Evidence); err == nil {
			d.Evidence = b
		}
	}
	d.ID, d.Reason, d.ObservedAt = a.p.NewID(), f.Reason, f.At
	d.Actor = eventlog.Actor{Name: a.p.Config.Node, Auth: "system"}
	d.Source = a.source("machine", "")
	a.p.Logger.Info("fact", "event", string(f.Type), "stream", f.Stream, "reason", f.Reason, "data", string(d.Data))
	return d
}

func (a *Agent) source(iface, client string) eventlog.Source {
	return eventlog.Source{Node: a.p.Config.Node, Address: a.p.Config.Address, Interface: iface, Client: client}
}

// run writes queued facts to the journal, several with one fsync. When ctx
// ends it writes what still waits.
func (r *recorder) run(ctx context.Context) {
	for {
		select {
		case d := <-r.queue:
			r.write(ctx, r.gather(d))
		case <-ctx.Done():
			if rest := r.gather(); len(rest) > 0 {
				r.write(ctx, rest)
			}
			return
		}
	}
}

// gather takes everything that waits.
func (r *recorder) gather(first ...eventlog.Draft) []eventlog.Draft {
	for {
		select {
		case d := <-r.queue:
			first = append(first, d)
		default:
			return first
		}
	}
}

// write retries until the journal has the facts, or ctx ends.
func (r *recorder) write(ctx context.Context, facts []eventlog.Draft) {
	for {
		err := r.a.p.Journal.Append(context.WithoutCancel(ctx), facts...)
		r.setFailing(err)
		if err == nil {
			r.written.pulse()
			return
		}
		r.a.p.Logger.Error("facts can't be written to the journal; they wait in memory",
			"event", "journal.write", "reason", err, "facts", len(facts))
		if !pause(ctx, journalRetry) {
			return
		}
	}
}

func (r *recorder) setFailing(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failing = ""
	if err != nil {
		r.failing = err.Error()
	}
}

func (r *recorder) whyFailing() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failing
}

// copy moves facts from the journal into the log. It waits for news in the
// journal, and after a refusal of the log it tries again.
func (r *recorder) copy(ctx context.Context) {
	wait := copyRetry
	for ctx.Err() == nil {
		news := r.written.next()
		n, err := r.copyPage(ctx)
		switch {
		case err != nil:
			r.a.p.Logger.Debug("facts wait for the log", "event", "journal.copy", "reason", err)
			pause(ctx, wait)
			wait = min(2*wait, copyRetryMax)
		case n == 0:
			wait = copyRetry
			select {
			case <-news:
			case <-ctx.Done():
			}
		default:
			wait = copyRetry
		}
	}
}

// copyPage copies the oldest facts. What stands in the log already is skipped:
// merging is a union by (node, boot, n).
func (r *recorder) copyPage(ctx context.Context) (int, error) {
	s := r.a.Snapshot()
	if ok, why := r.a.writable(s); !ok {
		return 0, fmt.Errorf("%w: %s", eventlog.ErrUnavailable, why)
	}
	if r.a.ret.factsWait() {
		return 0, fmt.Errorf("%w: the store is almost full", eventlog.ErrUnavailable)
	}
	drafts, err := r.a.p.Journal.Pending(r.page)
	if err != nil || len(drafts) == 0 {
		return 0, err
	}
	last := *drafts[len(drafts)-1].Origin
	for rest := drafts; len(rest) > 0; {
		_, err := r.a.p.Log.Append(ctx, eventlog.Batch{Drafts: rest, Epoch: s.State.Head.Epoch})
		var dup *eventlog.DuplicateError
		if errors.As(err, &dup) {
			rest = without(rest, dup.Key)
			continue
		}
		if errors.Is(err, eventlog.ErrTooLarge) && len(drafts) > 1 {
			r.page = len(drafts) / 2
			return r.copyPage(ctx)
		}
		if err != nil {
			return 0, err
		}
		break
	}
	return len(drafts), r.a.p.Journal.MarkCopied(ctx, last)
}

func without(drafts []eventlog.Draft, key string) []eventlog.Draft {
	out := make([]eventlog.Draft, 0, len(drafts))
	for _, d := range drafts {
		if d.Key != key {
			out = append(out, d)
		}
	}
	return out
}
