package logtest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"dyad/eventlog"
)

// trimmer is the log under test, if it can be trimmed.
func trimmer(t *testing.T, h Harness) eventlog.Trimmer {
	l, ok := h.Log.(eventlog.Trimmer)
	if !ok {
		t.Skip("the log can't be trimmed")
	}
	return l
}

func wantTrimmed(t *testing.T, what string, err error, floor eventlog.Head) {
	t.Helper()
	var e *eventlog.TrimmedError
	if !errors.As(err, &e) || e.Floor != floor || !errors.Is(err, eventlog.ErrTrimmed) {
		t.Errorf("%s: %v, want a floor of %v", what, err, floor)
	}
}

func followError(t *testing.T, l eventlog.Log, after eventlog.Head) error {
	f := follow(t, l, after)
	defer f.stop()
	_, err, _ := f.next()
	return err
}

// trim: what is dropped is said to be gone, the rest stands as it was.
func trim(t *testing.T, h Harness) {
	l := trimmer(t, h)
	if f, err := l.Floor(testContext(t)); err != nil || f != (eventlog.Head{}) {
		t.Fatalf("the floor of a new log: %v %v", f, err)
	}
	sealed := put(t, l, many("a", 0, 30)...)
	put(t, l, keyed("b", 0, "early"))
	put(t, l, keyed("c", 0, "split"), keyed("c", 1, "split"))
	sealed = append(sealed, put(t, l, keyed("d", 0, "late"))...)
	page, err := l.Read(testContext(t), 31, 1)
	if err != nil || len(page) != 1 {
		t.Fatal(page, err)
	}
	floor := eventlog.HeadOf(page[0]) // between the two with the key split
	early := follow(t, l, eventlog.Head{})
	early.until(34)
	if err := l.Trim(testContext(t), floor); err != nil {
		t.Fatal(err)
	}
	for range 2 { // again is no harm, nor is less
		if err := l.Trim(testContext(t), floor); err != nil {
			t.Fatal(err)
		}
		if err := l.Trim(testContext(t), eventlog.HeadOf(sealed[3])); err != nil {
			t.Fatal(err)
		}
	}
	if f, err := l.Floor(testContext(t)); err != nil || f != floor {
		t.Errorf("the floor: %v %v, want %v", f, err, floor)
	}
	_, err = l.Read(testContext(t), 0, 5)
	wantTrimmed(t, "read from the start", err, floor)
	_, err = l.Read(testContext(t), floor.Seq-1, 5)
	wantTrimmed(t, "read from just below", err, floor)
	wantTrimmed(t, "follow from the start", followError(t, l, eventlog.Head{}), floor)
	wantTrimmed(t, "follow from just below", followError(t, l, eventlog.HeadOf(sealed[9])), floor)
	if page, err = l.Read(testContext(t), floor.Seq, 100); err != nil || len(page) != 2 || page[0].Seq != 33 {
		t.Errorf("the rest: %d events, %v", len(page), err)
	}
	late := follow(t, l, floor)
	late.until(34)
	got := put(t, l, draft("a", 30))
	if got[0].Seq != 35 || got[0].StreamRev != 31 {
		t.Errorf("the next event is %d, revision %d; want 35 and 31", got[0].Seq, got[0].StreamRev)
	}
	early.until(35)
	late.until(35)
	if _, err := l.Append(testContext(t), eventlog.Batch{Drafts: []eventlog.Draft{keyed("d", 1, "late")}}); !errors.Is(err, eventlog.ErrDuplicate) {
		t.Errorf("a key above the floor: %v", err)
	}
	if _, err := l.Append(testContext(t), eventlog.Batch{Drafts: []eventlog.Draft{keyed("d", 1, "split")}}); !errors.Is(err, eventlog.ErrDuplicate) {
		t.Errorf("a key on both sides of the floor: %v", err)
	}
	put(t, l, keyed("d", 1, "early")) // long ago: it is not known any more
}

// trimRefused: only an event of this log can be the floor.
func trimRefused(t *testing.T, h Harness) {
	l := trimmer(t, h)
	sealed := put(t, l, many("a", 0, 5)...)
	bad := eventlog.HeadOf(sealed[2])
	bad.Hash = strings.Repeat("0", 64)
	if err := l.Trim(testContext(t), bad); !errors.Is(err, eventlog.ErrCorrupt) {
		t.Errorf("another history's event: %v, want ErrCorrupt", err)
	}
	if err := l.Trim(testContext(t), eventlog.Head{Seq: 9, Hash: bad.Hash}); !errors.Is(err, eventlog.ErrGap) {
		t.Errorf("beyond the end: %v, want ErrGap", err)
	}
	if n := len(all(t, l)); n != 5 {
		t.Errorf("%d events after refused trims, want 5", n)
	}
	if err := l.Trim(testContext(t), eventlog.HeadOf(sealed[4])); err != nil {
		t.Errorf("all of it: %v", err)
	}
	if got := put(t, l, draft("a", 5)); got[0].Seq != 6 || got[0].StreamRev != 6 {
		t.Errorf("behind a log that was trimmed whole comes event %d, revision %d", got[0].Seq, got[0].StreamRev)
	}
}

// trimBesideAppends: writers and trims don't meet, and a follower misses nothing.
func trimBesideAppends(t *testing.T, h Harness) {
	l := trimmer(t, h)
	const writers, each = 4, 40
	f := follow(t, l, eventlog.Head{})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if _, err := l.Append(testContext(t), eventlog.Batch{Drafts: []eventlog.Draft{keyed(fmt.Sprintf("w/%d", w), i, fmt.Sprintf("k/%d/%d", w, i))}}); err != nil {
					t.Errorf("append beside a trim: %v", err)
				}
			}
		})
	}
	for f.at.Seq < writers*each {
		f.step()
		if f.at.Seq == 0 {
			continue
		}
		at := f.at
		for range 2 { // two nodes may trim at once
			wg.Go(func() {
				if err := l.Trim(testContext(t), at); err != nil {
					t.Errorf("trim up to %d: %v", at.Seq, err)
				}
			})
		}
	}
	wg.Wait()
	if floor, err := l.Floor(testContext(t)); err != nil || floor != f.at || f.at != head(t, l) {
		t.Errorf("floor %v (%v), follower %v, head %v", floor, err, f.at, head(t, l))
	}
}
