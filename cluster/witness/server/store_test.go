package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"dyad/cluster/quorum"
	"dyad/cluster/witness/registertest"
	"dyad/eventlog"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func open(t testing.TB, dir string, maxClusters int) *Store {
	t.Helper()
	s, err := OpenStore(dir, maxClusters)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closed(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAStoreKeepsWhatItAnswered(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 2)
	if _, err := s.Create(t.Context(), "ca1", "node-a", registertest.Pair("c1", 1), now); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(t.Context(), "ca2", "node-x", registertest.Pair("c2", 1), now); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(t.Context(), "ca3", "node-y", registertest.Pair("c3", 1), now); !errors.Is(err, ErrFull) {
		t.Errorf("a third of two: %v", err)
	}
	if _, err := s.Create(t.Context(), "ca3", "node-y", registertest.Pair("c2", 1), now); !errors.Is(err, ErrOtherCA) {
		t.Errorf("another CA: %v", err)
	}
	if _, err := s.Swap(t.Context(), "ca3", "node-y", registertest.Pair("c2", 1), registertest.Sole("c2", 2, "node-y"), now); !errors.Is(err, ErrOtherCA) {
		t.Errorf("another CA: %v", err)
	}
	sole := registertest.Sole("c1", 2, "node-b")
	if _, err := s.Swap(t.Context(), "ca1", "node-b", registertest.Pair("c1", 1), sole, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStore(dir, 0); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("two witnesses in one directory: %v", err)
	}
	if held, err := Load(dir); err != nil || held["c1"].Claim != sole {
		t.Errorf("read beside a running witness: %v, %v", held, err)
	}
	closed(t, s)
	if _, err := s.Swap(t.Context(), "ca1", "node-b", sole, registertest.Pair("c1", 3), now); !errors.Is(err, quorum.ErrUnavailable) {
		t.Errorf("after the end: %v", err)
	}
	s = open(t, dir, 2)
	defer closed(t, s)
	r, err := s.Get("c1", "ca1")
	if err != nil || r.Claim != sole || r.By != "node-b" || !r.Created.Equal(now) || !r.Changed.Equal(now.Add(time.Hour)) {
		t.Errorf("after a restart: %+v, %v", r, err)
	}
}

// What a crash can leave at the end is passed over, anything else is damage: the
// witness must not start with an older claim than one it granted.
func TestTornTailsAndDamage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	for i := range 3 {
		if _, err := s.Create(t.Context(), "ca", "node-a", registertest.Pair(fmt.Sprintf("c%d", i), 1), now); err != nil {
			t.Fatal(err)
		}
	}
	closed(t, s)
	path := filepath.Join(dir, claimsFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	frame, err := encodeFrame([]Record{{Claim: registertest.Sole("c0", 2, "node-a"), CA: "ca"}})
	if err != nil {
		t.Fatal(err)
	}
	zeroed := append(make([]byte, len(frame)/2), frame[len(frame)/2:]...)
	for name, text := range map[string][]byte{
		"nothing torn": good,
		"cut":          append(append([]byte{}, good...), frame[:len(frame)-1]...),
		"zeros":        append(append([]byte{}, good...), make([]byte, 4096)...),
		"half zeros":   append(append([]byte{}, good...), zeroed...),
	} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, 0)
		if r, err := s.Get("c0", "ca"); err != nil || r.Claim.Epoch != 1 || s.Len() != 3 {
			t.Errorf("%s: %+v, %v, %d clusters", name, r, err, s.Len())
		}
		closed(t, s)
	}
	flipped := append(append([]byte{}, good...), frame...)
	flipped[len(good)+20] ^= 1
	middle := append(append(append([]byte{}, good...), zeroed...), frame...)
	for name, text := range map[string][]byte{
		"a bit of the last frame": flipped, "zeros in the middle": middle, "no header": good[len(header):],
		"a newer release": []byte("dyad-witness 2\n"), "empty": {}, "the middle": append([]byte(header), good[len(header)+40:]...),
	} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenStore(dir, 0); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAFileIsWrittenAnewBeforeItGrows(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	defer closed(t, s)
	c := registertest.Pair("c1", 1)
	c.Hash = strings.Repeat("a", quorum.MaxHash)
	if _, err := s.Create(t.Context(), "ca", "node-a", c, now); err != nil {
		t.Fatal(err)
	}
	s.size = compactAbove - 2000 // the writer waits, so nobody else looks at it
	for i := range 20 {
		next := registertest.Sole("c1", eventlog.Epoch(i+2), "node-a")
		if _, err := s.Swap(t.Context(), "ca", "node-a", c, next, now); err != nil {
			t.Fatal(err)
		}
		c = next
	}
	st, err := os.Stat(filepath.Join(dir, claimsFile))
	if err != nil || st.Size() > 6000 {
		t.Errorf("%d bytes, %v", st.Size(), err)
	}
	if held, err := Load(dir); err != nil || held["c1"].Claim != c {
		t.Errorf("%v, %v", held, err)
	}
}

