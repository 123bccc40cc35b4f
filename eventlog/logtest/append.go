package logtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"dyad/eventlog"
)

func empty(t *testing.T, h Harness) {
	if got := head(t, h.Log); got != (eventlog.Head{}) {
		t.Errorf("the head of an empty log is %v", got)
	}
	if got := all(t, h.Log); len(got) != 0 {
		t.Errorf("an empty log has %d events", len(got))
	}
	got, err := h.Log.Append(testContext(t), eventlog.Batch{})
	if err != nil || len(got) != 0 {
		t.Errorf("an empty batch: %d events, %v; want none", len(got), err)
	}
	if got := head(t, h.Log); got.Seq != 0 {
		t.Errorf("an empty batch moved the head to %v", got)
	}
}

func appendAndRead(t *testing.T, h Harness) {
	sealed := put(t, h.Log, draft("a", 1), draft("b", 1), draft("a", 2))
	sealed = append(sealed, put(t, h.Log, draft("a", 3))...)
	for i, want := range []struct {
		seq eventlog.Seq
		rev uint64
	}{{1, 1}, {2, 1}, {3, 2}, {4, 3}} {
		if e := sealed[i]; e.Seq != want.seq || e.StreamRev != want.rev || e.Time.IsZero() {
			t.Errorf("event %d is seq %d, %s revision %d at %v; want seq %d, revision %d", i, e.Seq, e.Stream, e.StreamRev, e.Time, want.seq, want.rev)
		}
	}
	read := all(t, h.Log)
	if len(read) != len(sealed) {
		t.Fatalf("%d events read, %d appended", len(read), len(sealed))
	}
	for i := range read {
		a, errA := eventlog.Encode(sealed[i])
		b, errB := eventlog.Encode(read[i])
		if errA != nil || errB != nil || string(a) != string(b) {
			t.Errorf("appended\n%s (%v), read\n%s (%v)", a, errA, b, errB)
		}
	}
	for _, c := range []struct {
		after eventlog.Seq
		limit int
		want  []eventlog.Seq
	}{
		{0, 2, []eventlog.Seq{1, 2}},
		{1, 2, []eventlog.Seq{2, 3}},
		{3, 1 << 30, []eventlog.Seq{4}},
		{4, 5, nil},
		{9, 5, nil},
		{0, 0, nil},
	} {
		got, err := h.Log.Read(testContext(t), c.after, c.limit)
		if err != nil {
			t.Fatal(err)
		}
		var seqs []eventlog.Seq
		for _, e := range got {
			seqs = append(seqs, e.Seq)
		}
		if !slices.Equal(seqs, c.want) {
			t.Errorf("read after %d, limit %d: %v, want %v", c.after, c.limit, seqs, c.want)
		}
	}
}

func expectedHead(t *testing.T, h Harness) {
	put(t, h.Log, draft("a", 1))
	for seq, want := range map[eventlog.Seq]error{0: eventlog.ErrConflict, 2: eventlog.ErrConflict} {
		_, err := h.Log.Append(testContext(t), eventlog.Batch{Drafts: many("a", 2, 1), ExpectedHead: &seq})
		if !errors.Is(err, want) {
			t.Errorf("expected head %d: %v, want %v", seq, err, want)
		}
	}
	one := eventlog.Seq(1)
	if _, err := h.Log.Append(testContext(t), eventlog.Batch{Drafts: many("a", 2, 1), ExpectedHead: &one, ExpectedHash: "another"}); !errors.Is(err, eventlog.ErrConflict) {
		t.Errorf("another history's head: %v, want %v", err, eventlog.ErrConflict)
	}
	right := eventlog.Batch{Drafts: many("a", 2, 1), ExpectedHead: &one, ExpectedHash: all(t, h.Log)[0].Hash}
	if _, err := h.Log.Append(testContext(t), right); err != nil {
		t.Errorf("the right head: %v", err)
	}
	if n := len(all(t, h.Log)); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
}

