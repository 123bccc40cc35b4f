package steward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"dyad/cluster/quorum"
)

// Times of the steward.
const (
	// Every is how often it looks while nothing happens. A look costs one
	// question to the local store.
	Every = 100 * time.Millisecond
	// wordBound is for how long an operator's word waits to be taken.
	wordBound = 30 * time.Second
	// deedRetry is the pause after a deed that failed; it doubles up to
	// deedRetryMax.
	deedRetry    = 100 * time.Millisecond
	deedRetryMax = time.Second
)

// Config says what a steward works with.
type Config struct {
	Self string
	// Record is what lay on the disk when the agent started.
	Record quorum.Record
	// HoldDown is how long a peer must be silent, or a store refuse, before
	// anything is done about it.
	HoldDown time.Duration
	// Look senses. It must return within a second or so.
	Look func(ctx context.Context) Reading
	// Save makes a move's record durable, with the sight that led to it: what
	// the log will later give as evidence.
	Save func(m quorum.Move, evidence quorum.Sight) error
	// Deeds do what a move says. A deed may be begun again after it failed, or
	// after a crash at any point. One that ends without an error may return the
	// record that the new state of things calls for; it is saved.
	Deeds map[quorum.Deed]func(ctx context.Context, m quorum.Move) (*quorum.Record, error)
	// Claim is what the witness last said; known is false if it does not answer
	// now. configured is whether there is one.
	Claim func() (c quorum.Claim, known, configured bool)
	// OnChange hears of every new status, from the steward's goroutine.
	OnChange func(Status)
	Now      func() time.Time
	Log      *slog.Logger
}

// Status is what the steward shows.
type Status struct {
	Record quorum.Record
	// Mode is as shown to people; see [quorum.Move].
	Mode quorum.Mode
	// Writable: intents are taken.
	Writable bool
	Why, Fix string
	// Deed is what is being done, and Error why it did not work the last time.
	Deed  quorum.Deed
	Error string
	// Since is when Mode last changed.
	Since time.Time
}

// Steward is one node's. Make it with [New], run it with Run.
type Steward struct {
	cfg   Config
	watch watch
	poke  chan struct{} // room for one

	mu      sync.Mutex
	status  Status
	word    quorum.Word
	wordAt  time.Time
	leaving bool
	changed chan struct{} // closed at the next change of status
}

// New prepares a steward; nothing runs until Run.
func New(c Config) *Steward {
	s := &Steward{
		cfg: c, poke: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	// Until the first look nothing is promised.
	m := quorum.Next(c.Record, quorum.Sight{Self: c.Self, HoldDown: c.HoldDown, External: c.Record.Mode == quorum.External})
	s.status = Status{Record: c.Record, Mode: m.Mode, Why: "the agent has just started", Fix: "wait a moment", Since: c.Now()}
	return s
}

// Status is the newest.
func (s *Steward) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Poke makes it look at once. It never blocks.
func (s *Steward) Poke() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// Run looks and acts until ctx ends. A deed that is under way then is broken
// off.
func (s *Steward) Run(ctx context.Context) {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	wait := deedRetry
	for ctx.Err() == nil {
		did, err := s.once(ctx)
		switch {
		case err != nil:
			s.pause(ctx, wait)
			wait = min(2*wait, deedRetryMax)
			continue
		case did:
			wait = deedRetry
			continue
		}
		select {
		case <-tick.C:
		case <-s.poke:
		case <-ctx.Done():
		}
	}
}

func (s *Steward) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.poke:
	case <-ctx.Done():
	}
}

