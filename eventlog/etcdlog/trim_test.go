package etcdlog_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"dyad/eventlog"
	"dyad/eventlog/etcdlog"
)

// broken fails every transaction from the n-th on, counted from 1: the process
// died there.
type broken struct {
	clientv3.KV
	n, at int
}

var errDied = errors.New("died")

func (b *broken) Txn(ctx context.Context) clientv3.Txn {
	if b.n++; b.n >= b.at {
		ctx2, cancel := context.WithCancelCause(ctx)
		cancel(errDied)
		return b.KV.Txn(ctx2)
	}
	return b.KV.Txn(ctx)
}

// A trim that dies anywhere leaves a log that says the truth, and is finished
// by the next one.
func TestTrimDiesAnywhere(t *testing.T) {
	const events = 2500 // three sweeps
	for at := 1; ; at++ {
		prefix := newPrefix()
		l := open(t, storeAddr, etcdlog.Options{Prefix: prefix})
		var end eventlog.Head
		for i := 0; i < events; i += 500 {
			ds := make([]eventlog.Draft, 500)
			for j := range ds {
				ds[j] = draft(i+j, fmt.Sprintf("key/%d", i+j))
			}
			sealed := put(t, l, ds...)
			end = eventlog.HeadOf(sealed[len(sealed)-1])
		}
		page, err := l.Read(t.Context(), 2399, 1)
		if err != nil {
			t.Fatal(err)
		}
		upTo := eventlog.HeadOf(page[0])
		dying := client(t, storeAddr)
		dying.KV = &broken{KV: dying.KV, at: at}
		d, err := etcdlog.Open(dying, etcdlog.Options{Prefix: prefix})
		if err != nil {
			t.Fatal(err)
		}
		died := d.Trim(t.Context(), upTo)
		d.Close()
		// Whatever was done: from the floor on everything is there.
		floor, err := l.Floor(t.Context())
		if err != nil || floor != (eventlog.Head{}) && floor != upTo {
			t.Fatalf("dead at %d: floor %v %v", at, floor, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		last := floor
		for run, err := range l.Follow(ctx, floor) {
			if err != nil {
				t.Fatalf("dead at %d: %v", at, err)
			}
			if len(run) == 0 {
				break
			}
			last = eventlog.HeadOf(run[len(run)-1])
		}
		cancel()
		if last != end {
			t.Fatalf("dead at %d: the log ends with %v, want %v", at, last, end)
		}
		if err := l.Trim(t.Context(), upTo); err != nil {
			t.Fatal(err)
		}
		for what, want := range map[string]int64{"log/": 100, "idem/": 100, "stream/": 1, "floor": 1} {
			resp, err := client(t, storeAddr).Get(t.Context(), prefix+what, clientv3.WithPrefix(), clientv3.WithCountOnly())
			if err != nil || resp.Count != want {
				t.Errorf("dead at %d: %d keys below %s, want %d (%v)", at, resp.Count, what, want, err)
			}
		}
		if died == nil {
			if at < 8 {
				t.Errorf("a trim took %d transactions, too few to have died everywhere", at)
			}
			return
		}
	}
}

// Only the holder of the epoch may trim: a compare sees to it.
func TestTrimOfAnOlderEpoch(t *testing.T) {
	prefix := newPrefix()
	l := open(t, storeAddr, etcdlog.Options{Prefix: prefix})
	sealed := put(t, l, draft(1, ""), draft(2, ""))
	hooking := client(t, storeAddr)
	fired := 0
	hooking.KV = &hooked{KV: hooking.KV, at: 2, do: func() {
		fired++
		if _, err := client(t, storeAddr).Put(t.Context(), prefix+"epoch", "7"); err != nil {
			t.Fatal(err)
		}
	}}
	d, err := etcdlog.Open(hooking, etcdlog.Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	upTo := eventlog.HeadOf(sealed[0])
	upTo.Epoch = 9
	if err := d.Trim(t.Context(), upTo); !errors.Is(err, eventlog.ErrEpoch) {
		t.Errorf("an epoch from elsewhere: %v, want ErrEpoch", err)
	}
	// The epoch moves between reading and writing: read again, then go on.
	if err := d.Trim(t.Context(), eventlog.HeadOf(sealed[0])); err != nil || fired != 1 {
		t.Errorf("%v, the hook fired %d times", err, fired)
	}
}

// What deletes an event above the floor is no trim.
func TestDeletedAboveTheFloor(t *testing.T) {
	prefix := newPrefix()
	l := open(t, storeAddr, etcdlog.Options{Prefix: prefix})
	sealed := put(t, l, draft(1, ""), draft(2, ""), draft(3, ""))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, err := range l.Follow(ctx, eventlog.HeadOf(sealed[2])) {
		if err != nil {
			if !errors.Is(err, eventlog.ErrCorrupt) {
				t.Errorf("%v, want ErrCorrupt", err)
			}
			return
		}
		if err := l.Trim(ctx, eventlog.HeadOf(sealed[0])); err != nil {
			t.Fatal(err)
		}
		if _, err := client(t, storeAddr).Delete(ctx, prefix+fmt.Sprintf("log/%016x", 2)); err != nil {
			t.Fatal(err)
		}
	}
	t.Error("the follower noticed nothing")
}

// A log that is restored event by event is the same log; broken off, it goes on.
func TestImport(t *testing.T) {
	from := open(t, storeAddr, etcdlog.Options{Prefix: newPrefix()})
	ds := make([]eventlog.Draft, 3000)
	for i := range ds {
		ds[i] = draft(i, fmt.Sprint("k", i))
	}
	sealed := put(t, from, ds...)
	base, end := eventlog.HeadOf(sealed[499]), eventlog.HeadOf(sealed[2999])
	to := open(t, storeAddr, etcdlog.Options{Prefix: newPrefix()})
	ctx := t.Context()
	if err := to.Import(ctx, sealed[500:]); !errors.Is(err, eventlog.ErrConflict) {
		t.Errorf("without a base: %v", err)
	}
	for range 2 {
		if err := to.ImportBase(ctx, base, map[string]uint64{"s": 500}); err != nil && !errors.Is(err, eventlog.ErrConflict) {
			t.Fatal(err)
		}
	}
	if err := to.Import(ctx, sealed[501:]); !errors.Is(err, eventlog.ErrGap) {
		t.Errorf("with a gap: %v, want ErrGap", err)
	}
	if err := to.Import(ctx, sealed[500:1700]); err != nil {
		t.Fatal(err)
	}
	if err := to.ImportDone(ctx, end); !errors.Is(err, eventlog.ErrGap) {
		t.Errorf("done too early: %v, want ErrGap", err)
	}
	if err := to.Import(ctx, sealed[600:]); err != nil {
		t.Fatal(err)
	}
	if err := to.ImportDone(ctx, end); err != nil {
		t.Fatal(err)
	}
	if err := to.Import(ctx, sealed[600:]); !errors.Is(err, eventlog.ErrConflict) {
		t.Errorf("after the end: %v", err)
	}
	if err := from.ImportBase(ctx, base, nil); !errors.Is(err, eventlog.ErrConflict) {
		t.Errorf("into a log in use: %v", err)
	}
	got, err := to.Read(ctx, 500, 4096)
	if err != nil || len(got) != 2500 {
		t.Fatalf("%d events, %v", len(got), err)
	}
	for i, e := range got {
		if e.Hash != sealed[500+i].Hash {
			t.Fatalf("event %d has another hash", e.Seq)
		}
	}
	if next := put(t, to, draft(9, "")); next[0].Seq != 3001 || next[0].StreamRev != 3001 {
		t.Errorf("the next event is %d, revision %d", next[0].Seq, next[0].StreamRev)
	}
	if _, err := to.Append(ctx, eventlog.Batch{Drafts: []eventlog.Draft{draft(1, "k2000")}}); !errors.Is(err, eventlog.ErrDuplicate) {
		t.Errorf("a restored key: %v", err)
	}
}
