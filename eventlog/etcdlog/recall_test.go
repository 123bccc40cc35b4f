package etcdlog_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"dyad/eventlog"
	"dyad/eventlog/etcdlog"
)

// counted counts the transactions of a client.
type counted struct {
	clientv3.KV
	n atomic.Int64
}

func (c *counted) Txn(ctx context.Context) clientv3.Txn {
	c.n.Add(1)
	return c.KV.Txn(ctx)
}

// An append behind this handle's own one asks the store nothing; behind somebody
// else's it builds on what stands, and never on what it remembers.
func TestAppendBehindWhatIsRemembered(t *testing.T) {
	prefix := newPrefix()
	c := client(t, storeAddr)
	kv := &counted{KV: c.KV}
	c.KV = kv
	mine, err := etcdlog.Open(c, etcdlog.Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mine.Close)
	other := open(t, storeAddr, etcdlog.Options{Prefix: prefix})
	costs := func(what string, want int64, b eventlog.Batch, is error) {
		t.Helper()
		before := kv.n.Load()
		if _, err := mine.Append(t.Context(), b); !errors.Is(err, is) {
			t.Errorf("%s: %v, want %v", what, err, is)
		}
		if got := kv.n.Load() - before; got != want {
			t.Errorf("%s took %d transactions, want %d", what, got, want)
		}
	}
	one := func(d eventlog.Draft) eventlog.Batch { return eventlog.Batch{Drafts: []eventlog.Draft{d}} }
	elsewhere := draft(9, "")
	elsewhere.Stream = "elsewhere"

	costs("the first", 2, one(draft(1, "a")), nil)
	costs("the second", 1, one(draft(2, "b")), nil)
	costs("another stream", 2, one(elsewhere), nil)
	costs("both streams", 1, eventlog.Batch{Drafts: []eventlog.Draft{draft(3, ""), elsewhere}}, nil)
	costs("a key of its own again", 2, one(draft(4, "b")), eventlog.ErrDuplicate)
	costs("after a refusal", 2, one(draft(5, "c")), nil)
	put(t, other, draft(6, "d"))
	costs("somebody else's key", 2, one(draft(7, "d")), eventlog.ErrDuplicate)
	costs("remembering again", 2, one(draft(8, "")), nil)
	put(t, other, draft(10, "e"))
	costs("behind somebody else", 3, one(draft(11, "")), nil)
	put(t, other, draft(12, "f"))
	costs("a revision somebody else took", 2, eventlog.Batch{Drafts: []eventlog.Draft{draft(13, "")}, ExpectedStreams: map[string]uint64{"s": 8}}, eventlog.ErrConflict)

	events, err := other.Read(t.Context(), 0, eventlog.MaxPage)
	if err != nil || len(events) != 11 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	revs := map[string]uint64{}
	for _, e := range events {
		if revs[e.Stream]++; e.StreamRev != revs[e.Stream] {
			t.Errorf("event %d is revision %d of %s, want %d", e.Seq, e.StreamRev, e.Stream, revs[e.Stream])
		}
	}
	if _, err := eventlog.VerifyRun(eventlog.Head{}, events); err != nil {
		t.Error(err)
	}
}
