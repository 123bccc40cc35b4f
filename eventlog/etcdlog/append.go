package etcdlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"dyad/eventlog"
)

// Append implements [eventlog.Log].
//
// A refusal (ErrConflict, ErrEpoch) is certain: before it is given, what it
// rests on was read with quorum. Without ExpectedHead other writers that come
// first are no conflict; the append starts again behind them, up to 64 times.
func (l *Log) Append(ctx context.Context, b eventlog.Batch) ([]eventlog.Envelope, error) {
	if err := l.usable(ctx); err != nil {
		return nil, err
	}
	if len(b.Drafts) > eventlog.MaxBatch {
		return nil, fmt.Errorf("%w: %d events, at most %d", eventlog.ErrTooLarge, len(b.Drafts), eventlog.MaxBatch)
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.ctx.Done():
		return nil, eventlog.ErrClosed
	}
	d := l.dependencies(b)
	at, ok := l.last.basis(d)
	if !ok {
		var err error
		if at, err = l.readBase(ctx, d, false); err != nil {
			return nil, err
		}
	}
	return l.appendAt(ctx, b, d, at)
}

// appendAt seals b behind at and writes it, again behind what was found there
// if at no longer stands.
func (l *Log) appendAt(ctx context.Context, b eventlog.Batch, d dependencies, at base) ([]eventlog.Envelope, error) {
	for attempt := range maxAttempts {
		sealed, err := eventlog.SealBatch(at.Base, l.opts.Clock(), b)
		moved := errors.Is(err, eventlog.ErrConflict) || errors.Is(err, eventlog.ErrEpoch)
		if moved && !at.certain {
			// The local member may be behind: ask again with quorum.
			if at, err = l.readBase(ctx, d, true); err != nil {
				return nil, err
			}
			sealed, err = eventlog.SealBatch(at.Base, l.opts.Clock(), b)
		}
		if err != nil || len(sealed) == 0 {
			return nil, err
		}
		next, done, err := l.write(ctx, d, at, sealed)
		if err != nil {
			return nil, err
		}
		if done {
			_ = l.saw(0, sealed[len(sealed)-1].Seq) // it stands, whatever was seen
			return sealed, nil
		}
		if at = next; attempt > 0 && b.ExpectedHead == nil {
			// Two nodes that write at once would keep step without chance.
			if err := l.pause(ctx, rand.N(maxAttemptPause)); err != nil {
				return nil, err
			}
		}
	}
	return nil, fmt.Errorf("%w: other writers came first %d times in a row", eventlog.ErrConflict, maxAttempts)
}

// dependencies are the keys an append reads, in the order of the operations:
// head, epoch, streams, idempotency keys.
type dependencies struct {
	streams, keys []string
	names         []string
}

func (l *Log) dependencies(b eventlog.Batch) dependencies {
	streams, idem := map[string]bool{}, map[string]bool{}
	for _, d := range b.Drafts {
		streams[d.Stream] = true
		if d.Key != "" {
			idem[d.Key] = true
		}
	}
	for s := range b.ExpectedStreams {
		streams[s] = true
	}
	d := dependencies{streams: slices.Sorted(maps.Keys(streams)), keys: slices.Sorted(maps.Keys(idem))}
	d.names = append(make([]string, 0, 2+len(d.streams)+len(d.keys)), l.keys.head(), l.keys.epoch())
	for _, s := range d.streams {
		d.names = append(d.names, l.keys.stream(s))
	}
	for _, k := range d.keys {
		d.names = append(d.names, l.keys.idempotency(k))
	}
	return d
}

func (d dependencies) gets(opts ...clientv3.OpOption) []clientv3.Op {
	ops := make([]clientv3.Op, len(d.names))
	for i, n := range d.names {
		ops[i] = clientv3.OpGet(n, opts...)
	}
	return ops
}

// base is what an append builds on, with the stored values that prove it: no two
// histories have the same head.
type base struct {
	eventlog.Base
	head, epoch string // as stored; empty: not there
	certain     bool   // read with quorum
	recalled    bool   // from the append before: nobody looked for the keys
}

// readBase reads what d names at one revision, with or without quorum.
func (l *Log) readBase(ctx context.Context, d dependencies, quorum bool) (base, error) {
	var opts []clientv3.OpOption
	if quorum = quorum || l.opts.Shared; !quorum {
		opts = l.local()
	}
	cctx, cancel := l.call(ctx)
	defer cancel()
	least := l.known()
	resp, err := l.client.Txn(cctx).Then(d.gets(opts...)...).Commit()
	if err != nil {
		return base{}, l.mapped(ctx, "read the end of the log", err)
	}
	at, err := d.decode(resp.Responses, quorum)
	if err == nil && l.opts.Shared {
		err = l.saw(least, at.Head.Seq) // nothing is added to another log, or to what is left of this one
	}
	return at, err
}

