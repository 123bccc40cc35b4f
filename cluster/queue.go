package cluster

import (
	"context"
	"sync"
	"time"

	"dyad/eventlog"
)

// latest is a queue of length one: a newer value replaces one that waits.
type latest[T any] struct{ c chan T }

func newLatest[T any]() *latest[T] { return &latest[T]{make(chan T, 1)} }

// put never blocks. It may be called from one goroutine only.
func (l *latest[T]) put(v T) {
	select {
	case <-l.c:
	default:
	}
	l.c <- v
}

// offer puts v back unless something newer waits.
func (l *latest[T]) offer(v T) {
	select {
	case l.c <- v:
	default:
	}
}

// signal wakes everybody who waits for the next change.
type signal struct {
	mu sync.Mutex
	c  chan struct{}
}

func newSignal() *signal { return &signal{c: make(chan struct{})} }

// next is closed at the next pulse.
func (s *signal) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.c
}

func (s *signal) pulse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.c)
	s.c = make(chan struct{})
}

// pause waits for d or for the end of ctx; it tells whether ctx still runs.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// maxKeys bounds how many idempotency keys an agent remembers by itself. Older
// ones are still found by the log, at the append.
const maxKeys = 8192

// recentKeys maps the idempotency keys seen last to the place of their last
// event.
type recentKeys struct {
	mu   sync.Mutex
	seq  map[string]eventlog.Seq
	ring []string
	at   int
}

func newRecentKeys() *recentKeys {
	return &recentKeys{seq: map[string]eventlog.Seq{}, ring: make([]string, maxKeys)}
}

func (r *recentKeys) add(e eventlog.Envelope) {
	if e.Key == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.seq[e.Key]; !known {
		delete(r.seq, r.ring[r.at])
		r.ring[r.at] = e.Key
		r.at = (r.at + 1) % maxKeys
	}
	r.seq[e.Key] = e.Seq
}

func (r *recentKeys) find(key string) (eventlog.Seq, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.seq[key]
	return s, ok && key != ""
}
