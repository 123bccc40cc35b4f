package etcdnode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"dyad/eventlog"
)

// order is what a supervisor has been told to run.
type order struct {
	// config is the child's standard input; nil: no child is to run.
	config []byte
	// taken is closed when no child of an older order runs any more.
	taken chan struct{}
	// replaced is closed when a newer order came. Then a child of this one is
	// killed at once.
	replaced chan struct{}
}

// errReplaced: somebody else commanded the store in the meantime.
var errReplaced = errors.New("the store was told something else in the meantime")

func newOrder(c *ServeConfig) (*order, error) {
	o := &order{taken: make(chan struct{}), replaced: make(chan struct{})}
	if c == nil {
		return o, nil
	}
	if err := c.withDefaults().check(); err != nil {
		return nil, err
	}
	config, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode the store's configuration: %w", err)
	}
	o.config = append(config, '\n')
	return o, nil
}

// Kill kills the child at once and waits until it is gone. No other is started
// until Restart. That loses nothing that was acknowledged, and leaves the
// directory free for [KeepTail] and [Archive]. Errors: ctx's, and that Restart
// was called meanwhile. Without a child it is done at once.
func (s *Supervisor) Kill(ctx context.Context) error {
	o, err := newOrder(nil)
	if err != nil {
		return err
	}
	return s.give(ctx, o)
}

// Restart kills the child, if one runs, waits until it is gone, and starts
// another one with c, which is from then on what a child that dies is started
// again with. See WaitReady for when it answers. Errors: a configuration that
// can't work, in which case nothing changed; ctx's, in which case it goes on;
// and that Kill or Restart was called meanwhile.
func (s *Supervisor) Restart(ctx context.Context, c ServeConfig) error {
	o, err := newOrder(&c)
	if err != nil {
		return err
	}
	return s.give(ctx, o)
}

// Part makes the running member deaf and dumb towards the other ones: from its
// return on nobody can write, or write with this one, as after Kill. Only a
// Restart undoes it. Errors: ErrNotAlone, and ctx's; then Kill.
func (s *Supervisor) Part(ctx context.Context) error { return s.command(ctx, command{}) }

// GoAlone makes the running member of a pair the only voter, in milliseconds and
// without a restart: it answers for the other one until that is removed. It is to
// a running store what [KeepTail] and [ServeConfig].Force are to one that was
// killed, and as sound: for a voter of a pair, which was given the log. epoch is
// the one that the takeover began.
//
// Errors are ErrNotAlone and ctx's: it may have happened, or in part. Then Kill,
// KeepTail, and Restart with Force.
func (s *Supervisor) GoAlone(ctx context.Context, epoch eventlog.Epoch) error {
	return s.command(ctx, command{Alone: epoch})
}

// command tells the running child something, and waits for what comes of it. One
// at a time.
func (s *Supervisor) command(ctx context.Context, o command) error {
	line, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode the command: %w", err)
	}
	s.mu.Lock()
	c, order, answers := s.child, s.order, s.answers
	s.mu.Unlock()
	if c == nil || !answers {
		return fmt.Errorf("%w: it does not answer", ErrNotAlone)
	}
	select {
	case <-c.done: // of a command that was given up
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, 2*aloneBound)
	defer cancel()
	if _, err := c.stdin.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("%w: %w", ErrNotAlone, err)
	}
	select {
	case err := <-c.done:
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNotAlone, err)
		}
		return nil
	case <-order.replaced:
		return errReplaced
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrNotAlone, ctx.Err())
	}
}

// give replaces the order, and waits until the child before is gone.
func (s *Supervisor) give(ctx context.Context, o *order) error {
	s.mu.Lock()
	old := s.order
	s.order = o
	close(old.replaced)
	s.silence() // whoever waits from here on waits for the new child
	s.mu.Unlock()
	select {
	case <-o.taken:
		return nil
	case <-s.done:
		if o.config != nil {
			return errors.New("the store was stopped")
		}
		return nil
	case <-o.replaced:
		return errReplaced
	case <-ctx.Done():
		return fmt.Errorf("the store is not gone yet: %w", ctx.Err())
	}
}

// silence notes that no child answers. s.mu is held.
func (s *Supervisor) silence() {
	if s.answers {
		s.answers, s.ready = false, make(chan struct{})
	}
}

// current is the newest order.
func (s *Supervisor) current() *order {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.order
}

// gone tells whether o was replaced.
func (o *order) gone() bool {
	select {
	case <-o.replaced:
		return true
	default:
		return false
	}
}

// take says that no child of an older order runs. Only run calls it.
func (o *order) take() {
	select {
	case <-o.taken:
	default:
		close(o.taken)
	}
}

// whyHalted is what Notify hears when a child is ended by Kill or Restart.
const whyHalted = "told not to run"
