package journal

import (
	"errors"
	"os"
)

// load reads everything that waits, and repairs what a crash left.
func (j *Journal) load() error {
	c, err := readCursor(j.dir)
	var damaged *DamageError
	switch {
	case errors.As(err, &damaged):
		// Without it everything here is copied once more, which adds nothing.
		j.report(damaged)
	case err != nil:
		return err
	}
	j.cursor, j.tail = c, c.Tail
	if c.Boot == j.boot {
		j.n = c.N
	}
	files, highest, err := listSegments(j.dir)
	if err != nil {
		return err
	}
	j.maxIndex = highest
	l := loader{j: j}
	for _, f := range files {
		if err := l.segment(f); err != nil {
			return err
		}
	}
	j.pending = j.pending[j.upTo(originOf(c)):]
	j.discard()
	return nil
}

// loader reads segments one after the other.
type loader struct {
	j       *Journal
	boot    string // of the last record
	n       uint64 // of the last record
	started bool   // a record was read: the first is taken as it comes
}

func (l *loader) segment(f file) error {
	path := l.j.path(segmentName(f.index))
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	s := scanSegment(b)
	if torn := int64(len(b)) - s.whole; torn > 0 {
		l.j.log.Warn("a crash tore the end of the journal; it is cut off", "event", "journal.repair", "reason", "torn record", "file", path, "bytes", torn)
		// Nothing is ever added to it, so it may also stay.
		if err := cut(path, s.whole); err != nil {
			l.j.log.Warn("the torn end could not be cut off", "event", "journal.repair", "reason", err, "file", path)
		}
	}
	if len(s.records) > 0 && s.records[0].Base {
		// It stands for all before it: an interrupted coalescing is finished.
		l.j.pending, l.boot, l.n, l.started = nil, "", 0, false
		for _, old := range l.j.files {
			if err := l.j.drop(old); err != nil {
				l.j.log.Warn("a superseded segment could not be deleted", "event", "journal.repair", "reason", err)
			}
		}
		l.j.files = nil
	}
	for _, bad := range s.bad {
		f.damaged = true
		l.j.report(&DamageError{File: path, Offset: bad.offset, Why: bad.why})
	}
	for _, r := range s.records {
		if !l.record(f, r, path, len(s.bad) > 0) {
			f.damaged = true
		}
	}
	l.j.files = append(l.j.files, f)
	return nil
}

// record takes one record over. It returns false if something is missing before
// it; a file with bad places was reported for that already.
func (l *loader) record(f file, r record, path string, reported bool) bool {
	j := l.j
	fits := !l.started || r.Prev == j.tail
	j.tail, l.started = r.hash, true
	if r.Base {
		return true
	}
	o := *r.Fact.Origin
	if o.Boot == j.boot {
		j.n = max(j.n, o.N)
	}
	if o.Boot == l.boot && o.N <= l.n {
		// Written again after an fsync that failed and yet had written.
		return true
	}
	l.boot, l.n = o.Boot, o.N
	j.pending = append(j.pending, item{fact: *r.Fact, file: f.index})
	if !fits && !reported {
		j.report(&DamageError{File: path, Offset: r.offset, Why: errors.New("records are missing before it")})
	}
	return fits
}

func (j *Journal) report(e *DamageError) {
	j.damage = append(j.damage, e)
	j.log.Error("the journal is damaged", "event", "journal.damage", "reason", e.Why, "file", e.File, "offset", e.Offset)
}

// cut shortens a file, durably.
func cut(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Sync(), f.Close())
}
