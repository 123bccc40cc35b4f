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

// importBytes bounds one transaction of an import; see also bulkKeys. A shared
// store takes 1.5 MiB by default.
const (
	importBytes       = 4 << 20
	sharedImportBytes = 1 << 20
)

// ImportBase begins the restoring of a log: it makes an empty store look like a
// log that was trimmed up to floor, with the given stream revisions. A zero
// floor begins with event 1. Broken off, it can be repeated. A store that holds
// a log is refused with ErrConflict.
func (l *Log) ImportBase(ctx context.Context, floor eventlog.Head, streams map[string]uint64) error {
	if err := l.usable(ctx); err != nil {
		return err
	}
	cctx, cancel := l.call(ctx)
	defer cancel()
	// The mark comes first and goes last: a log without it is nobody's to import
	// into.
	resp, err := l.client.Txn(cctx).
		If(
			clientv3.Compare(clientv3.CreateRevision(l.keys.head()), "=", 0),
			clientv3.Compare(clientv3.CreateRevision(l.keys.floor()), "=", 0),
		).
		Then(clientv3.OpPut(l.keys.importing(), "base")).Commit()
	if err != nil {
		return l.mapped(ctx, "begin to restore the log", err)
	}
	if !resp.Succeeded {
		return fmt.Errorf("%w: the store holds a log already", eventlog.ErrConflict)
	}
	var ops []clientv3.Op
	for _, name := range slices.Sorted(maps.Keys(streams)) {
		ops = append(ops, clientv3.OpPut(l.keys.stream(name), number(streams[name])))
		if len(ops) == l.bulk {
			if err := l.commit(ctx, ops); err != nil {
				return err
			}
			ops = nil
		}
	}
	if floor.Seq > 0 {
		b, err := json.Marshal(floor)
		if err != nil {
			return fmt.Errorf("encode the floor: %w", err)
		}
		ops = append(ops, clientv3.OpPut(l.keys.floor(), string(b)), clientv3.OpPut(l.keys.head(), string(b)),
			clientv3.OpPut(l.keys.epoch(), number(floor.Epoch)))
	}
	return l.commit(ctx, append(ops, clientv3.OpPut(l.keys.importing(), "events")))
}

func (l *Log) commit(ctx context.Context, ops []clientv3.Op) error {
	cctx, cancel := l.call(ctx)
	defer cancel()
	if _, err := l.client.Txn(cctx).Then(ops...).Commit(); err != nil {
		return l.mapped(ctx, "restore the log", err)
	}
	return nil
}

// Import adds events as they are: same sequence, same hash, same bytes. Only a
// log that [Log.ImportBase] began takes them. run must follow the log's head;
// events that are there already, from an attempt that was broken off, are
// passed over if they are the same. Errors: ErrGap and ErrCorrupt if run does
// not follow, ErrConflict for a log that is in use.
func (l *Log) Import(ctx context.Context, run []eventlog.Envelope) error {
	head, err := l.importHead(ctx)
	if err != nil {
		return err
	}
	for len(run) > 0 && run[0].Seq <= head.Seq {
		if run[0].Seq == head.Seq && run[0].Hash != head.Hash {
			return fmt.Errorf("%w: event %d is another one than was restored before", eventlog.ErrCorrupt, head.Seq)
		}
		run = run[1:]
	}
	limit := importBytes
	if l.opts.Shared {
		limit = sharedImportBytes
	}
	for len(run) > 0 {
		n, bytes := 0, 0
		for n < len(run) && n < l.bulk && bytes < limit {
			b, err := eventlog.Encode(run[n])
			if err != nil {
				return err
			}
			n, bytes = n+1, bytes+len(b)
		}
		next, err := eventlog.VerifyRun(head, run[:n])
		if err != nil {
			return err
		}
		after, err := base{Base: eventlog.Base{Head: head}}.behind(run[:n])
		if err != nil {
			return err
		}
		ops, err := l.puts(after, run[:n])
		if err != nil {
			return err
		}
		if err := l.commit(ctx, ops); err != nil {
			return err
		}
		head, run = next, run[n:]
	}
	return nil
}

func (l *Log) importHead(ctx context.Context) (eventlog.Head, error) {
	cctx, cancel := l.call(ctx)
	defer cancel()
	resp, err := l.client.Txn(cctx).Then(clientv3.OpGet(l.keys.importing()), clientv3.OpGet(l.keys.head())).Commit()
	if err != nil {
		return eventlog.Head{}, l.mapped(ctx, "read how far the log is restored", err)
	}
	if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) == 0 || string(kvs[0].Value) != "events" {
		return eventlog.Head{}, fmt.Errorf("%w: the store holds a log that is not being restored", eventlog.ErrConflict)
	}
	return decodeHead(resp.Responses[1].GetResponseRange().Kvs)
}

// ImportDone ends the restoring: from now on the log is like any other. end is
// what it must end with.
func (l *Log) ImportDone(ctx context.Context, end eventlog.Head) error {
	head, err := l.importHead(ctx)
	if err != nil {
		return err
	}
	if head != end {
		return fmt.Errorf("%w: the restored log ends with event %d, and should with %d", eventlog.ErrGap, head.Seq, end.Seq)
	}
	return l.commit(ctx, []clientv3.Op{clientv3.OpDelete(l.keys.importing())})
}

// ImportUndo drops all keys of a log that is being restored, and of no other.
func (l *Log) ImportUndo(ctx context.Context) error {
	cctx, cancel := l.call(ctx)
	defer cancel()
	_, err := l.client.Txn(cctx).If(clientv3.Compare(clientv3.CreateRevision(l.keys.importing()), ">", 0)).
		Then(clientv3.OpDelete(l.opts.Prefix, clientv3.WithPrefix())).Commit()
	return l.mapped(ctx, "drop what was restored", err)
}
