package etcdnode

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dyad/eventlog"
	"dyad/eventlog/etcdlog"
)

// knownTo answers from n's log, as the driver does.
func knownTo(t *testing.T, n *side) (func(eventlog.Seq) (string, bool, error), *int) {
	events := all(t, openLog(t, n.client))
	asked := new(int)
	return func(s eventlog.Seq) (string, bool, error) {
		*asked++
		if s == 0 || int(s) > len(events) {
			return "", false, nil
		}
		return events[s-1].Hash, true, nil
	}, asked
}

func keysOf(events []eventlog.Envelope) string {
	var out []string
	for _, e := range events {
		out = append(out, e.Key)
	}
	return strings.Join(out, " ")
}

// What the dead node wrote and nobody answered comes to light, committed or
// not, and it comes back as a learner with an empty directory.
func TestOrphansAndReturn(t *testing.T) {
	a, b := pair(t)
	for i := range 40 {
		put(t, a.l, draft("x", i))
	}
	// a goes on for a moment without b: what it writes is never acknowledged.
	b.kill(t)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	var wg sync.WaitGroup
	for i := range 2 {
		l := openLog(t, a.client) // two appends behind the same event: one wins
		wg.Go(func() {
			if _, err := l.Append(ctx, eventlog.Batch{Drafts: []eventlog.Draft{draft("lost", i), draft("lost", 10+i)}}); err == nil {
				t.Error("a pair of which one is dead acknowledged an append")
			}
		})
	}
	wg.Wait()
	cancel()
	a.kill(t)
	b.takeover(t, 2)
	put(t, openLog(t, b.client), draft("sole", 1))

	path, err := Archive(a.dir, a.c.Dir, 1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	known, _ := knownTo(t, b)
	for _, torn := range []bool{false, true} {
		if torn {
			tear(t, path)
		}
		o, err := ReadOrphans(path, etcdlog.DefaultPrefix, known)
		if err != nil {
			t.Fatal(err)
		}
		if got := keysOf(o.Events); o.Common.Seq != 40 || got != "lost-0 lost-10" && got != "lost-1 lost-11" && (!torn || got != "") || o.Committed != 40 {
			t.Errorf("torn: %v: common %d, committed %d, orphans %q; want 40, 40, and one of two appends whole", torn, o.Common.Seq, o.Committed, got)
		}
	}
	join(t, b, a)
	if got := all(t, openLog(t, a.client)); len(got) != 41 {
		t.Errorf("%d events at the node that came back, want 41", len(got))
	}
	// It is in the way of nobody when it comes once more.
	a.kill(t)
	b.kill(t)
	b.takeover(t, 3)
	if again, err := Archive(a.dir, a.c.Dir, 3, time.Now()); err != nil || again == path {
		t.Fatalf("archived at %s, %v", again, err)
	}
	join(t, b, a)
	if _, _, err := Readmit(t.Context(), b.client, "b", b.c.PeerURL); err == nil {
		t.Error("the survivor was removed from its own store")
	}
}

// Two nodes went on alone, against all rules. The one that has to give way
// hands over all it wrote.
func TestOrphansOfAFork(t *testing.T) {
	a, b := pair(t)
	lastAckOnly(t, a, b, 30)
	a.takeover(t, 2)
	b.takeover(t, 2)
	l := openLog(t, a.client)
	for i := range 20 {
		var b eventlog.Batch
		for j := range 100 {
			b.Drafts = append(b.Drafts, draft("fork", i*100+j))
		}
		if _, err := l.Append(testContext(t, 10*time.Second), b); err != nil {
			t.Fatal(err)
		}
	}
	put(t, openLog(t, b.client), draft("true", 1))
	a.kill(t)
	known, asked := knownTo(t, b)
	o, err := ReadOrphans(a.c.Dir, etcdlog.DefaultPrefix, known)
	if err != nil {
		t.Fatal(err)
	}
	if o.Common.Seq != 30 || len(o.Events) != 2000 || o.Events[0].Key != "fork-0" || o.Events[1999].Key != "fork-1999" || o.Committed < 1930 {
		t.Errorf("common %d, %d orphans, committed %d; want 30, 2000, 1930 or more: the last commit may not have reached the disk", o.Common.Seq, len(o.Events), o.Committed)
	}
	if *asked > 40 {
		t.Errorf("asked the survivor %d times for 2000 orphans", *asked)
	}
	// Asked by itself it has none; and a log that shares nothing shares nothing.
	own, _ := knownTo(t, a.revived(t))
	a.kill(t)
	if o, err = ReadOrphans(a.c.Dir, etcdlog.DefaultPrefix, own); err != nil || len(o.Events) != 0 || o.Common.Seq != 2030 {
		t.Errorf("of itself: common %d, %d orphans, %v", o.Common.Seq, len(o.Events), err)
	}
	strange := func(eventlog.Seq) (string, bool, error) { return "another", true, nil }
	if o, err = ReadOrphans(a.c.Dir, etcdlog.DefaultPrefix, strange); err != nil || len(o.Events) != 2030 || o.Common.Seq != 0 {
		t.Errorf("of another cluster: common %d, %d orphans, %v", o.Common.Seq, len(o.Events), err)
	}
	gone := errors.New("gone")
	if _, err = ReadOrphans(a.c.Dir, etcdlog.DefaultPrefix, func(eventlog.Seq) (string, bool, error) { return "", false, gone }); !errors.Is(err, gone) {
		t.Errorf("with a survivor that does not answer: %v", err)
	}
	if _, err = ReadOrphans(t.TempDir(), etcdlog.DefaultPrefix, known); !errors.Is(err, ErrNoStore) {
		t.Errorf("of an empty directory: %v, want ErrNoStore", err)
	}
}

func (n *side) revived(t *testing.T) *side {
	t.Helper()
	if err := n.s.Restart(testContext(t, 5*time.Second), n.c); err != nil {
		t.Fatal(err)
	}
	ready(t, n.s)
	Reconnect(n.client)
	return n
}

// A node leaves as planned, leader or not: the other goes on at once.
func TestLeave(t *testing.T) {
	for name, leaver := range map[string]func(a, b *side) (*side, *side){
		"the leader":   func(a, b *side) (*side, *side) { return a, b },
		"the follower": func(a, b *side) (*side, *side) { return b, a },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t)
			out, stays := leaver(a, b)
			put(t, a.l, draft("x", 1))
			if err := Leave(testContext(t, 20*time.Second), out.client, nil); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			put(t, stays.l, draft("x", 2))
			gap := time.Since(began)
			t.Logf("first append after %v", gap)
			if gap > time.Second {
				t.Errorf("the log stood still for %v", gap)
			}
			known, err := Members(t.Context(), stays.client)
			if err != nil || len(known) != 1 || known[0].Name != stays.c.Name {
				t.Errorf("members %+v, %v", known, err)
			}
			out.kill(t)
			if tail, err := ReadTail(out.c.Dir); !errors.Is(err, ErrNotVoter) && !tail.Cut {
				t.Errorf("the one that left reads %+v, %v; want that it has left", tail, err)
			}
			if err := Leave(testContext(t, 20*time.Second), stays.client, nil); !errors.Is(err, ErrLastVoter) {
				t.Errorf("the last one left too: %v", err)
			}
		})
	}
}

