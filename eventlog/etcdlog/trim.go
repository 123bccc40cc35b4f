package etcdlog

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"dyad/eventlog"
)

// maxFloorRaces bounds how often a trim starts again because another one raised
// the floor meanwhile.
const maxFloorRaces = 16

var _ eventlog.Trimmer = (*Log)(nil)

// Floor implements [eventlog.Trimmer].
func (l *Log) Floor(ctx context.Context) (eventlog.Head, error) {
	if err := l.gate(ctx); err != nil {
		return eventlog.Head{}, err
	}
	return l.readFloor(ctx, l.local()...)
}

func (l *Log) readFloor(ctx context.Context, opts ...clientv3.OpOption) (eventlog.Head, error) {
	cctx, cancel := l.call(ctx)
	defer cancel()
	resp, err := l.client.Get(cctx, l.keys.floor(), opts...)
	if err != nil {
		return eventlog.Head{}, l.mapped(ctx, "read where the log begins", err)
	}
	return decodeHead(resp.Kvs)
}

// Trim implements [eventlog.Trimmer]: it raises the floor in one transaction,
// and then sweeps away what lies below it in small ones.
//
// Invariant: the floor stands before the first event below it is deleted, and
// never goes back. So whoever meets a missing event finds the floor that
// explains it, and a trim that was broken off is finished by the next.
//
// The head is not compared: appends add above it and never look below, so they
// and a trim do not meet. What is compared is the epoch (a node that lost the
// right to write must not trim), the floor, and the event itself.
func (l *Log) Trim(ctx context.Context, upTo eventlog.Head) error {
	if err := l.usable(ctx); err != nil {
		return err
	}
	for range maxFloorRaces {
		done, err := l.raiseFloor(ctx, upTo)
		if err != nil {
			return err
		}
		if done {
			return l.sweep(ctx)
		}
	}
	return fmt.Errorf("%w: other trims came first %d times in a row", eventlog.ErrConflict, maxFloorRaces)
}

// raiseFloor makes upTo the floor unless it is higher already; done is false if
// something moved between reading and writing.
func (l *Log) raiseFloor(ctx context.Context, upTo eventlog.Head) (done bool, err error) {
	cctx, cancel := l.call(ctx)
	defer cancel()
	resp, err := l.client.Txn(cctx).Then( // with quorum
		clientv3.OpGet(l.keys.floor()), clientv3.OpGet(l.keys.head()), clientv3.OpGet(l.keys.epoch()),
		clientv3.OpGet(l.keys.event(upTo.Seq)),
	).Commit()
	if err != nil {
		return false, l.mapped(ctx, "read where the log begins", err)
	}
	kvs := func(i int) int64 { return modRevision(resp.Responses[i].GetResponseRange().Kvs) }
	floor, err := decodeHead(resp.Responses[0].GetResponseRange().Kvs)
	if err != nil || upTo.Seq <= floor.Seq {
		return err == nil, err
	}
	head, err := decodeHead(resp.Responses[1].GetResponseRange().Kvs)
	if err != nil {
		return false, err
	}
	found := resp.Responses[3].GetResponseRange().Kvs
	switch {
	case upTo.Seq > head.Seq || len(found) == 0:
		return false, fmt.Errorf("%w: trim up to event %d, the log has %d–%d", eventlog.ErrGap, upTo.Seq, floor.Seq+1, head.Seq)
	case upTo.Epoch > head.Epoch:
		return false, fmt.Errorf("%w: trim at epoch %d, the log is at %d", eventlog.ErrEpoch, upTo.Epoch, head.Epoch)
	}
	e, err := l.keys.decodeEvent(found[0])
	if err != nil {
		return false, err
	}
	if eventlog.HeadOf(e) != upTo {
		return false, fmt.Errorf("%w: event %d is not the one to trim up to", eventlog.ErrCorrupt, upTo.Seq)
	}
	b, err := json.Marshal(upTo)
	if err != nil {
		return false, fmt.Errorf("encode the floor: %w", err)
	}
	wctx, wcancel := l.call(ctx)
	defer wcancel()
	w, err := l.client.Txn(wctx).If(
		clientv3.Compare(clientv3.ModRevision(l.keys.floor()), "=", kvs(0)),
		clientv3.Compare(clientv3.ModRevision(l.keys.epoch()), "=", kvs(2)),
		clientv3.Compare(clientv3.ModRevision(l.keys.event(upTo.Seq)), "=", kvs(3)),
	).Then(clientv3.OpPut(l.keys.floor(), string(b))).Commit()
	if err != nil {
		return false, l.mapped(ctx, "move where the log begins", err)
	}
	return w.Succeeded, nil
}

