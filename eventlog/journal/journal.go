// Package journal keeps the facts of one node until they stand in the log.
//
// A two-node log can't be written while one node is dead, which is just when
// facts happen. So a fact is first written here, to this node's own disk, and is
// copied into the log when that can be written. Merging is a union by
// (node, boot, n): the idempotency key of a fact is fact/<node>/<boot>/<n>, so
// copying twice adds nothing.
//
// On disk a journal is a directory of segments. A segment is a text file of one
// record for each line: the SHA-256 of the rest in hex, a space, and JSON with
// the fact and the hash of the record before it. An append is durable when it
// returns. A record that a crash tore is cut off when the journal is opened. A
// damaged record in the middle is reported ([Journal.Damage]), the rest is kept,
// and the file stays for inspection.
//
// Facts are never dropped in silence. When more than MaxPending wait, those that
// flap are coalesced: the last of each stream and type stays and carries a count
// and the times of the first and the last ([eventlog.Repeats]).
package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"dyad/eventlog"
)

// Bounds of a journal.
const (
	// MaxPending is how many facts may wait before flaps are coalesced. At twice
	// as many that could not be coalesced, or not be rewritten, Append refuses.
	MaxPending = 4096
	// MaxHeld is how many facts are kept in memory while the disk can't be
	// written.
	MaxHeld = 1024
	// segmentBytes is the size from which a new segment is begun. Copied
	// segments are deleted whole.
	segmentBytes = 1 << 20
)

// Errors of Append. Test with errors.Is.
var (
	// ErrNotWritten: the disk can't be written. The facts are kept in memory,
	// show in Pending, and are written with the next append that can.
	ErrNotWritten = errors.New("the journal can't be written")
	// ErrFull: the facts were not taken; as many wait as may.
	ErrFull = errors.New("the journal is full")
	// ErrClosed: the journal was closed.
	ErrClosed = errors.New("the journal is closed")
)

// Options change what Open builds. The zero value is fine.
type Options struct {
	// Logger hears about repairs, damage and coalescing; default: nobody.
	Logger *slog.Logger
	// Clock stamps facts that carry no time of observation; default time.Now.
	Clock func() time.Time
	// Pending replaces MaxPending, at least 8.
	Pending int
}

// Journal is a node's journal, open for one boot. Its methods may be called by
// several goroutines.
type Journal struct {
	dir, node, boot string
	max             int
	clock           func() time.Time
	log             *slog.Logger

	mu sync.Mutex
	// pending are the facts that wait, oldest first.
	//
	// Invariant: of one boot n only rises, and a boot's facts follow each other.
	pending []item
	held    int    // the last so many of pending are not on disk
	n       uint64 // the last n given to a fact of this boot
	tail    string // the hash of the last record on disk
	cursor  cursor
	stale   bool // the cursor on disk is older than ours

	files    []file // on disk, oldest first; the last is active's, if there is one
	active   *os.File
	size     int64 // of active: all of it durable
	tidyAt   int   // how many must wait before coalescing is tried again
	damage   []error
	closed   bool
	maxIndex uint64
}

// item is a fact that waits.
type item struct {
	fact eventlog.Draft
	file uint64 // index of the segment it lies in; 0 if held
}

// Open opens the journal in dir for a run of the node's agent. boot must be new
// for each run: facts of another run with the same boot could take each other's
// place. Facts of earlier boots that were not copied yet wait first.
//
// Damage on disk is no error: an agent must start. See [Journal.Damage].
func Open(dir, node, boot string, opts Options) (*Journal, error) {
	if node == "" || boot == "" {
		return nil, errors.New("open the journal: node and boot must be given")
	}
	j := &Journal{dir: dir, node: node, boot: boot, max: MaxPending, clock: opts.Clock, log: opts.Logger}
	if j.clock == nil {
		j.clock = time.Now
	}
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
	}
	if opts.Pending > 0 {
		j.max = max(8, opts.Pending)
	}
	j.tidyAt = j.max
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the journal: %w; try: make %s writable", err, dir)
	}
	if err := j.load(); err != nil {
		return nil, fmt.Errorf("open the journal in %s: %w", dir, err)
	}
	return j, nil
}