// A disk that refuses a write ends the store: what it can't promise it does not
// answer, also not with no.
func TestADiskThatRefuses(t *testing.T) {
	s := open(t, t.TempDir(), 0)
	pair := registertest.Pair("c1", 1)
	if _, err := s.Create(t.Context(), "ca", "node-a", pair, now); err != nil {
		t.Fatal(err)
	}
	if err := s.f.Close(); err != nil { // every write fails from here on
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.Swap(t.Context(), "ca", "node-a", pair, registertest.Sole("c1", 2, "node-a"), now); !errors.Is(err, quorum.ErrUnavailable) {
			t.Errorf("%v", err)
		}
	}
	select {
	case <-s.Failed():
	default:
		t.Error("it has not failed")
	}
	if r, err := s.Get("c1", "ca"); err != nil || r.Claim != pair {
		t.Errorf("%+v, %v", r, err)
	}
	_ = s.Close() // its file is closed already
}

// slowDisk is a file whose Sync waits until it is let go.
type slowDisk struct {
	durable
	syncing chan struct{}
	let     chan error
}

func (d *slowDisk) Sync() error {
	d.syncing <- struct{}{}
	if err := <-d.let; err != nil {
		return err
	}
	return d.durable.Sync()
}

// Nobody is told anything, and nobody reads it, before it is on disk; also not a
// no that depends on it.
func TestNothingIsAnsweredBeforeItIsOnDisk(t *testing.T) {
	s := open(t, t.TempDir(), 0)
	pair, sole := registertest.Pair("c1", 1), registertest.Sole("c1", 2, "node-a")
	if _, err := s.Create(t.Context(), "ca", "node-a", pair, now); err != nil {
		t.Fatal(err)
	}
	disk := &slowDisk{durable: s.f, syncing: make(chan struct{}), let: make(chan error)}
	s.f = disk // the writer waits
	swap := func(from, to quorum.Claim) chan error {
		answer := make(chan error, 1)
		go func() {
			_, err := s.Swap(t.Context(), "ca", to.Holder, from, to, now)
			answer <- err
		}()
		return answer
	}
	first := swap(pair, sole)
	<-disk.syncing
	second := swap(pair, registertest.Sole("c1", 2, "node-b"))
	if r, err := s.Get("c1", "ca"); err != nil || r.Claim != pair {
		t.Errorf("read before it is on disk: %+v, %v", r, err)
	}
	select {
	case err := <-first:
		t.Errorf("answered before it is on disk: %v", err)
	case err := <-second:
		t.Errorf("told no before the yes is on disk: %v", err)
	default:
	}
	disk.let <- nil
	if err := <-first; err != nil {
		t.Error(err)
	}
	if err := <-second; !errors.Is(err, quorum.ErrMoved) {
		t.Errorf("the second: %v", err)
	}
	// A sync that fails leaves the outcome open.
	third := swap(sole, registertest.Pair("c1", 3))
	<-disk.syncing
	disk.let <- errors.New("input/output error")
	if err := <-third; !errors.Is(err, quorum.ErrUnavailable) {
		t.Errorf("after a failed sync: %v", err)
	}
	if r, err := s.Get("c1", "ca"); err != nil || r.Claim != sole {
		t.Errorf("%+v, %v", r, err)
	}
	closed(t, s)
}

// BenchmarkFiveThousandClusters prints what a cluster costs.
func BenchmarkFiveThousandClusters(b *testing.B) {
	const clusters = 5000
	dir := b.TempDir()
	for b.Loop() {
		before := heap()
		s := open(b, dir, clusters)
		held := map[string]Record{}
		for i := range clusters {
			id := fmt.Sprintf("0f5a9d7e-8f0e-4f57-93b0-%012d", i)
			held[id] = Record{
				Claim: quorum.Claim{Cluster: id, Epoch: 7, Mode: quorum.Sole, Holder: "node-a", Seq: 123456, Hash: strings.Repeat("ab", 32)},
				CA:    fmt.Sprintf("%064d", i), Created: now, Changed: now, By: "node-a",
			}
		}
		s.held = held
		if err := s.rewrite(); err != nil {
			b.Fatal(err)
		}
		closed(b, s)
		held, s = nil, nil
		start := time.Now()
		s = open(b, dir, clusters)
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms/start")
		b.ReportMetric(float64(heap()-before)/clusters, "heap-B/cluster")
		st, err := os.Stat(filepath.Join(dir, claimsFile))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(st.Size())/clusters, "disk-B/cluster")
		closed(b, s)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
