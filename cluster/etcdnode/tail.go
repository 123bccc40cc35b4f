package etcdnode

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
)

// Tail is the end of a store's write-ahead log, as [KeepTail] found and left it.
// Indexes are raft's, not those of events.
type Tail struct {
	// Self is this member's ID. Voters and Learners are the members by the kept
	// log.
	Self             uint64
	Voters, Learners []uint64
	// Commit is up to where the log was known to be committed, Last is its last
	// entry, and Kept is the last entry that counts as committed now.
	Commit, Last, Kept uint64
	// Repaired: the last record was torn, and is cut off.
	Repaired bool
	// Cut: behind Kept stands an entry that removes this very member. If the
	// other one had it too, it may have gone on alone.
	Cut bool
}

// Changed tells whether anything was done.
func (t Tail) Changed() bool { return t.Repaired || t.Kept > t.Commit }

func (t Tail) String() string {
	s := fmt.Sprintf("committed %d, kept %d of %d", t.Commit, t.Kept, t.Last)
	if t.Repaired {
		s += ", a torn record cut off"
	}
	if t.Cut {
		s += ", behind it this member's removal"
	}
	return s
}

// KeepTail makes everything that the stopped store in dir has on disk count as
// committed. A follower learns that an entry is committed only with the next
// one, so what it acknowledged last looks uncommitted to it; a start as a new
// store of one ([ServeConfig].Force) would drop that, and with it events whose
// writers were told that they stand.
//
// It is sound for a voter of a pair only, while the other voter has not gone on
// without it: then this one holds every acknowledged entry. Entries that were
// never acknowledged stay too; their writers repeat them with the same key. The
// caller answers for the pair; a member without a vote is refused.
//
// It can be repeated, and may be broken off at any point. Errors: ErrNoStore,
// ErrNotVoter, ErrDamaged, and the file system's.
func KeepTail(dir string) (t Tail, err error) {
	w, l, repaired, err := editWAL(dir)
	if err != nil {
		return t, fmt.Errorf("keep the log's tail: %w", err)
	}
	defer func() {
		if cerr := w.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("keep the log's tail: %w", cerr)
		}
	}()
	if t, err = tailOf(l); err != nil {
		return t, fmt.Errorf("keep the log's tail: %s: %w", dir, err)
	}
	t.Repaired = repaired
	if t.Kept <= l.state.GetCommit() {
		return t, nil
	}
	state := proto.CloneOf(l.state)
	state.Commit = &t.Kept
	// Save alone does not sync a state whose commit is all that changed.
	if err := errors.Join(w.Save(state, nil), w.Sync()); err != nil {
		return t, fmt.Errorf("keep the log's tail: %w; try: free some space at %s", err, dir)
	}
	return t, nil
}

// ReadTail is what [KeepTail] would do, without doing it. It may also read a
// store that was archived.
func ReadTail(dir string) (Tail, error) {
	l, err := readWAL(dir)
	if err != nil {
		return Tail{}, fmt.Errorf("read the log's tail: %w", err)
	}
	t, err := tailOf(l)
	if err != nil {
		return t, fmt.Errorf("read the log's tail: %s: %w", dir, err)
	}
	return t, nil
}

// tailOf finds what can be kept of l.
func tailOf(l walLog) (Tail, error) {
	t := Tail{Self: l.self, Commit: l.commit(), Last: l.last()}
	t.Kept = max(t.Commit, t.Last)
	for _, e := range l.entries {
		if e.GetIndex() > t.Commit && l.removesSelf(e) {
			t.Cut, t.Kept = true, e.GetIndex()-1
			break
		}
	}
	m, err := l.members(t.Kept)
	if err != nil {
		return t, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	t.Voters, t.Learners = m.voters, m.learners
	for _, id := range m.voters {
		if id == l.self {
			return t, nil
		}
	}
	return t, fmt.Errorf("%w: member %x is not among the voters %x; try: let this node join again", ErrNotVoter, l.self, m.voters)
}
