package segment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dyad/eventlog"
	"dyad/eventlog/logtest"
	"dyad/eventlog/memlog"
)

var recorded = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// run seals n events behind head.
func run(t testing.TB, head eventlog.Head, n int) []eventlog.Envelope {
	t.Helper()
	out := make([]eventlog.Envelope, 0, n)
	for i := range n {
		e, err := eventlog.Seal(head, 1, uint64(i+1), recorded, eventlog.Draft{
			ID: fmt.Sprint(head.Seq), Type: eventlog.TypePeerSet, Stream: "s", Data: []byte(fmt.Sprintf(`{"n":%d,"text":"a\nb"}`, i)),
		})
		if err != nil {
			t.Fatal(err)
		}
		head = eventlog.HeadOf(e)
		out = append(out, e)
	}
	return out
}

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func seal(t testing.TB, s *Store, n int) []eventlog.Envelope {
	t.Helper()
	r := run(t, s.End(), n)
	if _, err := s.Seal("c-1", r); err != nil {
		t.Fatal(err)
	}
	return r
}

// What is sealed is read, byte for byte, from any place, also after a restart.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "s")
		if err != nil {
			t.Fatal(err)
		}
		s := open(t, dir)
		var all []eventlog.Envelope
		for _, n := range rapid.SliceOfN(rapid.IntRange(1, 150), 1, 4).Draw(rt, "sizes") {
			all = append(all, seal(t, s, n)...)
		}
		if rapid.Bool().Draw(rt, "restart") {
			s = open(t, dir)
		}
		after := rapid.IntRange(0, len(all)-1).Draw(rt, "after")
		limit := rapid.IntRange(1, 200).Draw(rt, "limit")
		got, err := s.Read(eventlog.Seq(after), limit)
		if err != nil || len(got) == 0 || len(got) > limit {
			rt.Fatalf("%d events, %v", len(got), err)
		}
		for i, e := range got {
			x, _ := eventlog.Encode(e)
			y, _ := eventlog.Encode(all[after+i])
			if !bytes.Equal(x, y) {
				rt.Fatalf("event %d differs", e.Seq)
			}
		}
		if s.End() != eventlog.HeadOf(all[len(all)-1]) {
			rt.Fatalf("the end is %v", s.End())
		}
		if end, err := s.Verify(context.Background(), nil); err != nil || end != s.End() {
			rt.Fatal(end, err)
		}
		if _, err := s.Read(eventlog.Seq(len(all)), 1); !errors.Is(err, ErrMissing) || !errors.Is(err, eventlog.ErrUnavailable) {
			rt.Fatalf("beyond the end: %v", err)
		}
	})
}

// No changed byte, and no cut, passes, wherever it is.
func TestEveryByteCounts(t *testing.T) {
	good, _, err := Marshal("c-1", eventlog.Head{}, run(t, eventlog.Head{}, 5))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Scan(bytes.NewReader(good), nil); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, FileName(1))
	for i := range good {
		for _, bit := range []byte{1, 0x20, 0x80} {
			bad := bytes.Clone(good)
			bad[i] ^= bit
			if _, err := Scan(bytes.NewReader(bad), nil); !errors.Is(err, eventlog.ErrCorrupt) && !errors.Is(err, ErrNewer) {
				t.Fatalf("byte %d ^ %#x of %d passed: %v", i, bit, len(good), err)
			}
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			s := open(t, dir)
			var d *DamageError
			if _, err := s.Read(0, 10); !errors.As(err, &d) || d.File != FileName(1) || !strings.Contains(err.Error(), "dyad log verify") {
				t.Fatalf("byte %d ^ %#x read from disk: %v", i, bit, err)
			}
			if s.End().Seq != 0 || s.List()[0].Damage == "" {
				t.Fatalf("byte %d: a damaged segment counts", i)
			}
		}
		if _, err := Scan(bytes.NewReader(good[:i]), nil); !errors.Is(err, eventlog.ErrCorrupt) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	if _, err := Scan(bytes.NewReader(append(bytes.Clone(good), '\n')), nil); !errors.Is(err, eventlog.ErrCorrupt) {
		t.Errorf("something behind the end: %v", err)
	}
}

