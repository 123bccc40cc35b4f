package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"dyad/cluster/quorum"
)

// Bounds of a store.
const (
	// DefaultMaxClusters is how many clusters are taken unless told otherwise.
	DefaultMaxClusters = 10_000
	// maxBatch is how many changes share one write.
	maxBatch = 128
	// maxWaiting changes wait for their turn; more wait at the door.
	maxWaiting = 1024
	// compactAbove: the file is written anew when it is larger than this and than
	// compactFactor times what it holds.
	compactAbove  = 1 << 20
	compactFactor = 4
)

// Errors of a [Store], beside those of quorum.Register.
var (
	// ErrFull: the witness holds as many clusters as it may.
	ErrFull = errors.New("the witness takes no more clusters")
	// ErrOtherCA: the record belongs to another cluster's CA.
	ErrOtherCA = errors.New("the cluster is registered by another CA")
)

// Store keeps claims in memory and on disk.
//
// Invariant: whatever a method returned without ErrUnavailable is on disk, and
// what it depended on too. One goroutine decides and writes, a batch at a time;
// readers see a batch when it is synced.
type Store struct {
	dir  string
	max  int
	lock *os.File

	ops    chan op
	stop   chan struct{}
	wg     sync.WaitGroup
	failed chan struct{}

	mu   sync.RWMutex
	held map[string]Record

	// The writer's own.
	f    durable
	size int64 // of the file
	live int64 // what a file without history would be, nearly
}

// durable is what the store asks of its file.
type durable interface {
	Write(b []byte) (int, error)
	Sync() error
	Close() error
}

// op is one change and where its answer goes.
type op struct {
	cluster string
	ca      string
	create  bool
	decide  func(stands Record, known bool) (Record, error)
	done    chan result // room for one
}

type result struct {
	r   Record
	err error
}

// OpenStore opens the claims in a data directory, which it takes for itself, and
// writes them anew: what it serves from here on is on disk, whatever an earlier
// failure left in the cache. maxClusters 0 is DefaultMaxClusters. Errors:
// [ErrDamaged], and the file system's.
func OpenStore(dir string, maxClusters int) (*Store, error) {
	if maxClusters <= 0 {
		maxClusters = DefaultMaxClusters
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the data directory can't be made: %w\n  try: --data DIR", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("%s is in use by another witness: %w\n  try: another --data DIR", dir, err)
	}
	s := &Store{
		dir: dir, max: maxClusters, lock: lock, ops: make(chan op, maxWaiting),
		stop: make(chan struct{}), failed: make(chan struct{}),
	}
	if s.held, err = Load(dir); err == nil {
		err = s.rewrite()
	}
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	s.wg.Go(s.run)
	return s, nil
}

// Close ends the writer. Changes that wait are answered with ErrUnavailable.
func (s *Store) Close() error {
	close(s.stop)
	s.wg.Wait()
	return errors.Join(s.f.Close(), s.lock.Close())
}

// Failed is closed when the disk refused a write. Nothing is changed from then
// on: whether the write is there only a new start can tell.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Get returns the record of a cluster. Errors: quorum.ErrUnknown, ErrOtherCA.
func (s *Store) Get(cluster, ca string) (Record, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.held[cluster]
	switch {
	case !ok:
		return r, quorum.ErrUnknown
	case r.CA != ca:
		return Record{}, ErrOtherCA
	}
	return r, nil
}

// Len is how many clusters are held.
func (s *Store) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.held)
}

// Create registers a cluster and binds it to a CA. Errors: ErrFull, ErrOtherCA
// and those of quorum.Register.
func (s *Store) Create(ctx context.Context, ca, by string, first quorum.Claim, now time.Time) (Record, error) {
	return s.change(ctx, op{cluster: first.Cluster, ca: ca, create: true, decide: func(stands Record, known bool) (Record, error) {
		if known {
			_, err := stands.Claim.Create(first)
			return stands, err
		}
		return Record{Claim: first, CA: ca, Created: now, Changed: now, By: by}, nil
	}})
}

// Swap is quorum.Register's Swap. Errors: ErrOtherCA and those of
// quorum.Register.
func (s *Store) Swap(ctx context.Context, ca, by string, from, to quorum.Claim, now time.Time) (Record, error) {
	return s.change(ctx, op{cluster: to.Cluster, ca: ca, decide: func(stands Record, known bool) (Record, error) {
		if !known {
			return stands, quorum.ErrUnknown
		}
		next, err := stands.Claim.Swap(from, to)
		if err != nil || next == stands.Claim {
			return stands, err
		}
		stands.Claim, stands.Changed, stands.By = next, now, by
		return stands, nil
	}})
}

func (s *Store) change(ctx context.Context, o op) (Record, error) {
	o.done = make(chan result, 1)
	select {
	case s.ops <- o:
	case <-s.stop:
		return Record{}, stopping()
	case <-s.failed:
		return Record{}, broken()
	case <-ctx.Done():
		return Record{}, fmt.Errorf("%w: %w", quorum.ErrUnavailable, ctx.Err())
	}
	select {
	case r := <-o.done:
		return r.r, r.err
	case <-s.stop:
		return Record{}, stopping()
	case <-ctx.Done():
		return Record{}, fmt.Errorf("%w: %w", quorum.ErrUnavailable, ctx.Err())
	}
}

func stopping() error { return fmt.Errorf("%w: it stops", quorum.ErrUnavailable) }

func broken() error {
	return fmt.Errorf("%w: its disk refused a write, and it must be started again", quorum.ErrUnavailable)
}
