package etcdnode

import (
	"errors"
	"fmt"
	"slices"

	"dyad/eventlog"
)

// Orphans is what a store that was put aside holds and the survivor's log does
// not.
type Orphans struct {
	// Common is the last event that both hold; Seq 0: none.
	Common eventlog.Head
	// Events follow it in the archived store, in order and chained. Some may
	// never have been acknowledged to anybody.
	Events []eventlog.Envelope
	// Committed is the last event that the archived store knew to be committed;
	// those behind it were in doubt when it stopped.
	Committed eventlog.Seq
}

// held is an event as an archived store holds it.
type held struct {
	seq  eventlog.Seq
	raw  []byte
	hash string // as it stands in raw; not checked yet
}

// history walks an archived log from its end towards its beginning. ok is false
// before the first event it holds.
type history func() (e held, ok bool, err error)

// ReadOrphans finds where the log in the archived store in dir leaves the
// survivor's, and returns what it holds from there on: applied, committed or
// only written, also if the end of its write-ahead log is torn. It changes
// nothing in dir. prefix is that of the log's keys (etcdlog.DefaultPrefix).
//
// known tells the hash of an event of the survivor's log; ok is false behind its
// end. It must know every event, sealed ones too, and is asked only about as
// often as the number of orphans has binary digits.
//
// Errors: ErrNoStore; ErrDamaged and eventlog.ErrCorrupt if the archive can't be
// read further, eventlog.ErrGap if the archive holds nothing as old as the
// common event, and known's. With the last three Events hold what could be
// verified.
func ReadOrphans(dir, prefix string, known func(eventlog.Seq) (hash string, ok bool, err error)) (Orphans, error) {
	a, err := openArchive(dir, prefix)
	if err != nil {
		return Orphans{}, fmt.Errorf("read the orphans: %w", err)
	}
	events, common, walkErr := diverged(a.newestFirst(), known)
	out := Orphans{Common: common, Committed: a.committed}
	head := common
	for i, h := range events {
		e, err := eventlog.Decode(h.raw)
		if err == nil && (i > 0 || common.Seq > 0 || h.seq == 1) {
			err = eventlog.Verify(head, e)
		}
		if err != nil {
			walkErr = errors.Join(walkErr, err)
			break
		}
		out.Events, head = append(out.Events, e), eventlog.HeadOf(e)
	}
	out.Committed = min(out.Committed, head.Seq)
	if err := errors.Join(walkErr, a.damage, a.close()); err != nil {
		return out, fmt.Errorf("read the orphans in %s: %w", dir, err)
	}
	return out, nil
}

// diverged walks back until an event that the survivor has too, and returns the
// events after it, oldest first, and it.
//
// Two chained logs that agree in one event agree in all before it. So it is
// enough to ask about the newest, the 2nd, the 4th, the 8th, … and to search in
// the last stretch.
func diverged(next history, known func(eventlog.Seq) (string, bool, error)) ([]held, eventlog.Head, error) {
	var all []held // newest first
	var asked error
	shared := func(h held) bool {
		hash, ok, err := known(h.seq)
		asked = errors.Join(asked, err)
		return err == nil && ok && hash == h.hash
	}
	for ask := 1; asked == nil; {
		h, ok, err := next()
		if err != nil {
			return nil, eventlog.Head{}, err
		}
		if !ok {
			break
		}
		if all = append(all, h); len(all) < ask {
			continue
		}
		if shared(h) {
			break
		}
		ask *= 2
	}
	// The first shared one, in a slice that is: not shared …, shared ….
	lo, hi := 0, len(all)
	for lo < hi && asked == nil {
		if mid := (lo + hi) / 2; shared(all[mid]) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	if asked != nil {
		return nil, eventlog.Head{}, asked
	}
	orphans := slices.Clone(all[:lo])
	slices.Reverse(orphans)
	if lo < len(all) {
		e, err := eventlog.Decode(all[lo].raw)
		if err != nil {
			return nil, eventlog.Head{}, err
		}
		return orphans, eventlog.HeadOf(e), nil
	}
	if len(orphans) > 0 && orphans[0].seq > 1 {
		return orphans, eventlog.Head{}, fmt.Errorf("%w: the archive begins with event %d, after the last one that both logs share",
			eventlog.ErrGap, orphans[0].seq)
	}
	return orphans, eventlog.Head{}, nil
}