// Append gives each draft its origin and key, writes them with one fsync, and
// returns when they are durable. A draft without a time of observation gets the
// time of now.
//
// Errors: ErrNotWritten (the drafts are held in memory: appending them again is
// how to try again, and takes a draft with the same ID only once), ErrFull and
// ErrClosed (none was taken), one for a draft that is not valid JSON (none was
// taken), and ctx's if it ended before anything was done.
func (j *Journal) Append(ctx context.Context, drafts ...eventlog.Draft) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return ErrClosed
	}
	drafts = j.unheld(drafts)
	if j.held+len(drafts) > MaxHeld && j.held > 0 {
		// Make room first, or refuse these and keep what is held.
		if err := j.flush(); err != nil {
			return fmt.Errorf("%w: %d facts wait for the disk: %w", ErrFull, j.held, err)
		}
	}
	if len(j.pending)+len(drafts) > 2*j.max {
		return fmt.Errorf("%w: %d facts wait to be copied into the log; try: dyad status, and make the log writable again",
			ErrFull, len(j.pending))
	}
	items, err := j.place(drafts)
	if err != nil {
		return err
	}
	j.pending = append(j.pending, items...)
	j.held += len(items)
	j.n += uint64(len(items))
	if err := j.flush(); err != nil {
		return err
	}
	j.tidy()
	return nil
}

// place gives drafts the next places in the journal. One that can't be encoded
// is refused here, with all others: held, it would block the journal for ever.
func (j *Journal) place(drafts []eventlog.Draft) ([]item, error) {
	items := make([]item, len(drafts))
	for i, d := range drafts {
		n := j.n + uint64(i) + 1
		d.Origin = &eventlog.Origin{Node: j.node, Boot: j.boot, N: n}
		d.Key = fmt.Sprintf("fact/%s/%s/%d", j.node, j.boot, n)
		if d.ObservedAt.IsZero() {
			d.ObservedAt = j.clock()
		}
		d.ObservedAt = d.ObservedAt.UTC().Round(0)
		if _, _, err := (record{Fact: &d}).encode(); err != nil {
			return nil, err
		}
		items[i] = item{fact: d}
	}
	return items, nil
}

// unheld leaves out the drafts that are held already.
func (j *Journal) unheld(drafts []eventlog.Draft) []eventlog.Draft {
	ids := map[string]bool{}
	for _, it := range j.pending[len(j.pending)-j.held:] {
		ids[it.fact.ID] = it.fact.ID != ""
	}
	return slices.DeleteFunc(slices.Clone(drafts), func(d eventlog.Draft) bool { return ids[d.ID] })
}

// Pending returns up to limit facts that wait, oldest first, of all boots.
func (j *Journal) Pending(limit int) ([]eventlog.Draft, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, ErrClosed
	}
	var out []eventlog.Draft
	for _, it := range j.pending[:max(0, min(limit, len(j.pending)))] {
		d := it.fact
		o := *d.Origin
		d.Origin = &o
		out = append(out, d)
	}
	return out, nil
}

// MarkCopied says that every fact up to and with last stands in the log. They
// are forgotten, and segments that hold nothing else are deleted. An error means
// that this is not durable yet: after a crash they would be copied again, which
// adds nothing. The next call makes up for it.
func (j *Journal) MarkCopied(ctx context.Context, last eventlog.Origin) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return ErrClosed
	}
	n := j.upTo(last)
	if n == 0 && !j.stale {
		return nil
	}
	if n > 0 {
		j.cursor = cursor{Version: cursorVersion, Boot: last.Boot, N: last.N, Tail: j.tail}
		j.stale = true
	}
	j.pending = slices.Delete(j.pending, 0, n)
	j.held = min(j.held, len(j.pending))
	j.tidyAt = j.max
	j.discard()
	if err := writeCursor(j.dir, j.cursor); err != nil {
		return fmt.Errorf("remember what was copied into the log: %w; try: free some space in %s", err, j.dir)
	}
	j.stale = false
	return nil
}

// upTo counts the pending facts up to and with last.
func (j *Journal) upTo(last eventlog.Origin) int {
	n := 0
	for i, it := range j.pending {
		if o := it.fact.Origin; o.Boot == last.Boot && o.N <= last.N {
			n = i + 1
		}
	}
	return n
}

// Len is how many facts wait.
func (j *Journal) Len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.pending)
}

// Damage is what was found broken when the journal was opened: one error for
// each place, each a *DamageError.
func (j *Journal) Damage() []error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.damage)
}

// Close tries once more to write what is held, and closes the journal.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	j.closed = true
	err := j.flush()
	if j.active != nil {
		err = errors.Join(err, j.active.Close())
	}
	return err
}

func (j *Journal) path(name string) string { return filepath.Join(j.dir, name) }
