package eventlog

import (
	"fmt"
	"time"
)

// Base is the part of a log that an append depends on. A [Log] reads it, seals
// the batch behind it, and writes the result only if the base still stands.
type Base struct {
	// Head is the end of the log; Head.Epoch is the epoch the log is at.
	Head Head
	// Streams are the revisions of the streams in the batch (drafts and
	// expectations); a missing stream has none.
	Streams map[string]uint64
	// Keys are those idempotency keys of the batch that stand in the log, each
	// with the last event that carries it.
	Keys map[string]Seq
}

// SealBatch checks b against at and seals its drafts in order. It is the one
// definition of what an append does, for every [Log]. now is the time of
// recording.
//
// A key that stands in the log comes first: a batch repeated after an unknown
// outcome is a duplicate even if the head and the epoch moved on since. Errors:
// ErrTooLarge, *DuplicateError, ErrEpoch, ErrConflict, and ErrCorrupt for a
// draft whose payload or raw JSON can't be read.
func SealBatch(at Base, now time.Time, b Batch) ([]Envelope, error) {
	if err := admit(at, b); err != nil {
		return nil, err
	}
	var (
		out   = make([]Envelope, 0, len(b.Drafts))
		head  = at.Head
		revs  = make(map[string]uint64, len(b.Drafts))
		bytes int
	)
	for _, d := range b.Drafts {
		epoch, err := EpochAfter(head.Epoch, d)
		if err != nil {
			return nil, err
		}
		rev, ok := revs[d.Stream]
		if !ok {
			rev = at.Streams[d.Stream]
		}
		e, err := Seal(head, epoch, rev+1, now, d)
		if err != nil {
			return nil, err
		}
		if bytes += len(e.stored); bytes > MaxBatchBytes {
			return nil, fmt.Errorf("%w: %d events take more than %d bytes", ErrTooLarge, len(b.Drafts), MaxBatchBytes)
		}
		revs[d.Stream], head = rev+1, HeadOf(e)
		out = append(out, e)
	}
	return out, nil
}

// admit checks everything about b that needs no sealing.
func admit(at Base, b Batch) error {
	if len(b.Drafts) > MaxBatch {
		return fmt.Errorf("%w: %d events, at most %d", ErrTooLarge, len(b.Drafts), MaxBatch)
	}
	for _, d := range b.Drafts {
		if seq, ok := at.Keys[d.Key]; ok && d.Key != "" {
			return &DuplicateError{Key: d.Key, Seq: seq}
		}
	}
	if b.Epoch != at.Head.Epoch {
		return fmt.Errorf("%w: decided at epoch %d, the log is at %d", ErrEpoch, b.Epoch, at.Head.Epoch)
	}
	if b.ExpectedHead != nil && *b.ExpectedHead != at.Head.Seq {
		return fmt.Errorf("%w: decided at event %d, the log ends with %d", ErrConflict, *b.ExpectedHead, at.Head.Seq)
	}
	if b.ExpectedHash != "" && b.ExpectedHash != at.Head.Hash {
		return fmt.Errorf("%w: decided behind another event %d than the log ends with", ErrConflict, at.Head.Seq)
	}
	for stream, want := range b.ExpectedStreams {
		if got := at.Streams[stream]; got != want {
			return fmt.Errorf("%w: %s expected at revision %d, is at %d", ErrConflict, stream, want, got)
		}
	}
	return nil
}

// VerifyRun checks that run follows head event by event, and returns the head
// after it.
func VerifyRun(head Head, run []Envelope) (Head, error) {
	for _, e := range run {
		if err := Verify(head, e); err != nil {
			return head, err
		}
		head = HeadOf(e)
	}
	return head, nil
}
