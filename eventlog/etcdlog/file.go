package etcdlog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"dyad/eventlog"
)

const (
	// lockWait bounds waiting for the file's lock; nobody else has the copy.
	lockWait = time.Second
	// tombstone is the length of the key of a deletion in the store's file, which
	// ends in a mark; others are one shorter.
	tombstone = 18
)

// ReadFile reads the log out of a member's file (member/snap/db below its
// directory), where no store serves it: one that lost its quorum and was started
// anew answers nothing. It works on a copy in temp, as a running member keeps the
// file locked. Take it only where nothing is written, or where the copy may be
// thrown away: everything it returns was checked, and a torn copy is ErrCorrupt.
//
// It returns the last event that was trimmed, and all events after it. What the
// member had not applied yet (the end of its write-ahead log) is not there.
func ReadFile(path, temp, prefix string) (floor eventlog.Head, events []eventlog.Envelope, err error) {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	work, err := os.MkdirTemp(temp, "store-copy-")
	if err != nil {
		return floor, nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	copied := filepath.Join(work, "db")
	if err := copyFile(path, copied); err != nil {
		return floor, nil, fmt.Errorf("copy the store's file: %w", err)
	}
	// A torn copy leads the library to pages that are not there, or not pages. It
	// panics then, or the memory map faults; both mean the same here.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			floor, events, err = eventlog.Head{}, nil, errors.Join(fmt.Errorf("%w: the store's file: %v", eventlog.ErrCorrupt, p), err)
		}
	}()
	db, err := bbolt.Open(copied, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockWait})
	if err != nil {
		return floor, nil, fmt.Errorf("%w: the store's file: %w", eventlog.ErrCorrupt, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	f := stored{keys: keys(prefix), log: map[eventlog.Seq]*mvccpb.KeyValue{}}
	if err := db.View(f.read); err != nil {
		return floor, nil, err
	}
	events, err = f.events()
	return f.floor, events, err
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// stored is what the revisions in a file add up to.
type stored struct {
	keys        keys
	log         map[eventlog.Seq]*mvccpb.KeyValue
	head, floor eventlog.Head
}

// read goes through all revisions, oldest first, so the last of each key counts.
func (f *stored) read(tx *bbolt.Tx) error {
	b := tx.Bucket([]byte("key"))
	if b == nil {
		return fmt.Errorf("%w: the store's file has no keys", eventlog.ErrCorrupt)
	}
	return b.ForEach(func(revision, value []byte) error {
		var kv mvccpb.KeyValue
		if err := proto.Unmarshal(value, &kv); err != nil {
			return fmt.Errorf("%w: the store's file, revision %x: %w", eventlog.ErrCorrupt, revision, err)
		}
		seq, isEvent := f.keys.sequence(kv.Key)
		var err error
		switch {
		case isEvent && len(revision) == tombstone:
			delete(f.log, seq)
		case isEvent:
			f.log[seq] = &kv
		case len(revision) == tombstone:
		case string(kv.Key) == f.keys.head():
			f.head, err = decodeHead([]*mvccpb.KeyValue{&kv})
		case string(kv.Key) == f.keys.floor():
			f.floor, err = decodeHead([]*mvccpb.KeyValue{&kv})
		}
		return err
	})
}

// events are those behind the floor, which must follow each other up to the head.
func (f *stored) events() ([]eventlog.Envelope, error) {
	var out []eventlog.Envelope
	at := f.floor
	for at.Seq < f.head.Seq {
		kv, ok := f.log[at.Seq+1]
		if !ok {
			return nil, fmt.Errorf("%w: the store's file has no event %d of %d", eventlog.ErrGap, at.Seq+1, f.head.Seq)
		}
		e, err := f.keys.decodeEvent(kv)
		if err == nil {
			err = eventlog.Verify(at, e)
		}
		if err != nil {
			return nil, err
		}
		out, at = append(out, e), eventlog.HeadOf(e)
	}
	if at.Hash != f.head.Hash {
		return nil, fmt.Errorf("%w: event %d in the store's file is not the one its head names", eventlog.ErrCorrupt, at.Seq)
	}
	return slices.Clip(out), nil
}
