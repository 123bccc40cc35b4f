package logtest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"dyad/eventlog"
)

func followFromStart(t *testing.T, h Harness) {
	put(t, h.Log, many("a", 0, 50)...)
	f := follow(t, h.Log, eventlog.Head{})
	f.until(50)
	for i := range 20 { // and then as they come, one step each or more
		put(t, h.Log, draft("a", 50+i))
		f.until(eventlog.Seq(51 + i))
	}
	put(t, h.Log, many("a", 70, eventlog.MaxPage)...)
	put(t, h.Log, many("b", 0, 10)...)
	f.until(80 + eventlog.MaxPage)
	if got := head(t, h.Log); f.at != got {
		t.Errorf("the follower is at %v, the head is %v", f.at, got)
	}
}

func followFromMiddle(t *testing.T, h Harness) {
	sealed := put(t, h.Log, many("a", 0, 30)...)
	f := follow(t, h.Log, eventlog.HeadOf(sealed[11]))
	if run := f.step(); len(run) == 0 || run[0].Seq != 13 {
		t.Fatalf("the first step is %d events, want it to begin with event 13", len(run))
	}
	f.until(30)
	end := follow(t, h.Log, eventlog.HeadOf(sealed[29]))
	if run := end.step(); len(run) != 0 {
		t.Errorf("the first step from the end is %d events, want an empty one", len(run))
	}
	put(t, h.Log, draft("a", 30))
	f.until(31)
	end.until(31)
}

// followCatchesUp: the empty step comes once, and not before the end.
func followCatchesUp(t *testing.T, h Harness) {
	put(t, h.Log, many("a", 0, eventlog.MaxPage)...)
	put(t, h.Log, many("a", 0, 10)...)
	f := follow(t, h.Log, eventlog.Head{})
	f.caughtUp()
	if f.at.Seq != eventlog.MaxPage+10 {
		t.Fatalf("the follower says it has caught up at event %d of %d", f.at.Seq, eventlog.MaxPage+10)
	}
	put(t, h.Log, draft("a", 1))
	if run := f.step(); len(run) == 0 {
		t.Error("a second empty step")
	}
}

func followEmpty(t *testing.T, h Harness) {
	f := follow(t, h.Log, eventlog.Head{})
	if run := f.step(); len(run) != 0 {
		t.Fatalf("the first step in an empty log is %d events", len(run))
	}
	put(t, h.Log, draft("a", 1))
	f.until(1)
}

// followDiverged: a follower that saw another history is told so.
func followDiverged(t *testing.T, h Harness) {
	sealed := put(t, h.Log, many("a", 0, 3)...)
	last := func(after eventlog.Head) error {
		f := follow(t, h.Log, after)
		for {
			_, err, ok := f.next()
			if err != nil || !ok {
				return err
			}
		}
	}
	other := strings.Repeat("0", 64)
	if err := last(eventlog.Head{Seq: 2, Hash: other}); !errors.Is(err, eventlog.ErrCorrupt) {
		t.Errorf("from the middle of another history: %v, want ErrCorrupt", err)
	}
	if err := last(eventlog.Head{Seq: 3, Hash: other}); !errors.Is(err, eventlog.ErrCorrupt) {
		t.Errorf("from the end of another history: %v, want ErrCorrupt", err)
	}
	if err := last(eventlog.Head{Seq: 9, Hash: sealed[2].Hash}); !errors.Is(err, eventlog.ErrGap) {
		t.Errorf("from beyond the end: %v, want ErrGap", err)
	}
}

// followManyAndSlow: many followers see the same; a slow one misses nothing and
// holds nobody up.
func followManyAndSlow(t *testing.T, h Harness) {
	const followers, batches, size = 10, 20, 25
	slow := follow(t, h.Log, eventlog.Head{})
	slow.step()
	var wg sync.WaitGroup
	heads := make([]eventlog.Head, followers)
	for i := range followers {
		f := follow(t, h.Log, eventlog.Head{})
		wg.Go(func() {
			for f.at.Seq < batches*size {
				run, err, ok := f.next()
				if !ok || err != nil {
					t.Errorf("follower %d ended at %d: %v", i, f.at.Seq, err)
					return
				}
				if f.at, err = eventlog.VerifyRun(f.at, run); err != nil {
					t.Errorf("follower %d: %v", i, err)
					return
				}
			}
			heads[i] = f.at
		})
	}
	for b := range batches {
		put(t, h.Log, many(fmt.Sprintf("s/%d", b), 0, size)...)
	}
	wg.Wait()
	want := head(t, h.Log)
	for i, got := range heads {
		if got != want {
			t.Errorf("follower %d is at %v, the head is %v", i, got, want)
		}
	}
	slow.until(batches * size)
	if slow.at != want {
		t.Errorf("the slow follower is at %v, the head is %v", slow.at, want)
	}
}

func followAcrossCompaction(t *testing.T, h Harness) {
	if h.Compact == nil {
		h.Compact = func(*testing.T) {} // nothing to compact: the rest must hold all the same
	}
	sealed := put(t, h.Log, many("a", 0, 20)...)
	f := follow(t, h.Log, eventlog.Head{})
	f.until(20)
	put(t, h.Log, many("a", 20, 20)...) // waits for the follower while history goes
	h.Compact(t)
	f.until(40)
	late := follow(t, h.Log, eventlog.HeadOf(sealed[4]))
	late.until(40)
	put(t, h.Log, draft("a", 40))
	f.until(41)
	late.until(41)
	if n := len(all(t, h.Log)); n != 41 {
		t.Errorf("%d events after compaction, want 41", n)
	}
}

func followAcrossReconnect(t *testing.T, h Harness) {
	if h.Reconnect == nil {
		h.Reconnect = func(*testing.T) {} // nothing to cut: the rest must hold all the same
	}
	put(t, h.Log, many("a", 0, 10)...)
	f := follow(t, h.Log, eventlog.Head{})
	f.until(10)
	for round := range 3 {
		h.Reconnect(t)
		at := 10 * (round + 1)
		put(t, h.Log, many("a", at, 10)...)
		f.until(eventlog.Seq(at + 10))
	}
	if n := len(all(t, h.Log)); n != 40 {
		t.Errorf("%d events, want 40", n)
	}
}