// sweep deletes all events up to the floor, and their idempotency keys. Small
// steps keep the store's pauses, and the messages to its watchers, short.
func (l *Log) sweep(ctx context.Context) error {
	for {
		more, err := l.sweepSome(ctx)
		if err != nil || !more {
			return err
		}
	}
}

// sweepSome deletes the oldest events, up to the floor; more is false when
// none was left.
func (l *Log) sweepSome(ctx context.Context) (more bool, err error) {
	cctx, cancel := l.call(ctx)
	defer cancel()
	resp, err := l.client.Txn(cctx).Then(
		clientv3.OpGet(l.keys.floor()),
		clientv3.OpGet(l.keys.events(), clientv3.WithPrefix(), clientv3.WithLimit(int64(l.bulk))),
	).Commit()
	if err != nil {
		return false, l.mapped(ctx, "read the oldest events", err)
	}
	floor, err := decodeHead(resp.Responses[0].GetResponseRange().Kvs)
	if err != nil {
		return false, err
	}
	last, idem := eventlog.Seq(0), map[string]bool{}
	for _, kv := range resp.Responses[1].GetResponseRange().Kvs {
		seq, ok := l.keys.sequence(kv.Key)
		if !ok {
			return false, fmt.Errorf("%w: %s is not the key of an event", eventlog.ErrCorrupt, kv.Key)
		}
		if seq > floor.Seq {
			break
		}
		last = seq
		// An event that can't be read is gone the same way; its segment was
		// verified before the floor was raised. Only its key, if any, stays.
		if e, err := eventlog.Decode(kv.Value); err == nil && e.Key != "" {
			idem[e.Key] = true
		}
	}
	if last == 0 {
		return false, nil
	}
	ops, err := l.spent(ctx, idem, floor.Seq)
	if err != nil {
		return false, err
	}
	ops = append(ops, clientv3.OpDelete(l.keys.events(), clientv3.WithRange(l.keys.event(last+1))))
	wctx, wcancel := l.call(ctx)
	defer wcancel()
	if _, err := l.client.Txn(wctx).Then(ops...).Commit(); err != nil {
		return false, l.mapped(ctx, "drop old events", err)
	}
	return true, nil
}

// spent are the deletes of those idempotency keys whose last event lies at or
// below the floor. A key is written once and then only deleted, so what is read
// here stays true.
func (l *Log) spent(ctx context.Context, idem map[string]bool, floor eventlog.Seq) ([]clientv3.Op, error) {
	names := slices.Sorted(maps.Keys(idem))
	if len(names) == 0 {
		return nil, nil
	}
	gets := make([]clientv3.Op, len(names))
	for i, n := range names {
		gets[i] = clientv3.OpGet(l.keys.idempotency(n))
	}
	cctx, cancel := l.call(ctx)
	defer cancel()
	resp, err := l.client.Txn(cctx).Then(gets...).Commit()
	if err != nil {
		return nil, l.mapped(ctx, "read idempotency keys", err)
	}
	var ops []clientv3.Op
	for i, n := range names {
		seq, ok, err := decodeNumber(resp.Responses[i].GetResponseRange().Kvs)
		if err != nil {
			return nil, err
		}
		if ok && eventlog.Seq(seq) <= floor {
			ops = append(ops, clientv3.OpDelete(l.keys.idempotency(n)))
		}
	}
	return ops, nil
}
