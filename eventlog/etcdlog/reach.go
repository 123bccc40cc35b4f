package etcdlog

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/status"

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

// Writable tells whether an append would go through now: it sends a transaction
// that could write, and never does. So it also finds a store that is full, or
// that lets this client only read; what it finds is worded for people. Errors:
// ErrUnavailable, ErrClosed, and ErrCorrupt for a head that can't be read.
func (l *Log) Writable(ctx context.Context) error {
	if err := l.usable(ctx); err != nil {
		return err
	}
	cctx, cancel := l.call(ctx)
	defer cancel()
	least := l.known()
	resp, err := l.client.Txn(cctx).
		If(clientv3.Compare(clientv3.Version(l.keys.head()), "<", 0)).
		Then(clientv3.OpPut(l.keys.head(), "")).
		Else(clientv3.OpGet(l.keys.head())).Commit()
	if err != nil {
		why := status.Convert(err).Message()
		if cctx.Err() != nil {
			why = "there is no answer in time"
		}
		return fmt.Errorf("%w: %s", eventlog.ErrUnavailable, why)
	}
	h, err := decodeHead(resp.Responses[0].GetResponseRange().Kvs)
	if err == nil {
		err = l.saw(least, h.Seq)
	}
	return err
}