func (d dependencies) decode(rs []*pb.ResponseOp, certain bool) (base, error) {
	at := base{certain: certain, Base: eventlog.Base{
		Streams: make(map[string]uint64, len(d.streams)), Keys: make(map[string]eventlog.Seq, len(d.keys)),
	}}
	if len(rs) != len(d.names) {
		return at, fmt.Errorf("%w: the store answered %d of %d reads", eventlog.ErrUnavailable, len(rs), len(d.names))
	}
	head, epoch := rs[0].GetResponseRange().Kvs, rs[1].GetResponseRange().Kvs
	at.head, at.epoch = value(head), value(epoch)
	var err error
	if at.Head, err = decodeHead(head); err != nil {
		return at, err
	}
	n, ok, err := decodeNumber(epoch)
	if err != nil {
		return at, err
	}
	if ok {
		at.Head.Epoch = eventlog.Epoch(n)
	}
	for i, s := range d.streams {
		if at.Streams[s], _, err = decodeNumber(rs[2+i].GetResponseRange().Kvs); err != nil {
			return at, err
		}
	}
	for i, k := range d.keys {
		n, ok, err := decodeNumber(rs[2+len(d.streams)+i].GetResponseRange().Kvs)
		if err != nil {
			return at, err
		}
		if ok {
			at.Keys[k] = eventlog.Seq(n)
		}
	}
	return at, nil
}

// write commits sealed if at still stands. If not, it returns what stands
// instead.
func (l *Log) write(ctx context.Context, d dependencies, at base, sealed []eventlog.Envelope) (base, bool, error) {
	after, err := at.behind(sealed)
	if err != nil {
		return at, false, err
	}
	puts, err := l.puts(after, sealed)
	if err != nil {
		return at, false, err
	}
	stands := []clientv3.Cmp{holds(l.keys.head(), at.head), holds(l.keys.epoch(), at.epoch)}
	var otherwise []clientv3.Op
	if !at.recalled {
		otherwise = d.gets()
	} else {
		for _, k := range d.keys {
			stands = append(stands, holds(l.keys.idempotency(k), ""))
		}
	}
	l.echoes.add(sealed)
	cctx, cancel := l.call(ctx)
	defer cancel()
	resp, err := l.client.Txn(cctx).If(stands...).Then(puts...).Else(otherwise...).Commit()
	if err == nil && resp.Succeeded {
		l.last.keep(at, after, sealed)
		return at, true, nil
	}
	l.last.ok = false
	if err != nil {
		return at, false, l.mapped(ctx, "append", err)
	}
	if at.recalled {
		at, err = l.readBase(ctx, d, true) // seldom, so it is not asked for each time
	} else {
		at, err = d.decode(resp.Responses, true)
	}
	return at, false, err
}

// holds compares a key with a stored value, or with not being there.
func holds(key, value string) clientv3.Cmp {
	if value == "" {
		return clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
	}
	return clientv3.Compare(clientv3.Value(key), "=", value)
}

// behind is the base that sealed leaves, without its streams.
func (b base) behind(sealed []eventlog.Envelope) (base, error) {
	end := eventlog.HeadOf(sealed[len(sealed)-1])
	head, err := json.Marshal(end)
	if err != nil {
		return base{}, fmt.Errorf("encode the head: %w", err)
	}
	next := base{Base: eventlog.Base{Head: end}, head: string(head), epoch: b.epoch}
	if end.Epoch != b.Head.Epoch {
		next.epoch = number(end.Epoch)
	}
	return next, nil
}

// puts are the writes that add sealed and lead to after. Streams and keys that
// occur more than once get their last value: a transaction writes a key once.
func (l *Log) puts(after base, sealed []eventlog.Envelope) ([]clientv3.Op, error) {
	counters := map[string]string{l.keys.head(): after.head}
	if after.epoch != "" {
		counters[l.keys.epoch()] = after.epoch
	}
	ops := make([]clientv3.Op, 0, 3*len(sealed)+2)
	for _, e := range sealed {
		stored, err := eventlog.Encode(e)
		if err != nil {
			return nil, err
		}
		ops = append(ops, clientv3.OpPut(l.keys.event(e.Seq), string(stored)))
		counters[l.keys.stream(e.Stream)] = number(e.StreamRev)
		if e.Key != "" {
			counters[l.keys.idempotency(e.Key)] = number(e.Seq)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(counters)) {
		ops = append(ops, clientv3.OpPut(k, counters[k]))
	}
	return ops, nil
}

// pause waits, or returns why it must not go on.
func (l *Log) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-l.ctx.Done():
	}
	return l.usable(ctx)
}