func FuzzScan(f *testing.F) {
	good, _, err := Marshal("c-1", eventlog.Head{}, run(f, eventlog.Head{}, 3))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:100])
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := Scan(bytes.NewReader(b), nil)
		if err != nil {
			return
		}
		var all []eventlog.Envelope
		if _, err := Scan(bytes.NewReader(b), func(e eventlog.Envelope, _ int64) error { all = append(all, e); return nil }); err != nil {
			t.Fatal(err)
		}
		if again, _, err := Marshal(h.Cluster, h.Prev, all); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("a file passed that is not the one its events make: %v", err)
		}
	})
}

func TestHeadersThatMakeNoSense(t *testing.T) {
	good := run(t, eventlog.Head{}, 3)
	if _, _, err := Marshal("c", eventlog.Head{}, good[1:]); !errors.Is(err, eventlog.ErrGap) {
		t.Errorf("a gap: %v", err)
	}
	if _, _, err := Marshal("c", eventlog.Head{}, nil); !errors.Is(err, eventlog.ErrTooLarge) {
		t.Errorf("nothing: %v", err)
	}
	b, _, err := Marshal("c", eventlog.Head{}, good)
	if err != nil {
		t.Fatal(err)
	}
	newer := bytes.Replace(b, []byte(`"dyad_segment":1`), []byte(`"dyad_segment":2`), 1)
	if _, err := Scan(bytes.NewReader(newer), nil); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer release's: %v", err)
	}
}

// died stops at one step, as a crash does.
var errDied = errors.New("died")

