package etcdnode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
