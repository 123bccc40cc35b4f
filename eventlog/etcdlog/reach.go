package etcdlog

import (
	"context"

	"dyad/eventlog"
)

// Reachable tells whether the log could be written now: a question that needs
// the quorum is answered within ctx.
func (l *Log) Reachable(ctx context.Context) error {
	if err := l.usable(ctx); err != nil {
		return err
	}
	cctx, cancel := l.call(ctx)
	defer cancel()
	_, err := l.client.Get(cctx, l.keys.epoch())
	return l.mapped(ctx, "ask the quorum", err)
}

// Newest is the end of the log, read with quorum.
func (l *Log) Newest(ctx context.Context) (eventlog.Head, error) {
	if err := l.usable(ctx); err != nil {
		return eventlog.Head{}, err
	}
	return l.readHead(ctx)
}

// Forget drops what this handle saw of its store: the store was set aside, and
// the one in its place learns the log anew. Reads give ErrUnavailable until it
// is known to have what the quorum has.
func (l *Log) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen, l.ready = 0, false
}
