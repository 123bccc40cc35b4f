package eventlog

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

// Errors of a [Log]. Test with errors.Is.
var (
	// ErrConflict: the head or a stream was not where the batch expected it.
	ErrConflict = errors.New("the log moved on")
	// ErrEpoch: the set of writers changed since the batch was decided.
	ErrEpoch = errors.New("the epoch changed")
	// ErrDuplicate: the idempotency key stands in the log; see [DuplicateError].
	ErrDuplicate = errors.New("already in the log")
	// ErrUnavailable: the log cannot commit now (no quorum, store down). The
	// append may or may not have happened; repeat it with the same key.
	ErrUnavailable = errors.New("the log cannot be written now")
	// ErrCorrupt: stored bytes do not hash to what they should.
	ErrCorrupt = errors.New("the log is corrupt")
	// ErrGap: an event is missing.
	ErrGap = errors.New("the log has a gap")
	// ErrTooLarge: the batch exceeds MaxBatch or MaxBatchBytes.
	ErrTooLarge = errors.New("the batch is too large")
	// ErrTrimmed: the events asked for left this log, which begins later; see
	// [TrimmedError]. Sealed segments have them.
	ErrTrimmed = errors.New("the log begins later")
	// ErrClosed: the log was closed by its owner.
	ErrClosed = errors.New("the log is closed")
)

// Bounds of one append.
const (
	MaxBatch      = 4096    // events
	MaxBatchBytes = 6 << 20 // bytes of stored form
	// MaxPage bounds what one Read returns and one Follow step delivers.
	MaxPage = 4096
)

// DuplicateError says which key was seen before, and where.
type DuplicateError struct {
	Key string
	Seq Seq // the last event with that key
}

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("idempotency key %s stands in the log at event %d", e.Key, e.Seq)
}

// Is makes errors.Is(err, ErrDuplicate) true.
func (e *DuplicateError) Is(target error) bool { return target == ErrDuplicate }

// TrimmedError says where a log begins.
type TrimmedError struct {
	Floor Head // the last event that is gone
}

func (e *TrimmedError) Error() string {
	return fmt.Sprintf("the log begins with event %d; older ones are in sealed segments", e.Floor.Seq+1)
}

// Is makes errors.Is(err, ErrTrimmed) true.
func (e *TrimmedError) Is(target error) bool { return target == ErrTrimmed }

// Batch is one append. It happens as a whole or not at all.
type Batch struct {
	Drafts []Draft
	// ExpectedHead, if not nil, is the sequence the log must end with.
	ExpectedHead *Seq
	// ExpectedHash, if not empty, is the hash of the event the log must end with:
	// another history may end with the same sequence.
	ExpectedHash string
	// ExpectedStreams are revisions that streams must have (0: none yet).
	ExpectedStreams map[string]uint64
	// Epoch must be the log's epoch. An epoch.started draft raises it: that
	// event, those after it in the batch, and all later batches carry the new
	// one, so the epoch of the last event is always the log's.
	Epoch Epoch
}

// Log is the ordered, hash-chained, append-only sequence of events. All
// methods may be called by several goroutines. The conformance suite in
// eventlog/logtest is the exact contract.
type Log interface {
	// Append adds the batch behind the head and returns the sealed events once
	// they are durable. Errors: ErrConflict, ErrEpoch, *DuplicateError,
	// ErrTooLarge and ErrCorrupt mean that nothing was added; ErrUnavailable
	// and the context's errors leave it open.
	Append(ctx context.Context, b Batch) ([]Envelope, error)

	// Head returns the end of the log as this node knows it, without asking
	// for quorum. An empty log has Seq 0.
	Head(ctx context.Context) (Head, error)

	// Read returns up to limit events (at most MaxPage) after the given
	// sequence, oldest first, as this node knows them.
	Read(ctx context.Context, after Seq, limit int) ([]Envelope, error)

	// Follow delivers every event after the given head, in order, in batches
	// of up to MaxPage, each event verified against the one before it, and then
	// waits for more. It survives disconnects and compactions of the store by
	// itself. One empty step says when the follower has caught up with the head
	// known when it began; where there was nothing to read it is the first.
	//
	// It ends without an error when ctx does. It ends with ErrCorrupt if an
	// event does not follow from after (a changed or another history), with
	// ErrGap if one is missing or the log ends before after, and with ErrClosed.
	Follow(ctx context.Context, after Head) iter.Seq2[[]Envelope, error]
}

// Trimmer is a [Log] whose old events can be dropped, once they are kept
// elsewhere.
//
// After Trim, Read and Follow from before the floor give a *[TrimmedError].
// Stream revisions stay, the idempotency keys of dropped events go. A follower
// that is past the floor does not notice.
type Trimmer interface {
	Log
	// Trim drops the events up to and with upTo, which must be one of the log's
	// (ErrCorrupt, ErrGap). Below the floor it only finishes what an earlier
	// call began. It may be broken off at any point and be called again, from
	// several nodes at once, and beside appends. upTo.Epoch may not be newer
	// than the log's.
	Trim(ctx context.Context, upTo Head) error
	// Floor is the last event that was dropped; the zero Head if none was.
	Floor(ctx context.Context) (Head, error)
}

// EpochAfter is the epoch that stands after d was applied at epoch e.
func EpochAfter(e Epoch, d Draft) (Epoch, error) {
	if d.Type != TypeEpochStarted {
		return e, nil
	}
	p, err := Payload[EpochPayload](d)
	if err != nil {
		return e, err
	}
	if p.Epoch <= e && !(p.Epoch == e && e == 0) {
		return e, fmt.Errorf("%w: epoch.started names %d at epoch %d", ErrEpoch, p.Epoch, e)
	}
	return p.Epoch, nil
}