func TestArchive(t *testing.T) {
	data := t.TempDir()
	store := filepath.Join(data, "store")
	now := time.Date(2026, 3, 1, 12, 0, 0, 5e8, time.UTC)
	if _, err := Archive(data, store, 1, now); !errors.Is(err, ErrNoStore) {
		t.Errorf("nothing to put aside: %v, want ErrNoStore", err)
	}
	for i, at := range []struct {
		epoch eventlog.Epoch
		now   time.Time
		want  string
	}{
		{9, now, "20260301T120000Z-epoch9"},
		{9, now, "20260301T120000Z-epoch9.1"},
		{10, now.Add(-time.Hour), "20260301T110000Z-epoch10"}, // the clock jumped
		{11, now, "20260301T120000Z-epoch11"},
		{12, now, "20260301T120000Z-epoch12"},
		{13, now, "20260301T120000Z-epoch13"},
		{14, now, "20260301T120000Z-epoch14"},
	} {
		if err := os.MkdirAll(store, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(store, "x"), fmt.Append(nil, i), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Archive(data, store, at.epoch, at.now)
		if err != nil || filepath.Base(got) != at.want {
			t.Errorf("archived as %s (%v), want %s", got, err, at.want)
		}
		again, err := Archive(data, store, at.epoch, at.now.Add(time.Minute))
		if err != nil || again != got {
			t.Errorf("archived again as %s (%v), want %s", again, err, got)
		}
	}
	half := filepath.Join(data, archiveDir, "20260301T100000Z-epoch1"+removing)
	if err := os.MkdirAll(half, 0o700); err != nil {
		t.Fatal(err)
	}
	removed, err := PruneArchives(data)
	if err != nil || len(removed) != 2 || !strings.HasSuffix(removed[0], "epoch9.1") || !strings.HasSuffix(removed[1], "epoch9") {
		t.Errorf("pruned %q, %v; want the two oldest", removed, err)
	}
	if _, err := os.Stat(half); err == nil {
		t.Error("what a removal left is still there")
	}
	left, err := Archives(data)
	if err != nil || len(left) != MaxArchives || left[MaxArchives-1].Epoch != 14 {
		t.Errorf("left %+v, %v", left, err)
	}
	// The newest stays, however large.
	if err := os.Truncate(filepath.Join(left[MaxArchives-1].Path, "x"), MaxArchiveBytes+1); err != nil {
		t.Fatal(err)
	}
	if removed, err = PruneArchives(data); err != nil || len(removed) != MaxArchives-1 {
		t.Errorf("pruned %q, %v; want all but the newest", removed, err)
	}
}
