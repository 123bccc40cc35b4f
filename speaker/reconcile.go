package speaker

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Bounds of the reconciler.
const (
	// DefaultRetryMin and DefaultRetryMax bound the pause after a failed Set:
	// it doubles from the one to the other.
	DefaultRetryMin = 50 * time.Millisecond
	DefaultRetryMax = 5 * time.Second
	// DefaultSetTimeout bounds one Set.
	DefaultSetTimeout = 30 * time.Second
)

// Options of a [Reconciler]. The zero value of a field means its default.
type Options struct {
	// RetryMin and RetryMax bound the pause after a failed Set.
	RetryMin, RetryMax time.Duration
	// SetTimeout bounds one Set.
	SetTimeout time.Duration
	// OnDone is called after every Set, from the reconciler's goroutine: gen is
	// what Want returned for the wish, at is when Set returned, err is what it
	// returned. It delays the next wish, so it should be quick.
	OnDone func(gen uint64, c Change, at time.Time, err error)
	// Log defaults to slog.Default.
	Log *slog.Logger
}

// Status is the state of a [Reconciler].
type Status struct {
	// Generation is the newest wish, Done the newest one that was made true.
	// They are equal once there is nothing left to do.
	Generation uint64 `json:"generation"`
	Done       uint64 `json:"done"`
	// Last is what the last successful Set did, Took how long it took, At when
	// it returned.
	Last Change        `json:"last"`
	Took time.Duration `json:"took_ns"`
	At   time.Time     `json:"at,omitzero"`
	// LastError is why the newest attempt failed; empty if it did not. Attempts
	// counts the failures in a row.
	LastError string `json:"last_error,omitempty"`
	Attempts  int    `json:"attempts,omitempty"`
}

// Reconciler makes the newest wish true. It is level-triggered: only the newest
// wish counts, one that is superseded while it waits is never tried, and a
// failed one is tried again until it succeeds or is superseded.
type Reconciler struct {
	sp   Speaker
	opts Options

	wake   chan struct{} // capacity 1: there is something newer than was seen
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	wish   Wish
	status Status
}

// NewReconciler starts the loop. [Reconciler.Close] ends it.
func NewReconciler(sp Speaker, opts Options) *Reconciler {
	if opts.RetryMin <= 0 {
		opts.RetryMin = DefaultRetryMin
	}
	if opts.RetryMax < opts.RetryMin {
		opts.RetryMax = max(DefaultRetryMax, opts.RetryMin)
	}
	if opts.SetTimeout <= 0 {
		opts.SetTimeout = DefaultSetTimeout
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	r := &Reconciler{sp: sp, opts: opts, wake: make(chan struct{}, 1), done: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	go r.loop()
	return r
}

// Want replaces the wish and returns its generation, counted from 1. It never
// blocks. The wish must not be changed afterwards.
func (r *Reconciler) Want(w Wish) uint64 {
	r.mu.Lock()
	r.wish = w
	r.status.Generation++
	gen := r.status.Generation
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default: // the loop was already told
	}
	return gen
}

// Status returns the state now.
func (r *Reconciler) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// Close stops the loop and waits for it, at most until ctx ends. It does not
// close the speaker, and what was told stays told.
func (r *Reconciler) Close(ctx context.Context) error {
	r.cancel()
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Reconciler) loop() {
	defer close(r.done)
	retry := time.NewTimer(time.Hour)
	retry.Stop()
	defer retry.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-r.wake:
		case <-retry.C:
		}
		if pause := r.step(); pause > 0 {
			retry.Reset(pause)
		} else {
			retry.Stop()
		}
	}
}

// step tries the newest wish once and returns the pause before the next try; 0
// if there is nothing to try.
func (r *Reconciler) step() time.Duration {
	r.mu.Lock()
	w, gen := r.wish, r.status.Generation
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(r.ctx, r.opts.SetTimeout)
	start := time.Now()
	c, err := r.sp.Set(ctx, w)
	at := time.Now()
	cancel()
	if r.ctx.Err() != nil && err != nil {
		return 0
	}
	pause := r.record(gen, c, at, at.Sub(start), err)
	if r.opts.OnDone != nil {
		r.opts.OnDone(gen, c, at, err)
	}
	return pause
}

func (r *Reconciler) record(gen uint64, c Change, at time.Time, took time.Duration, err error) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		if r.status.Attempts > 0 {
			r.opts.Log.Info("routes told after all", "event", "speaker.set", "reason", "retry",
				"generation", gen, "attempts", r.status.Attempts)
		}
		r.status.Done, r.status.Last, r.status.Took, r.status.At = gen, c, took, at
		r.status.LastError, r.status.Attempts = "", 0
		return 0
	}
	r.status.Attempts++
	r.status.LastError = err.Error()
	pause := backoff(r.opts.RetryMin, r.opts.RetryMax, r.status.Attempts)
	r.opts.Log.Warn("routes not told", "event", "speaker.set", "reason", err.Error(),
		"generation", gen, "attempts", r.status.Attempts, "again_in", pause)
	return pause
}

// backoff doubles from lo with every attempt (counted from 1), up to hi.
func backoff(lo, hi time.Duration, attempt int) time.Duration {
	d := lo
	for range attempt - 1 {
		if d >= hi/2 {
			return hi
		}
		d *= 2
	}
	return min(d, hi)
}
