package witness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"dyad/cluster/quorum"
)

// lockPoll is how often a lock that somebody else has is tried again.
const lockPoll = 10 * time.Millisecond

// file is a register in a directory that both nodes mount, one file for each
// cluster. A change holds a byte-range lock on CLUSTER.lock, writes beside,
// syncs, renames and syncs the directory.
//
// What it asks for: NFS version 4, which keeps locks in the protocol itself and
// drops those of a dead client after its lease (90 s by default: a node that died
// in the middle of a swap blocks the other that long); a server that syncs before
// it answers (export option sync, the default); and no mount option nolock or
// local_lock. Under the lock the directory is opened before the file, so that
// close-to-open consistency throws cached names away.
//
// What it can't do: a mount that hangs holds a question until its time is up, and
// the next ones too, until the mount answers. A directory that is not mounted is
// an empty one, which knows nothing of this cluster and so never says yes. Whoever
// can write the directory can write the claim: export it to the two nodes alone.
type file struct {
	dir  string
	o    Options
	turn chan struct{} // holds one: who works on the directory
}

func openFile(t Target, o Options) *file {
	return &file{dir: t.Path, o: o, turn: make(chan struct{}, 1)}
}

// Get implements quorum.Register.
func (f *file) Get(ctx context.Context) (quorum.Claim, error) {
	return f.do(ctx, func(stands quorum.Claim, known bool) (quorum.Claim, error) {
		if !known {
			return stands, fmt.Errorf("%w: %s does not exist", quorum.ErrUnknown, f.path("claim"))
		}
		return stands, nil
	})
}

// Create implements quorum.Register.
func (f *file) Create(ctx context.Context, first quorum.Claim) (quorum.Claim, error) {
	return f.do(ctx, func(stands quorum.Claim, known bool) (quorum.Claim, error) {
		return create(f.o.Cluster, stands, known, first)
	})
}

// Swap implements quorum.Register.
func (f *file) Swap(ctx context.Context, from, to quorum.Claim) (quorum.Claim, error) {
	return f.do(ctx, func(stands quorum.Claim, known bool) (quorum.Claim, error) {
		return swap(f.o.Cluster, stands, known, from, to)
	})
}

// Check implements Witness.
func (f *file) Check(ctx context.Context) Report { return check(ctx, KindFile, f) }

// Close implements Witness. It waits for work that its caller has given up, but
// not for a mount that hangs.
func (f *file) Close() error {
	t := time.NewTimer(f.o.Timeout)
	defer t.Stop()
	select {
	case f.turn <- struct{}{}:
		<-f.turn
		return nil
	case <-t.C:
		return fmt.Errorf("%s hangs", f.dir)
	}
}

func (f *file) path(ext string) string { return filepath.Join(f.dir, f.o.Cluster+"."+ext) }

type decision func(stands quorum.Claim, known bool) (quorum.Claim, error)

type outcome struct {
	c   quorum.Claim
	err error
}

// do runs one operation in a goroutine of its own, as a system call on a share
// that hangs can't be interrupted. There is one at a time: it gives its turn back
// when it ends, however late, and who comes meanwhile waits for it.
func (f *file) do(ctx context.Context, decide decision) (quorum.Claim, error) {
	ctx, cancel := context.WithTimeout(ctx, f.o.Timeout)
	defer cancel()
	late := func() (quorum.Claim, error) {
		return quorum.Claim{}, fmt.Errorf("%w: %s did not answer: %w", quorum.ErrUnavailable, f.dir, ctx.Err())
	}
	if ctx.Err() != nil {
		return late()
	}
	select {
	case f.turn <- struct{}{}:
	case <-ctx.Done():
		return late()
	}
	done := make(chan outcome, 1)
	go func() {
		defer func() { <-f.turn }()
		c, err := f.locked(ctx, decide)
		done <- outcome{c, err}
	}()
	select {
	case o := <-done:
		return o.c, o.err
	case <-ctx.Done():
		return late()
	}
}

// locked decides and writes under the lock.
func (f *file) locked(ctx context.Context, decide decision) (quorum.Claim, error) {
	lock, err := f.lock(ctx)
	if err != nil {
		return quorum.Claim{}, err
	}
	defer lock.Close() // which unlocks
	stands, known, err := f.read()
	if err != nil {
		return stands, unavailable(err)
	}
	next, err := decide(stands, known)
	if err != nil || known && next == stands {
		return next, err
	}
	if ctx.Err() != nil {
		// The caller has gone; what it was told stays true.
		return stands, unavailable(ctx.Err())
	}
	if err := f.write(next); err != nil {
		return next, unavailable(err)
	}
	return next, nil
}

func unavailable(err error) error { return fmt.Errorf("%w: %w", quorum.ErrUnavailable, err) }

// lock takes the lock. It belongs to the open file, so it keeps other goroutines
// out as well as other hosts, and the kernel gives it back when this process ends.
func (f *file) lock(ctx context.Context) (*os.File, error) {
	l, err := os.OpenFile(f.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: %w\n  try: mount the share on this node", quorum.ErrUnavailable, err)
	}
	for {
		err := unix.FcntlFlock(l.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart})
		switch {
		case err == nil:
			return l, nil
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EINTR):
			_ = l.Close()
			return nil, unavailable(fmt.Errorf("%s can't be locked: %w", l.Name(), err))
		}
		t := time.NewTimer(lockPoll)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			_ = l.Close()
			return nil, unavailable(fmt.Errorf("%s is locked by somebody else: %w", l.Name(), ctx.Err()))
		}
	}
}

// read returns what stands. A file that can't be understood is an error, never
// the same as none.
func (f *file) read() (c quorum.Claim, known bool, err error) {
	d, err := os.Open(f.dir) // throws away what NFS has cached of the names in it
	if err != nil {
		return c, false, err
	}
	defer d.Close()
	b, err := os.ReadFile(f.path("claim"))
	if errors.Is(err, fs.ErrNotExist) {
		return c, false, nil
	}
	if err != nil {
		return c, false, err
	}
	sum, text, ok := bytes.Cut(bytes.TrimSuffix(b, []byte("\n")), []byte(" "))
	if !ok || string(sum) != fmt.Sprintf("%08x", crc32.Checksum(text, castagnoli)) {
		return c, false, fmt.Errorf("%s is damaged", f.path("claim"))
	}
	if err := errors.Join(json.Unmarshal(text, &c), c.Check(), ours(f.o.Cluster, c)); err != nil {
		return c, false, fmt.Errorf("%s: %w", f.path("claim"), err)
	}
	return c, true, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// write replaces the claim, durably and at once. A name of its own for the new
// file keeps what a dead node left half written out of the way.
func (f *file) write(c quorum.Claim) (err error) {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	n, err := os.CreateTemp(f.dir, "."+f.o.Cluster+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(n.Name()) // after the rename there is none
		}
	}()
	_, err = fmt.Fprintf(n, "%08x %s\n", crc32.Checksum(text, castagnoli), text)
	if err = errors.Join(err, n.Sync(), n.Close()); err != nil {
		return err
	}
	if err = os.Rename(n.Name(), f.path("claim")); err != nil {
		return err
	}
	d, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
