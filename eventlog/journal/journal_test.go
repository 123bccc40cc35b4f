package journal

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"dyad/eventlog"
	"dyad/eventlog/memlog"
)

// The test binary is also a node that writes facts until it is killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "write" {
		writeForEver(os.Args[2], os.Args[3])
	}
	os.Exit(m.Run())
}

func writeForEver(dir, boot string) {
	j, err := Open(dir, "node-a", boot, Options{Pending: 64})
	for n := 1; err == nil; n++ {
		if err = j.Append(context.Background(), fact("s"+strconv.Itoa(n%5), eventlog.TypeSessionUp, n)); err == nil {
			fmt.Println(n) // acknowledged
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func fact(stream string, typ eventlog.Type, n int) eventlog.Draft {
	return eventlog.Draft{
		ID: fmt.Sprintf("%s-%s-%d", stream, typ, n), Type: typ, Version: 1, Stream: stream,
		ObservedAt: noon.Add(time.Duration(n) * time.Second), Data: []byte(strconv.Itoa(n)),
	}
}

func open(t testing.TB, dir, boot string, o Options) *Journal {
	t.Helper()
	j, err := Open(dir, "node-a", boot, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func add(t testing.TB, j *Journal, ds ...eventlog.Draft) {
	t.Helper()
	if err := j.Append(t.Context(), ds...); err != nil {
		t.Fatal(err)
	}
}

func pending(t testing.TB, j *Journal) []eventlog.Draft {
	t.Helper()
	ds, err := j.Pending(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	if len(ds) != j.Len() {
		t.Fatalf("%d facts wait, Len says %d", len(ds), j.Len())
	}
	return ds
}

// places writes facts as boot/n.
func places(ds []eventlog.Draft) string {
	var out []string
	for _, d := range ds {
		out = append(out, fmt.Sprintf("%s/%d", d.Origin.Boot, d.Origin.N))
	}
	return strings.Join(out, " ")
}

func mark(t testing.TB, j *Journal, boot string, n uint64) {
	t.Helper()
	if err := j.MarkCopied(t.Context(), eventlog.Origin{Node: "node-a", Boot: boot, N: n}); err != nil {
		t.Fatal(err)
	}
}

func segments(t testing.TB, dir string) []string {
	t.Helper()
	out, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAppendCopyReopen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	j := open(t, dir, "b1", Options{})
	add(t, j, fact("a", eventlog.TypeSessionUp, 1), fact("a", eventlog.TypeSessionDown, 2))
	add(t, j, fact("b", eventlog.TypeAgentStarted, 3))
	got := pending(t, j)
	if places(got) != "b1/1 b1/2 b1/3" || got[2].Key != "fact/node-a/b1/3" || got[2].Origin.Node != "node-a" || string(got[1].Data) != "2" || !got[0].ObservedAt.Equal(noon.Add(time.Second)) {
		t.Errorf("pending %+v", got)
	}
	if two, err := j.Pending(2); err != nil || places(two) != "b1/1 b1/2" {
		t.Errorf("two of them: %s (%v)", places(two), err)
	}
	for _, limit := range []int{0, -1} {
		if none, err := j.Pending(limit); err != nil || len(none) != 0 {
			t.Errorf("limit %d: %s (%v)", limit, places(none), err)
		}
	}
	got[0].Origin.N = 99 // a caller's copy
	mark(t, j, "b1", 1)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}

	j = open(t, dir, "b2", Options{})
	add(t, j, fact("a", eventlog.TypeSessionUp, 4))
	if got := places(pending(t, j)); got != "b1/2 b1/3 b2/1" {
		t.Errorf("after a reboot %s wait, the oldest boot's first", got)
	}
	mark(t, j, "b1", 3)
	if got := segments(t, dir); len(got) != 1 {
		t.Errorf("the copied boot left %v", got)
	}
	mark(t, j, "b1", 1) // older than what is known: nothing
	mark(t, j, "zz", 9) // unknown: nothing
	if got := places(pending(t, j)); got != "b2/1" {
		t.Errorf("%s wait", got)
	}
	mark(t, j, "b2", 1)
	if got := segments(t, dir); len(got) != 0 {
		t.Errorf("all is copied, and %v is left", got)
	}
	add(t, j, fact("a", eventlog.TypeSessionUp, 5))
	j = open(t, dir, "b3", Options{})
	if got := places(pending(t, j)); got != "b2/2" || len(j.Damage()) != 0 {
		t.Errorf("%s wait, damage %v", got, j.Damage())
	}
}

// A fact that stands in the log is there once, however often it is copied.
func TestCopyIntoLog(t *testing.T) {
	dir := t.TempDir()
	l := memlog.New(nil)
	copyAll := func(j *Journal) (dups int) {
		for _, d := range pending(t, j) {
			_, err := l.Append(t.Context(), eventlog.Batch{Drafts: []eventlog.Draft{d}})
			if errors.Is(err, eventlog.ErrDuplicate) {
				dups++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		return dups
	}
	j := open(t, dir, "b1", Options{})
	add(t, j, fact("a", eventlog.TypeSessionUp, 1), fact("a", eventlog.TypeSessionUp, 2))
	copyAll(j) // and a crash before MarkCopied
	j = open(t, dir, "b2", Options{})
	add(t, j, fact("a", eventlog.TypeSessionUp, 3))
	if dups := copyAll(j); dups != 2 {
		t.Errorf("%d duplicates, want 2", dups)
	}
	if h, err := l.Head(t.Context()); err != nil || h.Seq != 3 {
		t.Errorf("the log has %d events (%v), want 3", h.Seq, err)
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir, "", "b", Options{}); err == nil {
		t.Error("opened without a node")
	}
	if _, err := Open(dir, "n", "", Options{}); err == nil {
		t.Error("opened without a boot")
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(file, "below"), "n", "b", Options{}); err == nil {
		t.Error("opened below a file")
	}
	j := open(t, filepath.Join(dir, "j"), "b", Options{Clock: func() time.Time { return noon }})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.Append(ctx, fact("a", "t", 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("append: %v", err)
	}
	if err := j.MarkCopied(ctx, eventlog.Origin{}); !errors.Is(err, context.Canceled) {
		t.Errorf("mark: %v", err)
	}
	bad := fact("a", "t", 1)
	bad.Data = []byte("{")
	if err := j.Append(t.Context(), fact("a", "t", 1), bad); err == nil || j.Len() != 0 {
		t.Errorf("not JSON: %v, %d taken", err, j.Len())
	}
	add(t, j, eventlog.Draft{Type: "t"})
	if got := pending(t, j)[0].ObservedAt; !got.Equal(noon) {
		t.Errorf("observed at %v, want the clock's %v", got, noon)
	}
	for range 2 {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := j.Append(t.Context(), fact("a", "t", 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("append: %v, want ErrClosed", err)
	}
	if _, err := j.Pending(1); !errors.Is(err, ErrClosed) {
		t.Errorf("pending: %v, want ErrClosed", err)
	}
	if err := j.MarkCopied(t.Context(), eventlog.Origin{Boot: "b", N: 1}); !errors.Is(err, ErrClosed) {
		t.Errorf("mark: %v, want ErrClosed", err)
	}
}

// copyDir makes a second journal directory with the same files.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// The machine may stop between any two bytes. What was acknowledged is whole,
// the torn rest is cut, and the journal goes on.
func TestTornAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, "b1", Options{})
	ends := []int64{0}
	for i := range 4 {
		add(t, j, fact("a", eventlog.TypeSessionUp, i))
		info, err := os.Stat(segments(t, dir)[0])
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, info.Size())
	}
	for size := range ends[4] + 1 {
		whole := 0
		for ends[whole+1] <= size {
			if whole++; whole == 4 {
				break
			}
		}
		crashed := copyDir(t, dir)
		path := segments(t, crashed)[0]
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		j, err := Open(crashed, "node-a", "b2", Options{})
		if err != nil {
			t.Fatalf("cut at %d: %v", size, err)
		}
		if got := j.Len(); got != whole || len(j.Damage()) > 0 {
			t.Fatalf("cut at %d: %d facts, damage %v; want %d and none", size, got, j.Damage(), whole)
		}
		if whole > 0 { // with nothing that waits the file is deleted
			if info, err := os.Stat(path); err != nil || info.Size() != ends[whole] {
				t.Fatalf("cut at %d: the file has %d bytes (%v), want %d", size, info.Size(), err, ends[whole])
			}
		}
		add(t, j, fact("a", eventlog.TypeSessionUp, 9))
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = open(t, crashed, "b3", Options{})
		if got := j.Len(); got != whole+1 || len(j.Damage()) > 0 {
			t.Fatalf("cut at %d, and once more: %d facts, damage %v", size, got, j.Damage())
		}
	}
}

// One flipped bit costs one fact, names its place, and keeps the file.
func TestDamageInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, "b1", Options{})
	for i := range 3 {
		add(t, j, fact("a", eventlog.TypeSessionUp, i))
	}
	path := segments(t, dir)[0]
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	from := bytes.IndexByte(content, '\n') + 1
	to := from + bytes.IndexByte(content[from:], '\n')
	for at := from; at < to; at += 7 {
		hurt := copyDir(t, dir)
		bad := bytes.Clone(content)
		if bad[at] ^= 1; bad[at] == '\n' {
			continue
		}
		path := segments(t, hurt)[0]
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		j := open(t, hurt, "b2", Options{})
		if got := places(pending(t, j)); got != "b1/1 b1/3" {
			t.Fatalf("byte %d: %s wait, want b1/1 b1/3", at, got)
		}
		var d *DamageError
		if damage := j.Damage(); len(damage) != 1 || !errors.As(damage[0], &d) || d.File != path || d.Offset != int64(from) || !strings.Contains(damage[0].Error(), fmt.Sprintf("%s at byte %d", path, from)) {
			t.Fatalf("byte %d: damage %v, want one at %s byte %d", at, damage, path, from)
		}
		add(t, j, fact("a", eventlog.TypeSessionUp, 4))
		mark(t, j, "b2", 1)
		if kept, err := os.ReadFile(path + damagedSuffix); err != nil || !bytes.Equal(kept, bad) {
			t.Fatalf("byte %d: the damaged file was not kept as it was: %v", at, err)
		}
		if j = open(t, hurt, "b3", Options{}); len(j.Damage()) != 0 || j.Len() != 0 {
			t.Fatalf("byte %d: damage that was dealt with is reported again: %v", at, j.Damage())
		}
	}
}

func TestMissingRecords(t *testing.T) {
	dir := t.TempDir()
	for b := range 3 {
		j := open(t, dir, fmt.Sprintf("b%d", b), Options{})
		add(t, j, fact("a", eventlog.TypeSessionUp, b), fact("a", eventlog.TypeSessionUp, 10+b))
	}
	files := segments(t, dir)
	// A line taken out, with the newline: every hash still fits its line.
	hurt := copyDir(t, dir)
	content, err := os.ReadFile(files[1])
	if err != nil {
		t.Fatal(err)
	}
	cutLine := content[bytes.IndexByte(content, '\n')+1:]
	if err := os.WriteFile(filepath.Join(hurt, filepath.Base(files[1])), cutLine, 0o600); err != nil {
		t.Fatal(err)
	}
	j := open(t, hurt, "b9", Options{})
	if got := places(pending(t, j)); got != "b0/1 b0/2 b1/2 b2/1 b2/2" || len(j.Damage()) != 1 {
		t.Errorf("%s wait, damage %v; want one place", got, j.Damage())
	}
	// A whole segment.
	hurt = copyDir(t, dir)
	if err := os.Remove(filepath.Join(hurt, filepath.Base(files[1]))); err != nil {
		t.Fatal(err)
	}
	j = open(t, hurt, "b9", Options{})
	if got := places(pending(t, j)); got != "b0/1 b0/2 b2/1 b2/2" || len(j.Damage()) != 1 {
		t.Errorf("%s wait, damage %v; want one place", got, j.Damage())
	}
	// The cursor: all is copied again, which adds nothing.
	hurt = copyDir(t, dir)
	if err := os.WriteFile(filepath.Join(hurt, cursorFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	j = open(t, hurt, "b9", Options{})
	if got := j.Len(); got != 6 || len(j.Damage()) != 1 {
		t.Errorf("%d wait, damage %v; want all and one place", got, j.Damage())
	}
	// Strangers in the directory are left alone.
	for _, name := range []string{"notes.txt", "1.journal", "zz.journal", "000000000000000g.journal"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if j = open(t, dir, "b9", Options{}); j.Len() != 6 || len(j.Damage()) != 0 {
		t.Errorf("%d wait, damage %v", j.Len(), j.Damage())
	}
}

// count is how many observations facts stand for.
func count(ds []eventlog.Draft) int {
	n := 0
	for _, d := range ds {
		n += repeats(d).Count
	}
	return n
}

func TestCoalesce(t *testing.T) {
	const bound = 40
	dir := t.TempDir()
	j := open(t, dir, "b1", Options{Pending: bound})
	orphan := fact("log", eventlog.TypeLogOrphaned, 0)
	add(t, j, orphan, fact("agent", eventlog.TypeAgentStarted, 1))
	total := 2
	for i := range 500 {
		typ := []eventlog.Type{eventlog.TypeSessionDown, eventlog.TypeSessionUp}[i%2]
		add(t, j, fact("session/"+strconv.Itoa(i%6/2), typ, 10+i))
		total++
		if j.Len() > bound+1 {
			t.Fatalf("%d wait, more than %d, after %d", j.Len(), bound, total)
		}
		if got := count(pending(t, j)); got != total {
			t.Fatalf("what waits stands for %d facts, want %d", got, total)
		}
	}
	j = open(t, dir, "b2", Options{Pending: bound})
	ds := pending(t, j)
	if got := count(ds); got != total || len(j.Damage()) != 0 {
		t.Fatalf("on disk what waits stands for %d facts, want %d; damage %v", got, total, j.Damage())
	}
	if len(segments(t, dir)) != 1 {
		t.Errorf("coalescing left %v", segments(t, dir))
	}
	if ds[0].Type != eventlog.TypeLogOrphaned || ds[0].Repeats != nil || ds[1].Type != eventlog.TypeAgentStarted || ds[1].Repeats != nil {
		t.Errorf("facts that do not flap were coalesced: %+v", ds[:2])
	}
	for i, d := range ds {
		if i > 0 && d.Origin.N <= ds[i-1].Origin.N {
			t.Errorf("%s is out of order", places(ds))
		}
		if d.Key != fmt.Sprintf("fact/node-a/b1/%d", d.Origin.N) {
			t.Errorf("%s has key %s", places(ds[i:i+1]), d.Key)
		}
		if r := d.Repeats; r != nil && (r.Count < 2 || !r.First.Before(r.Last) || !r.Last.Equal(d.ObservedAt)) {
			t.Errorf("%s repeats %+v and was observed %v", places(ds[i:i+1]), r, d.ObservedAt)
		}
	}
	// The last of each stream and type is what the last fact said.
	if last := ds[len(ds)-1]; string(last.Data) != "509" {
		t.Errorf("the last fact is %s, want 509", last.Data)
	}

	// Facts of one kind that do not flap are coalesced when there is no other way.
	j = open(t, t.TempDir(), "b1", Options{Pending: bound})
	for i := range 200 {
		add(t, j, fact("cmd", eventlog.TypeCommandRejected, i))
	}
	if ds := pending(t, j); len(ds) > bound+1 || count(ds) != 200 {
		t.Errorf("%d wait for %d, want at most %d for 200", len(ds), count(ds), bound)
	}
	// What must not be coalesced is refused in the end, loudly.
	j = open(t, t.TempDir(), "b1", Options{Pending: bound})
	var err error
	taken := 0
	for ; err == nil; taken++ {
		err = j.Append(t.Context(), fact("log", eventlog.TypeLogOrphaned, taken))
	}
	if taken--; !errors.Is(err, ErrFull) || taken != 2*bound || j.Len() != taken {
		t.Errorf("after %d of them: %v, %d wait; want ErrFull after %d", taken, err, j.Len(), 2*bound)
	}
	mark(t, j, "b1", 1)
	add(t, j, fact("log", eventlog.TypeLogOrphaned, taken))
}

// A crash may leave coalescing half done: either all old segments, or the new
// one beside them.
func TestCrashWhileCoalescing(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, "b1", Options{Pending: 16})
	for i := range 16 {
		add(t, j, fact("s", eventlog.TypeSessionUp, i))
	}
	before := copyDir(t, dir)
	add(t, j, fact("s", eventlog.TypeSessionUp, 16)) // coalesces
	after := segments(t, dir)
	if len(after) != 1 || j.Len() >= 16 {
		t.Fatalf("it did not coalesce: %d wait in %v", j.Len(), after)
	}
	content, err := os.ReadFile(after[0])
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(before, filepath.Base(after[0]))
	// Torn while it was written, under its temporary name.
	torn := copyDir(t, before)
	if err := os.WriteFile(filepath.Join(torn, filepath.Base(name)+".tmp"), content[:len(content)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if j := open(t, torn, "b2", Options{}); j.Len() != 16 || count(pending(t, j)) != 16 || len(j.Damage()) != 0 {
		t.Errorf("torn: %d wait, damage %v", j.Len(), j.Damage())
	}
	// Whole, and the old ones not deleted yet.
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	j = open(t, before, "b2", Options{})
	if got := count(pending(t, j)); got != 17 || j.Len() >= 16 || len(j.Damage()) != 0 {
		t.Errorf("both: %d wait for %d, damage %v; want 17 coalesced", j.Len(), got, j.Damage())
	}
	if got := segments(t, before); len(got) != 1 {
		t.Errorf("the superseded segments are left: %v", got)
	}
}

// A sync that failed and yet had written: the records stand twice.
func TestRecordsWrittenTwice(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, "b1", Options{})
	add(t, j, fact("s", eventlog.TypeSessionUp, 1))
	content, err := os.ReadFile(segments(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, segmentName(2)), content, 0o600); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir, "b2", Options{})
	if got := places(pending(t, j)); got != "b1/1" || len(j.Damage()) != 0 {
		t.Errorf("%s wait, damage %v; want it once", got, j.Damage())
	}
}

func TestSegmentsRotate(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, "b1", Options{})
	big := fact("s", eventlog.TypeDrillEnded, 1)
	big.Data = []byte(`"` + strings.Repeat("x", segmentBytes/2) + `"`)
	for range 6 {
		add(t, j, big)
	}
	if got := len(segments(t, dir)); got != 3 {
		t.Errorf("%d segments, want 3", got)
	}
	mark(t, j, "b1", 2)
	if got := len(segments(t, dir)); got != 2 {
		t.Errorf("%d segments after the first was copied, want 2", got)
	}
	j = open(t, dir, "b2", Options{})
	if got := places(pending(t, j)); got != "b1/3 b1/4 b1/5 b1/6" || len(j.Damage()) != 0 {
		t.Errorf("%s wait, damage %v", got, j.Damage())
	}
}

// On a full disk facts are held, shown, and written as soon as that works; the
// caller may repeat itself.
func TestDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a tmpfs")
	}
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=128k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	dir := filepath.Join(disk, "journal")
	j := open(t, dir, "b1", Options{})
	add(t, j, fact("s", eventlog.TypeSessionUp, 0))
	ballast := filepath.Join(disk, "ballast")
	fill := func() {
		f, err := os.OpenFile(ballast, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		for err == nil {
			_, err = f.Write(make([]byte, 1024))
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		f.Close()
	}
	fill()
	// What is left of the last block may still take some.
	n := 1
	var err error
	for ; err == nil; n++ {
		err = j.Append(t.Context(), fact("s", eventlog.TypeSessionUp, n))
	}
	if !errors.Is(err, ErrNotWritten) || !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("append: %v, want ErrNotWritten for lack of space in %s", err, dir)
	}
	for range 3 { // the caller tries again with the same fact
		if err := j.Append(t.Context(), fact("s", eventlog.TypeSessionUp, n-1)); !errors.Is(err, ErrNotWritten) {
			t.Fatalf("again: %v, want ErrNotWritten", err)
		}
	}
	if got := len(pending(t, j)); got != n {
		t.Errorf("%d facts wait, want %d: the last is held once", got, n)
	}
	// The most that is held.
	for len(pending(t, j)) < n-1+MaxHeld {
		if err := j.Append(t.Context(), fact("s", eventlog.TypeSessionUp, j.Len())); !errors.Is(err, ErrNotWritten) {
			t.Fatalf("held: %v, want ErrNotWritten", err)
		}
	}
	if err := j.Append(t.Context(), fact("s", eventlog.TypeSessionUp, 5000)); !errors.Is(err, ErrFull) {
		t.Errorf("more than may be held: %v, want ErrFull", err)
	}
	if got := len(segments(t, dir)); got > 2 {
		t.Errorf("attempts left %d segments", got)
	}
	// Held facts can be copied all the same. Space comes back with them.
	wait := pending(t, j)
	half := wait[len(wait)/2]
	if err := j.MarkCopied(t.Context(), *half.Origin); err != nil && !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if got := len(pending(t, j)); got != len(wait)-len(wait)/2-1 {
		t.Errorf("%d wait after half was copied, want %d", got, len(wait)-len(wait)/2-1)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT, "size=4m"); err != nil {
		t.Fatal(err)
	}
	add(t, j, fact("s", eventlog.TypeSessionUp, 6000))
	want := places(pending(t, j))
	again := open(t, dir, "b2", Options{})
	if got := places(pending(t, again)); got != want || len(again.Damage()) != 0 {
		t.Errorf("on disk wait %.60s…, in memory %.60s…; damage %v", got, want, again.Damage())
	}
}

// A node is killed while it writes. What it acknowledged is there.
func TestKilled(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	want := 0
	for boot := range 5 {
		cmd := exec.Command(exe, "write", dir, fmt.Sprintf("b%d", boot))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acknowledged, enough := 0, 60+rand.IntN(120)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			n, err := strconv.Atoi(lines.Text())
			if err != nil {
				break // torn by the kill
			}
			if acknowledged = n; n == enough {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait() // killed
		if acknowledged < enough {
			t.Fatalf("boot %d acknowledged %d, want at least %d", boot, acknowledged, enough)
		}
		want += acknowledged
		j, err := Open(dir, "node-a", "look", Options{})
		if err != nil {
			t.Fatal(err)
		}
		// Between the write and its acknowledgement one fact may be there and
		// not be counted, at each kill.
		if got := count(pending(t, j)); got < want || got > want+1 || len(j.Damage()) != 0 {
			t.Fatalf("boot %d: on disk %d facts, %d acknowledged; damage %v", boot, got, want, j.Damage())
		} else {
			want = got
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever happens in whatever order: every fact is either copied or waits, as
// itself or in another's count.
func TestNothingIsLostProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "j")
		if err != nil {
			rt.Fatal(err)
		}
		boot, taken, copied := 0, 0, 0
		open := func() *Journal {
			boot++
			j, err := Open(dir, "node-a", strconv.Itoa(boot), Options{Pending: 16})
			if err != nil {
				rt.Fatal(err)
			}
			if len(j.Damage()) > 0 {
				rt.Fatal(j.Damage())
			}
			return j
		}
		j := open()
		check := func() {
			ds, err := j.Pending(1000)
			if err != nil {
				rt.Fatal(err)
			}
			if got := count(ds); got+copied != taken {
				rt.Fatalf("%d wait and %d were copied, of %d", got, copied, taken)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) { check() },
			"append": func(rt *rapid.T) {
				var ds []eventlog.Draft
				for range rapid.IntRange(1, 5).Draw(rt, "facts") {
					taken++
					typ := rapid.SampledFrom([]eventlog.Type{eventlog.TypeSessionUp, eventlog.TypeSessionDown, eventlog.TypeAgentStarted}).Draw(rt, "type")
					ds = append(ds, fact(rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "stream"), typ, taken))
				}
				if err := j.Append(t.Context(), ds...); err != nil {
					rt.Fatal(err)
				}
			},
			"copy": func(rt *rapid.T) {
				ds, err := j.Pending(rapid.IntRange(1, 20).Draw(rt, "page"))
				if err != nil {
					rt.Fatal(err)
				}
				if len(ds) == 0 {
					return
				}
				copied += count(ds)
				if err := j.MarkCopied(t.Context(), *ds[len(ds)-1].Origin); err != nil {
					rt.Fatal(err)
				}
			},
			"reboot": func(rt *rapid.T) {
				if rapid.Bool().Draw(rt, "cleanly") {
					if err := j.Close(); err != nil {
						rt.Fatal(err)
					}
				} else {
					j.active.Close() // the process is gone
				}
				j = open()
			},
		})
		j.Close()
	})
}

func FuzzScan(f *testing.F) {
	var good []byte
	tail := ""
	for i := range 3 {
		d := fact("s", "t", i)
		d.Origin = &eventlog.Origin{Node: "n", Boot: "b", N: uint64(i + 1)}
		line, hash, err := record{Prev: tail, Fact: &d}.encode()
		if err != nil {
			f.Fatal(err)
		}
		good, tail = append(good, line...), hash
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(append([]byte("junk\n"), good...))
	f.Add([]byte("\n\n\n"))
	f.Add([]byte(`{"prev":"","base":true}` + "\n" + `{"fact":{"origin":{"boot":"b","n":1}}}` + "\n{}\n{\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		// Let the fuzzer get past the hash: a line that begins with { gets its own.
		lines := bytes.SplitAfter(b, []byte("\n"))
		for i, line := range lines {
			if bytes.HasPrefix(line, []byte("{")) {
				sum := sha256.Sum256(bytes.TrimSuffix(line, []byte("\n")))
				lines[i] = append([]byte(hex.EncodeToString(sum[:])+" "), line...)
			}
		}
		b = bytes.Join(lines, nil)
		s := scanSegment(b)
		if s.whole < 0 || s.whole > int64(len(b)) || s.whole > 0 && b[s.whole-1] != '\n' {
			t.Fatalf("the whole part ends at %d of %d", s.whole, len(b))
		}
		again := scanSegment(b[:s.whole])
		if len(again.records) != len(s.records) || again.whole != s.whole || len(again.bad) != len(s.bad) {
			t.Fatalf("cut, it holds %d records and %d bad places; before %d and %d", len(again.records), len(again.bad), len(s.records), len(s.bad))
		}
		n := bytes.Count(b[:s.whole], []byte("\n"))
		if len(s.records) > n || (len(s.bad) == 0) != (len(s.records) == n) {
			t.Fatalf("%d records and %d bad places in %d lines", len(s.records), len(s.bad), n)
		}
		for i, r := range s.records {
			if i > 0 && r.offset <= s.records[i-1].offset || !r.Base && r.Fact.Origin.N == 0 {
				t.Fatalf("record %d at %d: %+v", i, r.offset, r)
			}
		}
		// Good records survive whatever stands before them.
		more := scanSegment(slices.Concat(b[:s.whole], good))
		if len(more.records) != len(s.records)+3 {
			t.Fatalf("%d records with 3 more, %d before", len(more.records), len(s.records))
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	j := open(b, b.TempDir(), "b", Options{})
	for i := 0; b.Loop(); i++ {
		add(b, j, fact("s", eventlog.TypeSessionUp, i))
	}
}
