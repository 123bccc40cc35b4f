package cluster

import (
	"context"
	"iter"
	"sync"

	"dyad/eventlog"
)

// holdLog is a log that answers nothing until it is released.
type holdLog struct {
	eventlog.Log
	once sync.Once
	open chan struct{}
	mu   sync.Mutex
}

func (h *holdLog) gate() chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open == nil {
		h.open = make(chan struct{})
	}
	return h.open
}

func (h *holdLog) release() { h.once.Do(func() { close(h.gate()) }) }

func (h *holdLog) Follow(ctx context.Context, after eventlog.Head) iter.Seq2[[]eventlog.Envelope, error] {
	return func(yield func([]eventlog.Envelope, error) bool) {
		select {
		case <-h.gate():
			h.Log.Follow(ctx, after)(yield)
		case <-ctx.Done():
		}
	}
}
