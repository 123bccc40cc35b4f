package segment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"dyad/eventlog"
)

// readBytes is about how much one Read returns before it stops short of its
// limit.
const readBytes = 16 << 20

// ErrMissing: an event below the log's floor is in no segment here (yet). It is
// also eventlog.ErrUnavailable.
var ErrMissing = fmt.Errorf("%w: a sealed segment is missing", eventlog.ErrUnavailable)

// find is the entry with an event; nil if none has it.
func (s *Store) find(seq eventlog.Seq) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.list {
		if e.First <= seq && seq <= e.Last || e.damage != nil && e.First == seq {
			return e
		}
	}
	return nil
}

// Read returns up to limit events after the given one, out of one segment.
// Errors: ErrMissing, and *DamageError.
//
// Invariant: no event is returned before every byte of its file was checked
// once, and each is checked again whenever it is read.
func (s *Store) Read(after eventlog.Seq, limit int) ([]eventlog.Envelope, error) {
	e := s.find(after + 1)
	if e == nil {
		return nil, fmt.Errorf("%w: event %d", ErrMissing, after+1)
	}
	index, err := s.verified(e)
	if err != nil {
		return nil, err
	}
	out, err := s.readFrom(e, index, after+1, min(limit, eventlog.MaxPage))
	if err != nil {
		return nil, s.damaged(e, err)
	}
	return out, nil
}

// verified is the index of a file whose every byte was checked; it checks them
// if nobody has.
func (s *Store) verified(e *entry) ([]int64, error) {
	s.mu.Lock()
	index, damage := e.index, e.damage
	s.mu.Unlock()
	if damage != nil || index != nil {
		return index, damage
	}
	return s.check(e)
}

// check reads the whole file, whatever is known of it.
func (s *Store) check(e *entry) ([]int64, error) {
	f, err := os.Open(filepath.Join(s.dir, e.File))
	if err != nil {
		return nil, s.damaged(e, err)
	}
	defer f.Close()
	index := make([]int64, 0, Events/indexEvery)
	h, err := Scan(f, func(ev eventlog.Envelope, offset int64) error {
		if (ev.Seq-e.First)%indexEvery == 0 {
			index = append(index, offset)
		}
		return nil
	})
	if err == nil && h != e.Header {
		err = faultf(1, "the header is another one than at the start")
	}
	if err != nil {
		return nil, s.damaged(e, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.index = index
	return index, nil
}

// damaged notes that a file can't be used.
func (s *Store) damaged(e *entry, why error) error {
	d := &DamageError{File: e.File, First: e.First, Why: why}
	if !errors.Is(why, eventlog.ErrCorrupt) && !errors.Is(why, ErrNewer) {
		d.Why = fmt.Errorf("%w: %w", eventlog.ErrCorrupt, why)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.damage, e.Damage, e.index = d, why.Error(), nil
	s.pulse()
	return d
}

func (s *Store) readFrom(e *entry, index []int64, first eventlog.Seq, limit int) ([]eventlog.Envelope, error) {
	f, err := os.Open(filepath.Join(s.dir, e.File))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	slot := int(first-e.First) / indexEvery
	if _, err := f.Seek(index[slot], io.SeekStart); err != nil {
		return nil, err
	}
	r := newReader(f)
	at := e.First + eventlog.Seq(slot*indexEvery)
	var out []eventlog.Envelope
	for bytes := 0; at <= e.Last && len(out) < limit && bytes < readBytes; at++ {
		b, err := r.next(MaxBytes)
		if err != nil {
			return nil, err
		}
		if at < first {
			continue
		}
		ev, err := eventlog.Decode(b)
		if err != nil {
			return nil, err
		}
		if len(out) > 0 {
			err = eventlog.Verify(eventlog.HeadOf(out[len(out)-1]), ev)
		} else if ev.Seq != at {
			err = fmt.Errorf("%w: event %d stands in the place of %d", eventlog.ErrCorrupt, ev.Seq, at)
		}
		if err != nil {
			return nil, err
		}
		out, bytes = append(out, ev), bytes+len(b)
	}
	return out, nil
}

// File is a segment's bytes, as it stands on disk; every byte was checked.
// Errors: ErrMissing if no segment begins with that event, and *DamageError.
func (s *Store) File(first eventlog.Seq) ([]byte, error) {
	e := s.find(first)
	if e == nil || e.First != first {
		return nil, fmt.Errorf("%w: none begins with event %d", ErrMissing, first)
	}
	if _, err := s.verified(e); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(s.dir, e.File))
	if err == nil {
		_, err = Scan(bytes.NewReader(b), nil)
	}
	if err != nil {
		return nil, s.damaged(e, err)
	}
	return b, nil
}

// Verify checks every byte of every segment again, and that each follows the
// one before it. It calls progress after each segment with the events so far,
// and goes on to the end: the error joins all damage, as *DamageError each, and
// ErrMissing for holes.
func (s *Store) Verify(ctx context.Context, progress func(events int)) (end eventlog.Head, err error) {
	s.mu.Lock()
	list := append([]*entry(nil), s.list...)
	s.mu.Unlock()
	var errs []error
	var at eventlog.Head
	events := 0
	for _, e := range list {
		if err := ctx.Err(); err != nil {
			return at, errors.Join(append(errs, err)...)
		}
		if _, err := s.check(e); err != nil {
			errs = append(errs, err)
		} else if e.Prev.Seq == at.Seq && e.Prev != at {
			errs = append(errs, s.damaged(e, faultf(1, "it does not follow event %d of the segment before it", at.Seq)))
		} else if e.Prev.Seq != at.Seq {
			errs = append(errs, fmt.Errorf("%w: events %d–%d", ErrMissing, at.Seq+1, e.First-1))
		}
		if e.End.Seq > at.Seq {
			at = e.End
		}
		if events += int(e.Last-e.First) + 1; progress != nil {
			progress(events)
		}
	}
	return at, errors.Join(errs...)
}
