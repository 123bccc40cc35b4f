package etcdnode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/storage/datadir"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"dyad/eventlog"
)

// hashDigits is how many hexadecimal digits of hash stand before a stored event
// (see eventlog.Encode).
const hashDigits = 64

// openBound is how long another process may hold the archived database.
const openBound = time.Second

// archive is a store that does not run, open for reading. Its log is what its
// database holds, and behind that what only its write-ahead log does.
type archive struct {
	prefix []byte // of the keys of events
	db     *bbolt.DB
	tx     *bbolt.Tx

	pending   []held // not yet in the database, oldest first
	committed eventlog.Seq
	damage    error // why pending may be incomplete
}

// openArchive reads the write-ahead log of the store in dir and opens its
// database. A log that can't be read is noted as damage, not an error.
func openArchive(dir, prefix string) (*archive, error) {
	a := &archive{prefix: []byte(prefix + "log/")}
	l, err := readWAL(dir)
	if errors.Is(err, ErrNoStore) {
		return nil, err
	}
	a.damage = err
	path, err := a.open(dir, l)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	applied, end, err := a.applied()
	if err == nil && a.damage == nil {
		a.committed = end.seq
		a.readPending(l, applied, end)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s: %w", ErrDamaged, path, err), a.close())
	}
	return a, nil
}

// open opens the database: the current one, or the one that the other member
// sent as a snapshot and that was to replace it at the next start.
func (a *archive) open(dir string, l walLog) (string, error) {
	path := datadir.ToBackendFileName(dir)
	if _, err := os.Stat(path); err == nil {
		if err := a.view(path); err != nil {
			return path, err
		}
		applied, _, err := a.applied()
		if err != nil {
			return path, errors.Join(err, a.close())
		}
		if applied >= l.snapshot.GetIndex() {
			return path, nil
		}
		if err := a.close(); err != nil {
			return path, err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	sent := filepath.Join(datadir.ToSnapDir(dir), fmt.Sprintf("%016x.snap.db", l.snapshot.GetIndex()))
	if _, err := os.Stat(sent); errors.Is(err, fs.ErrNotExist) {
		return path, a.view(path)
	}
	return sent, a.view(sent)
}

func (a *archive) view(path string) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: openBound})
	if err != nil {
		return err
	}
	tx, err := db.Begin(false)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	a.db, a.tx = db, tx
	return nil
}

func (a *archive) close() error { return errors.Join(a.tx.Rollback(), a.db.Close()) }

// applied is the index of the last entry that the database contains, and the
// last event in it.
func (a *archive) applied() (index uint64, end held, err error) {
	if meta := a.tx.Bucket(schema.Meta.Name()); meta != nil {
		if v := meta.Get(schema.MetaConsistentIndexKeyName); len(v) == 8 {
			index = binary.BigEndian.Uint64(v)
		}
	}
	end, _, err = a.stored()()
	return index, end, err
}

// stored walks the database from its newest event to its oldest.
func (a *archive) stored() history {
	bucket := a.tx.Bucket(schema.Key.Name())
	if bucket == nil {
		return func() (held, bool, error) { return held{}, false, nil }
	}
	c := bucket.Cursor()
	revision, value := c.Last()
	return func() (held, bool, error) {
		for ; revision != nil; revision, value = c.Prev() {
			var kv mvccpb.KeyValue
			if err := proto.Unmarshal(value, &kv); err != nil {
				return held{}, false, fmt.Errorf("%w: revision %x: %w", ErrDamaged, revision, err)
			}
			if h, ok := a.event(kv.GetKey(), kv.GetValue()); ok {
				revision, value = c.Prev()
				return h, true, nil
			}
		}
		return held{}, false, nil
	}
}

// event reads a key and its value, if it is an event's. A deleted key has no
// value.
func (a *archive) event(key, value []byte) (held, bool) {
	digits, ok := bytes.CutPrefix(key, a.prefix)
	if !ok || len(value) < hashDigits {
		return held{}, false
	}
	seq, err := strconv.ParseUint(string(digits), 16, 64)
	if err != nil {
		return held{}, false
	}
	return held{seq: eventlog.Seq(seq), raw: bytes.Clone(value), hash: string(value[:hashDigits])}, true
}

// readPending collects the events behind end that only the write-ahead log
// holds, that is in entries after index applied.
//
// An entry is a request, not yet its outcome: of two appends behind the same
// event the first wins and the second changes nothing. The store would compare
// revisions; the chain says the same, as each event names the one before it.
func (a *archive) readPending(l walLog, applied uint64, end held) {
	for _, e := range l.entries {
		if e.GetIndex() <= applied {
			continue
		}
		batch, ok := a.appended(e)
		if !ok || !follows(end, batch[0]) {
			continue
		}
		a.pending = append(a.pending, batch...)
		if end = batch[len(batch)-1]; e.GetIndex() <= l.commit() {
			a.committed = end.seq
		}
	}
}

// appended are the events that an entry asks to append.
func (a *archive) appended(e *raftpb.Entry) ([]held, bool) {
	if e.GetType() != raftpb.EntryNormal || len(e.GetData()) == 0 {
		return nil, false
	}
	var r pb.InternalRaftRequest
	if proto.Unmarshal(e.GetData(), &r) != nil {
		return nil, false
	}
	var out []held
	for _, op := range r.GetTxn().GetSuccess() {
		if put := op.GetRequestPut(); put != nil {
			if h, ok := a.event(put.GetKey(), put.GetValue()); ok {
				out = append(out, h)
			}
		}
	}
	return out, len(out) > 0
}

// follows tells whether next names end as the event before it.
func follows(end, next held) bool {
	e, err := eventlog.Decode(next.raw)
	return err == nil && e.Seq == end.seq+1 && e.PrevHash == end.hash
}

// newestFirst walks the whole log of the archive back.
func (a *archive) newestFirst() history {
	i, stored := len(a.pending), a.stored()
	return func() (held, bool, error) {
		if i > 0 {
			i--
			return a.pending[i], true, nil
		}
		return stored()
	}
}