// A crash at any step of sealing leaves the segment whole or not at all, and the
// next start goes on.
func TestSealDiesAnywhere(t *testing.T) {
	for _, step := range []string{"create", "write", "sync", "rename", "sync directory", ""} {
		t.Run(step, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			seal(t, s, 10)
			s.point = func(at string) error {
				if at == step {
					return errDied
				}
				return nil
			}
			r := run(t, s.End(), 20)
			if _, err := s.Seal("c-1", r); (err == nil) != (step == "") {
				t.Fatal(err)
			}
			s = open(t, dir)
			end := s.End().Seq
			if end != 10 && end != 30 {
				t.Fatalf("after the crash the segments end with %d", end)
			}
			if _, err := s.Verify(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if end == 10 {
				if _, err := s.Seal("c-1", r); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := s.Read(10, 100); err != nil || len(got) != 20 {
				t.Fatal(len(got), err)
			}
			left, err := filepath.Glob(filepath.Join(dir, "*"+tempSuffix))
			if err != nil || len(left) > 0 {
				t.Error(left, err)
			}
		})
	}
}

// A full disk, or one that fails: the error says so, and nothing is lost.
func TestSealOntoABadDisk(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	seal(t, s, 5)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Seal("c-1", run(t, s.End(), 5)); err == nil || !strings.Contains(err.Error(), "free some space") {
		t.Error(err)
	}
	if s.End().Seq != 5 {
		t.Error(s.End())
	}
}

// Another node's copy replaces what is damaged or missing, and nothing else.
func TestAdd(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, t.TempDir()), open(t, dir)
	var files [][]byte
	for range 3 {
		first := a.End().Seq + 1
		seal(t, a, 30)
		f, err := a.File(first)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	news := b.Changed()
	if _, err := b.Add(files[1]); !errors.Is(err, eventlog.ErrGap) {
		t.Errorf("out of order: %v", err)
	}
	for _, f := range files {
		if _, err := b.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	<-news
	if _, err := b.Add(files[2]); !errors.Is(err, eventlog.ErrGap) {
		t.Errorf("twice: %v", err)
	}
	bad := bytes.Clone(files[1])
	bad[len(bad)/2] ^= 1
	if err := os.WriteFile(filepath.Join(dir, FileName(31)), bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Verify(t.Context(), nil); !errors.Is(err, eventlog.ErrCorrupt) || !strings.Contains(err.Error(), FileName(31)) {
		t.Fatalf("verify: %v", err)
	}
	if b.End().Seq != 30 {
		t.Errorf("the end is %d", b.End().Seq)
	}
	if _, err := b.Add(bad); !errors.Is(err, eventlog.ErrCorrupt) {
		t.Errorf("a damaged copy: %v", err)
	}
	if _, err := b.Add(files[1]); err != nil {
		t.Fatal(err)
	}
	if b.End() != a.End() {
		t.Errorf("%v, want %v", b.End(), a.End())
	}
	other := open(t, t.TempDir())
	if _, err := other.Seal("c-1", run(t, eventlog.Head{}, 90)); err != nil {
		t.Fatal(err)
	}
	strange := run(t, eventlog.Head{Seq: 90, Hash: strings.Repeat("0", 64), Epoch: 1}, 5)
	f, _, err := Marshal("c-1", eventlog.Head{Seq: 90, Hash: strings.Repeat("0", 64), Epoch: 1}, strange)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Add(f); !errors.Is(err, eventlog.ErrCorrupt) {
		t.Errorf("another history's: %v", err)
	}
	if err := b.SetAside(61); err != nil {
		t.Fatal(err)
	}
	if err := b.SetAside(61); err != nil {
		t.Errorf("again: %v", err)
	}
	if b.End().Seq != 60 || open(t, dir).End().Seq != 60 {
		t.Errorf("after one was set aside the end is %d", b.End().Seq)
	}
}

func TestCut(t *testing.T) {
	r := run(t, eventlog.Head{}, 20)
	for events, want := range map[int]int{5: 5, 20: 20, 21: 0} {
		if got := Cut(r, events); got != want {
			t.Errorf("cut into %d: %d, want %d", events, got, want)
		}
	}
}

// The joined log passes the suite of every log, while it is sealed and trimmed
// behind the reader's back.
func TestConformance(t *testing.T) {
	logtest.Run(t, func(t *testing.T) logtest.Harness {
		hot := memlog.New(nil)
		s := open(t, t.TempDir())
		l := Join(hot, s)
		return logtest.Harness{Log: l, Close: hot.Close, Compact: func(t *testing.T) { sealAll(t, l, s) }}
	})
}

// sealAll seals and trims everything but the last few events.
func sealAll(t *testing.T, l *Log, s *Store) {
	t.Helper()
	h, err := l.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for s.End().Seq+7 < h.Seq {
		r, err := l.Read(t.Context(), s.End().Seq, 7)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Seal("c-1", r); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Trim(t.Context(), s.End()); err != nil {
		t.Fatal(err)
	}
}

// A follower on a node that has no segments yet waits for them.
func TestFollowWaitsForSegments(t *testing.T) {
	hot := memlog.New(nil)
	full, empty := open(t, t.TempDir()), open(t, t.TempDir())
	l := Join(hot, full)
	for i := range 30 {
		if _, err := hot.Append(t.Context(), eventlog.Batch{Drafts: []eventlog.Draft{{ID: fmt.Sprint(i), Type: eventlog.TypePeerSet, Stream: "s"}}}); err != nil {
			t.Fatal(err)
		}
	}
	sealAll(t, l, full)
	fresh := Join(hot, empty)
	if _, err := fresh.Read(t.Context(), 0, 5); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("read: %v, want ErrUnavailable", err)
	}
	if err := fresh.Trim(t.Context(), full.End()); !errors.Is(err, ErrMissing) {
		t.Errorf("trim: %v, want ErrMissing", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	seen := make(chan eventlog.Seq, 100)
	done := make(chan error, 1)
	go func() {
		var err error
		for r, e := range fresh.Follow(ctx, eventlog.Head{}) {
			if err = e; err != nil {
				break
			}
			for _, ev := range r {
				seen <- ev.Seq
			}
			if len(r) == 0 {
				break
			}
		}
		close(seen)
		done <- err
	}()
	for _, i := range full.List() {
		b, err := full.File(i.First)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := empty.Add(b); err != nil {
			t.Fatal(err)
		}
	}
	want := eventlog.Seq(0)
	for got := range seen {
		if want++; got != want {
			t.Fatalf("event %d, want %d", got, want)
		}
	}
	if err := <-done; err != nil || want != 30 {
		t.Errorf("%d events, %v", want, err)
	}
}