func expectedStreams(t *testing.T, h Harness) {
	put(t, h.Log, draft("a", 1), draft("a", 2), draft("b", 1))
	for name, c := range map[string]struct {
		streams map[string]uint64
		want    error
	}{
		"behind":            {map[string]uint64{"a": 1}, eventlog.ErrConflict},
		"ahead":             {map[string]uint64{"a": 3}, eventlog.ErrConflict},
		"not there":         {map[string]uint64{"c": 1}, eventlog.ErrConflict},
		"not new":           {map[string]uint64{"b": 0}, eventlog.ErrConflict},
		"one of two":        {map[string]uint64{"a": 2, "b": 2}, eventlog.ErrConflict},
		"right, and unused": {map[string]uint64{"a": 2, "b": 1, "c": 0}, nil},
	} {
		_, err := h.Log.Append(testContext(t), eventlog.Batch{Drafts: many("other", 0, 1), ExpectedStreams: c.streams})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if n := len(all(t, h.Log)); n != 4 {
		t.Errorf("%d events, want 4", n)
	}
}

func epochs(t *testing.T, h Harness) {
	do := func(epoch eventlog.Epoch, ds ...eventlog.Draft) error {
		_, err := h.Log.Append(testContext(t), eventlog.Batch{Drafts: ds, Epoch: epoch})
		return err
	}
	if err := do(1, draft("a", 1)); !errors.Is(err, eventlog.ErrEpoch) {
		t.Errorf("epoch 1 in a new log: %v, want ErrEpoch", err)
	}
	if err := do(0, draft("a", 1), epochStarted(t, 1), draft("a", 2)); err != nil {
		t.Fatal(err)
	}
	for i, want := range []eventlog.Epoch{0, 1, 1} {
		if e := all(t, h.Log)[i]; e.Epoch != want {
			t.Errorf("event %d carries epoch %d, want %d", e.Seq, e.Epoch, want)
		}
	}
	if got := head(t, h.Log).Epoch; got != 1 {
		t.Errorf("the head is at epoch %d, want 1", got)
	}
	for name, err := range map[string]error{
		"an older writer": do(0, draft("a", 3)),
		"a newer writer":  do(2, draft("a", 3)),
		"the same again":  do(1, epochStarted(t, 1)),
		"backwards":       do(1, epochStarted(t, 0)),
		"second in batch": do(1, epochStarted(t, 5), epochStarted(t, 5)),
	} {
		if !errors.Is(err, eventlog.ErrEpoch) {
			t.Errorf("%s: %v, want ErrEpoch", name, err)
		}
	}
	if err := do(1, epochStarted(t, 5)); err != nil {
		t.Fatal(err)
	}
	if err := do(5, draft("a", 3)); err != nil {
		t.Fatal(err)
	}
	if n := len(all(t, h.Log)); n != 5 {
		t.Errorf("%d events, want 5", n)
	}
}

func idempotency(t *testing.T, h Harness) {
	put(t, h.Log, keyed("a", 1, "k1"), keyed("b", 1, "k1"), keyed("a", 2, "k2"))
	put(t, h.Log, draft("a", 3), draft("a", 4)) // no key never repeats
	dup := func(want string, seq eventlog.Seq, b eventlog.Batch) {
		t.Helper()
		_, err := h.Log.Append(testContext(t), b)
		var d *eventlog.DuplicateError
		if !errors.As(err, &d) || !errors.Is(err, eventlog.ErrDuplicate) {
			t.Errorf("got %v, want a duplicate of %s", err, want)
		} else if d.Key != want || d.Seq != seq {
			t.Errorf("duplicate of %s at %d, want %s at %d", d.Key, d.Seq, want, seq)
		}
	}
	dup("k1", 2, eventlog.Batch{Drafts: []eventlog.Draft{keyed("a", 1, "k1")}})
	dup("k2", 3, eventlog.Batch{Drafts: []eventlog.Draft{keyed("z", 9, "k3"), keyed("z", 9, "k2")}})
	// After an unknown outcome the caller repeats the whole batch, with the head
	// and the epoch it was decided on. Both may have moved on: it is a duplicate.
	zero := eventlog.Seq(0)
	dup("k1", 2, eventlog.Batch{
		Drafts: []eventlog.Draft{keyed("a", 1, "k1"), keyed("b", 1, "k1")}, ExpectedHead: &zero, Epoch: 7,
		ExpectedStreams: map[string]uint64{"a": 0},
	})
	if h.Other != nil {
		other := h.Other(t)
		_, err := other.Append(testContext(t), eventlog.Batch{Drafts: []eventlog.Draft{keyed("a", 1, "k1")}})
		if !errors.Is(err, eventlog.ErrDuplicate) {
			t.Errorf("through another handle: %v, want ErrDuplicate", err)
		}
	}
	if n := len(all(t, h.Log)); n != 5 {
		t.Errorf("%d events, want 5", n)
	}
}

func allOrNothing(t *testing.T, h Harness) {
	put(t, h.Log, keyed("a", 1, "seen"))
	bad := draft("a", 3)
	bad.Data = json.RawMessage(`{"n":`)
	for name, b := range map[string]eventlog.Batch{
		"last is a duplicate": {Drafts: append(many("a", 2, 3), keyed("a", 9, "seen"))},
		"last is not JSON":    {Drafts: append(many("a", 2, 3), bad)},
		"epoch goes back":     {Drafts: append(many("a", 2, 3), epochStarted(t, 2), epochStarted(t, 1))},
	} {
		if got, err := h.Log.Append(testContext(t), b); err == nil || len(got) != 0 {
			t.Errorf("%s: %d events, %v; want none and an error", name, len(got), err)
		}
	}
	if got := put(t, h.Log, keyed("a", 2, "fresh"))[0]; got.Seq != 2 || got.StreamRev != 2 || got.Epoch != 0 {
		t.Errorf("after refusals the next event is seq %d, revision %d, epoch %d; want 2, 2, 0", got.Seq, got.StreamRev, got.Epoch)
	}
}

func tooLarge(t *testing.T, h Harness) {
	big := draft("a", 1)
	big.Data = json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`)
	for name, ds := range map[string][]eventlog.Draft{
		"events": many("a", 0, eventlog.MaxBatch+1),
		"bytes":  {big, big, big, big, big, big},
	} {
		if _, err := h.Log.Append(testContext(t), eventlog.Batch{Drafts: ds}); !errors.Is(err, eventlog.ErrTooLarge) {
			t.Errorf("too many %s: %v, want ErrTooLarge", name, err)
		}
	}
	if got := head(t, h.Log); got.Seq != 0 {
		t.Errorf("the head is %v after refusals", got)
	}
	put(t, h.Log, big, big, big, big, big)
	if n := len(all(t, h.Log)); n != 5 {
		t.Errorf("%d events, want 5", n)
	}
}

// largestBatch: MaxBatch events, each of its own stream and with its own key.
func largestBatch(t *testing.T, h Harness) {
	ds := make([]eventlog.Draft, eventlog.MaxBatch)
	for i := range ds {
		ds[i] = keyed(fmt.Sprintf("service/%d", i), i, fmt.Sprintf("key-%d", i))
	}
	put(t, h.Log, ds...)
	if n := len(all(t, h.Log)); n != eventlog.MaxBatch {
		t.Errorf("%d events, want %d", n, eventlog.MaxBatch)
	}
	if _, err := h.Log.Append(testContext(t), eventlog.Batch{Drafts: ds}); !errors.Is(err, eventlog.ErrDuplicate) {
		t.Errorf("the same again: %v, want ErrDuplicate", err)
	}
}

// concurrentWriters: nothing lost, nothing twice, each writer's order kept.
func concurrentWriters(t *testing.T, h Harness) {
	const writers, each = 8, 20
	logs := []eventlog.Log{h.Log}
	if h.Other != nil {
		logs = append(logs, h.Other(t))
	}
	var wg sync.WaitGroup
	ctx := testContext(t)
	for w := range writers {
		wg.Go(func() {
			for n := range each {
				d := keyed(fmt.Sprintf("w/%d", w), n, fmt.Sprintf("w%d-%d", w, n))
				_, err := logs[w%len(logs)].Append(ctx, eventlog.Batch{Drafts: []eventlog.Draft{d, draft("shared", n)}})
				if err != nil {
					t.Errorf("writer %d, event %d: %v", w, n, err)
					return
				}
			}
		})
	}
	wg.Wait()
	next := map[string]int{}
	revs := map[string]uint64{}
	events := all(t, h.Log)
	for _, e := range events {
		if revs[e.Stream]++; e.StreamRev != revs[e.Stream] {
			t.Fatalf("event %d is revision %d of %s, want %d", e.Seq, e.StreamRev, e.Stream, revs[e.Stream])
		}
		if e.Stream == "shared" {
			continue
		}
		if want := fmt.Sprintf(`{"n":%d}`, next[e.Stream]); string(e.Data) != want {
			t.Fatalf("event %d of %s is %s, want %s", e.Seq, e.Stream, e.Data, want)
		}
		next[e.Stream]++
	}
	if len(events) != 2*writers*each {
		t.Errorf("%d events, want %d", len(events), 2*writers*each)
	}
}

// concurrentConditional: of writers that all expect the same head one wins.
func concurrentConditional(t *testing.T, h Harness) {
	const writers = 8
	other := h.Log
	if h.Other != nil {
		other = h.Other(t)
	}
	ctx := testContext(t)
	for round := range 5 {
		at := head(t, h.Log).Seq
		var wg sync.WaitGroup
		results := make([]error, writers)
		for w := range writers {
			wg.Go(func() {
				l := []eventlog.Log{h.Log, other}[w%2]
				_, results[w] = l.Append(ctx, eventlog.Batch{Drafts: many("a", w, 1), ExpectedHead: &at})
			})
		}
		wg.Wait()
		won := 0
		for w, err := range results {
			if err == nil {
				won++
			} else if !errors.Is(err, eventlog.ErrConflict) {
				t.Errorf("round %d, writer %d: %v, want ErrConflict", round, w, err)
			}
		}
		if won != 1 {
			t.Fatalf("round %d: %d writers won, want 1", round, won)
		}
	}
	if n := len(all(t, h.Log)); n != 5 {
		t.Errorf("%d events, want 5", n)
	}
}

func contextCancelled(t *testing.T, h Harness) {
	put(t, h.Log, draft("a", 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Log.Append(ctx, eventlog.Batch{Drafts: many("a", 2, 1)}); !errors.Is(err, context.Canceled) {
		t.Errorf("append: %v, want context.Canceled", err)
	}
	if _, err := h.Log.Head(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("head: %v, want context.Canceled", err)
	}
	if _, err := h.Log.Read(ctx, 0, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("read: %v, want context.Canceled", err)
	}
	for run, err := range h.Log.Follow(ctx, eventlog.Head{}) {
		t.Errorf("a follower that was cancelled before it began delivered %d events and %v", len(run), err)
	}
	if n := len(all(t, h.Log)); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func closed(t *testing.T, h Harness) {
	put(t, h.Log, draft("a", 1))
	f := follow(t, h.Log, eventlog.Head{})
	f.caughtUp()
	done := make(chan error, 1)
	go func() {
		_, err, _ := f.next()
		done <- err
	}()
	h.Close()
	if err := <-done; !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("the waiting follower: %v, want ErrClosed", err)
	}
	if _, err := h.Log.Append(testContext(t), eventlog.Batch{Drafts: many("a", 2, 1)}); !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("append: %v, want ErrClosed", err)
	}
	if _, err := h.Log.Head(testContext(t)); !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("head: %v, want ErrClosed", err)
	}
	if _, err := h.Log.Read(testContext(t), 0, 1); !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("read: %v, want ErrClosed", err)
	}
	h.Close() // twice is fine
}
