package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrHeld means that somebody else holds a lock.
var ErrHeld = errors.New("held by another process")

// lockEvery is how often a lock is tried while it is waited for.
const lockEvery = 20 * time.Millisecond

// Lock takes the lock on a file, without waiting. It ends with the returned
// function, or with the process, however that ends.
func Lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s", ErrHeld, path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil
}

// WaitLock takes the lock on a file, and waits for it until ctx ends.
func WaitLock(ctx context.Context, path string) (unlock func(), err error) {
	tick := time.NewTicker(lockEvery)
	defer tick.Stop()
	for {
		unlock, err = Lock(path)
		if err == nil || !errors.Is(err, ErrHeld) {
			return unlock, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}
