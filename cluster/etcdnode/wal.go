package etcdnode

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/storage/datadir"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
)

// Errors of what is done to a store that does not run. Test with errors.Is.
var (
	// ErrNoStore: the directory holds no store, or one that never started.
	ErrNoStore = errors.New("there is no store here")
	// ErrNotVoter: by its own log the member has no vote (it is a learner, or
	// was removed), so it need not hold every acknowledged event.
	ErrNotVoter = errors.New("this member of the store has no vote")
	// ErrDamaged: the store's write-ahead log can't be read.
	ErrDamaged = errors.New("the store's write-ahead log is damaged")
)

// walLog is a write-ahead log as it was read: what stands behind its last
// snapshot.
type walLog struct {
	self     uint64
	snapshot *walpb.Snapshot
	state    *raftpb.HardState
	entries  []*raftpb.Entry
}

// readWAL reads the write-ahead log of the store in dir without changing it. A
// torn last record is left out, as etcd would.
func readWAL(dir string) (walLog, error) {
	w, l, err := openWAL(dir, wal.OpenForRead)
	if err != nil {
		return l, err
	}
	// It also closes a directory that it opens only to write, and complains.
	_ = w.Close()
	return l, nil
}

// readWALFrom reads the entries behind index, which may be a running store's.
func readWALFrom(dir string, index uint64) (walLog, error) {
	l := walLog{snapshot: &walpb.Snapshot{Index: &index}}
	w, err := wal.OpenForRead(zap.NewNop(), datadir.ToWALDir(dir), l.snapshot)
	if err != nil {
		return l, damaged(dir, err)
	}
	defer w.Close()
	// There need not be a snapshot at index.
	if err := l.read(w); err != nil && !errors.Is(err, wal.ErrSnapshotNotFound) {
		return l, damaged(dir, err)
	}
	return l, nil
}

// read reads all of w.
func (l *walLog) read(w *wal.WAL) error {
	metadata, state, entries, err := w.ReadAll()
	if err != nil && !errors.Is(err, wal.ErrSnapshotNotFound) {
		return err
	}
	var m etcdserverpb.Metadata
	if merr := proto.Unmarshal(metadata, &m); merr != nil {
		return merr
	}
	l.self, l.state, l.entries = m.GetNodeID(), state, entries
	return err
}

// editWAL reads the write-ahead log of the store in dir, and leaves it open to
// be written. A torn last record is cut off, once.
func editWAL(dir string) (w *wal.WAL, l walLog, repaired bool, err error) {
	w, l, err = openWAL(dir, wal.Open)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		if !wal.Repair(zap.NewNop(), datadir.ToWALDir(dir)) {
			return nil, l, false, fmt.Errorf("%w; it can't be repaired", err)
		}
		repaired = true
		w, l, err = openWAL(dir, wal.Open)
	}
	return w, l, repaired, err
}

type opener func(*zap.Logger, string, *walpb.Snapshot) (*wal.WAL, error)

// openWAL opens and reads it. The caller closes it if there is no error.
func openWAL(dir string, open opener) (*wal.WAL, walLog, error) {
	var l walLog
	path := datadir.ToWALDir(dir)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, l, fmt.Errorf("%w: %s", ErrNoStore, dir)
	}
	snaps, err := wal.ValidSnapshotEntries(zap.NewNop(), path)
	if err != nil {
		return nil, l, damaged(dir, err)
	}
	l.snapshot = &walpb.Snapshot{}
	if len(snaps) > 0 {
		l.snapshot = snaps[len(snaps)-1]
	}
	w, err := open(zap.NewNop(), path, l.snapshot)
	if err != nil {
		return nil, l, damaged(dir, err)
	}
	if err := l.read(w); err != nil {
		return nil, l, errors.Join(damaged(dir, err), w.Close())
	}
	return w, l, nil
}

func damaged(dir string, err error) error {
	return fmt.Errorf("%w: %s: %w; try: let this node join again, the other one has the log", ErrDamaged, dir, err)
}

// last is the index of the last entry.
func (l walLog) last() uint64 {
	if n := len(l.entries); n > 0 {
		return l.entries[n-1].GetIndex()
	}
	return l.snapshot.GetIndex()
}

// commit is the index up to which the log is known to be committed.
func (l walLog) commit() uint64 { return max(l.state.GetCommit(), l.snapshot.GetIndex()) }

// members are the voters and the learners of a store.
type members struct{ voters, learners []uint64 }

// apply makes the change of membership that e is, if it is one.
func (m *members) apply(e *raftpb.Entry) error {
	if e.GetType() != raftpb.EntryConfChange {
		return nil
	}
	var c raftpb.ConfChange
	if err := proto.Unmarshal(e.GetData(), &c); err != nil {
		return fmt.Errorf("entry %d: %w", e.GetIndex(), err)
	}
	id := c.GetNodeId()
	is := func(o uint64) bool { return o == id }
	switch c.GetType() {
	case raftpb.ConfChangeAddNode:
		m.learners = slices.DeleteFunc(m.learners, is)
		if !slices.Contains(m.voters, id) {
			m.voters = append(m.voters, id)
		}
	case raftpb.ConfChangeAddLearnerNode:
		if !slices.Contains(m.learners, id) {
			m.learners = append(m.learners, id)
		}
	case raftpb.ConfChangeRemoveNode:
		m.voters, m.learners = slices.DeleteFunc(m.voters, is), slices.DeleteFunc(m.learners, is)
	}
	return nil
}

// members are those that the log names up to index, inclusive.
func (l walLog) members(index uint64) (members, error) {
	conf := l.snapshot.GetConfState()
	m := members{voters: slices.Clone(conf.GetVoters()), learners: slices.Clone(conf.GetLearners())}
	for _, e := range l.entries {
		if e.GetIndex() > index {
			break
		}
		if err := m.apply(e); err != nil {
			return m, err
		}
	}
	return m, nil
}

// removesSelf tells whether e takes this member out of the store.
func (l walLog) removesSelf(e *raftpb.Entry) bool {
	m := members{voters: []uint64{l.self}}
	return m.apply(e) == nil && len(m.voters) == 0
}