// once looks, and does one deed if there is one to do.
func (s *Steward) once(ctx context.Context) (did bool, err error) {
	r := s.Status().Record
	began := s.cfg.Now()
	in := s.cfg.Look(ctx)
	if ctx.Err() != nil {
		return false, nil
	}
	now := s.cfg.Now()
	sight := s.watch.see(now, r, in)
	sight.Self, sight.HoldDown = s.cfg.Self, s.cfg.HoldDown
	sight.Witness.Claim, sight.Witness.Known, sight.Witness.Configured = s.cfg.Claim()
	sight.Word, sight.Leaving = s.orders(now, began, in.Heard)
	m := quorum.Next(r, sight)
	if m.Record != r {
		// Invariant: what a deed rests on is durable before it begins.
		if err := s.cfg.Save(m, sight); err != nil {
			m.Record, m.Do = r, quorum.Wait
			s.show(m, sight, fmt.Errorf("this node's state can't be written: %w", err))
			return false, err
		}
		s.cfg.Log.Info("the set of writers changes", "event", "quorum.record", "reason", m.Why,
			"mode", string(m.Record.Mode), "epoch", m.Record.Epoch, "step", string(m.Record.Step), "by", string(m.Record.By))
	}
	s.show(m, sight, nil)
	do := s.cfg.Deeds[m.Do]
	if m.Do == quorum.Wait || do == nil {
		return m.Record != r, nil
	}
	after, err := do(ctx, m)
	if err == nil && after != nil && *after != m.Record {
		m.Record, m.Do = *after, quorum.Wait
		if err = s.cfg.Save(m, sight); err == nil {
			s.record(*after)
		}
	}
	switch m.Do {
	case quorum.AskFence:
		s.watch.fenced = err == nil
	case quorum.Reform:
		s.watch.fenced = false // its word was taken
	}
	if err != nil && ctx.Err() == nil {
		s.show(m, sight, err)
		s.cfg.Log.Warn("a change of the set of writers did not go through; it is tried again",
			"event", "quorum.deed", "deed", string(m.Do), "reason", err)
	}
	return err == nil, err
}

// record puts a record in force that a deed led to.
func (s *Steward) record(r quorum.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Record = r
	if r.Mode != quorum.Stale && r.Mode != quorum.Joining && r.Step == "" {
		s.word = quorum.Word{} // it was taken
	}
}

// show publishes what a move and a sight come to.
func (s *Steward) show(m quorum.Move, sight quorum.Sight, failed error) {
	next := Status{Record: m.Record, Mode: m.Mode, Why: m.Why, Fix: m.Fix, Deed: m.Do, Since: s.cfg.Now()}
	next.Writable = sight.Log.Writable && m.Record.Step != quorum.Granted &&
		m.Record.Mode != quorum.Joining && m.Record.Mode != quorum.Stale
	if failed != nil {
		next.Error = failed.Error()
		if next.Why != "" {
			next.Why += ": " + failed.Error()
		}
	}
	s.mu.Lock()
	if next.Mode == s.status.Mode {
		next.Since = s.status.Since
	}
	same := next == s.status
	s.status = next
	if !same {
		close(s.changed)
		s.changed = make(chan struct{})
	}
	s.mu.Unlock()
	if !same && s.cfg.OnChange != nil {
		s.cfg.OnChange(next)
	}
}

// orders are what people want: an operator's word as long as it is fresh and
// the peer is silent, and whether this agent is to stop. A look takes a while: one
// that began before the word was given says nothing against it.
func (s *Steward) orders(now, began time.Time, heard bool) (quorum.Word, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if heard && began.After(s.wordAt) || now.Sub(s.wordAt) > wordBound {
		s.word = quorum.Word{}
	}
	return s.word, s.leaving
}

// Await waits until the status is as wanted.
func (s *Steward) Await(ctx context.Context, as func(Status) bool) error {
	for {
		s.mu.Lock()
		now, changed := s.status, s.changed
		s.mu.Unlock()
		if as(now) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), errors.New(now.Why))
		}
	}
}

// Takeover hands in an operator's word, and waits until this node is the only
// writer or ctx ends.
func (s *Steward) Takeover(ctx context.Context, w quorum.Word) error {
	before := s.Status().Record.Epoch
	s.mu.Lock()
	s.word, s.wordAt = w, s.cfg.Now()
	s.mu.Unlock()
	s.Poke()
	return s.Await(ctx, func(st Status) bool {
		return st.Writable && st.Record.Epoch > before && st.Record.Mode == quorum.Sole
	})
}

// Leave hands the log to the other node, if that can be done, before a planned
// stop. It returns when nothing more is to be done for it, or ctx ends.
func (s *Steward) Leave(ctx context.Context) error {
	s.mu.Lock()
	s.leaving = true
	s.mu.Unlock()
	s.Poke()
	return s.Await(ctx, func(st Status) bool { return st.Record.Mode != quorum.Pair || !st.Writable })
}
