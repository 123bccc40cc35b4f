package peers

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"dyad/chaos/netlab"
)

// System is one way to keep a service address reachable on two nodes.
type System interface {
	// Name is what figures call it.
	Name() string
	// Up builds its network and starts it.
	Up(ctx context.Context) error
	// Arm puts the network into the state that this system is measured in, where
	// several share one. It is called before each death.
	Arm(ctx context.Context) error
	// NotReady says why it is not as it should be before a death; empty if it is.
	NotReady(ctx context.Context) string
	// Place is where it stands.
	Place() Place
	// Kill makes a node fall silent without a link going down, and then ends its
	// processes. at is right before the silence.
	Kill(ctx context.Context, node string) (at time.Time, err error)
	// Heal brings the killed node back, and returns when it runs again. That none
	// was killed is no error.
	Heal(ctx context.Context) error
	// Count is how often it has held a node for dead since it came up, rightly or
	// not.
	Count(ctx context.Context) (Count, error)
	// Down removes it, whatever came of Up.
	Down(ctx context.Context) error
}

// Place is where a system stands, for the probes.
type Place struct {
	// Client is the full name of the client's namespace.
	Client string
	// Services are the addresses that are probed, on Port, and that move together.
	Services []netip.Addr
	// Bystander is an address that the survivor carries all along; the zero Addr
	// if there is none.
	Bystander netip.Addr
	Port      uint16
}

// Count is how often a system has held something for dead.
type Count struct {
	// Suspicions have no consequence: both nodes forward, and traffic moves without
	// a loss if they are wrong.
	Suspicions int `json:"suspicions"`
	// Gray are silences that the node's kernel explained: it acts less than a
	// suspicion does.
	Gray int `json:"gray"`
	// Verdicts are those that act harder: a session torn down, a state of VRRP
	// changed, a process or a node held for dead.
	Verdicts int `json:"verdicts"`
	// Kinds are the Verdicts by their name, of a system that names them.
	Kinds map[string]int `json:"kinds,omitempty"`
}

// since is what was counted after an earlier count.
func (c Count) since(before Count) Count {
	out := Count{
		Suspicions: c.Suspicions - before.Suspicions, Gray: c.Gray - before.Gray,
		Verdicts: c.Verdicts - before.Verdicts, Kinds: map[string]int{},
	}
	for k, n := range c.Kinds {
		if n > before.Kinds[k] {
			out.Kinds[k] = n - before.Kinds[k]
		}
	}
	return out
}

// ErrNotReady means that a system did not get into the state a death begins in.
var ErrNotReady = errors.New("not ready for a death")

const (
	// readyLimit bounds waiting for a system to be ready.
	readyLimit = 30 * time.Second
	// readyFor is how long a system must be ready to count as settled.
	readyFor = 500 * time.Millisecond
	// readyEvery is how often a system is asked.
	readyEvery = 100 * time.Millisecond
)

// AwaitReady arms a system and waits until it is ready and stays so.
func AwaitReady(ctx context.Context, s System) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	if err := s.Arm(ctx); err != nil {
		return fmt.Errorf("%s: %w", s.Name(), err)
	}
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	var since time.Time
	for {
		why := s.NotReady(ctx)
		switch {
		case why != "":
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= readyFor:
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %s: %w", s.Name(), ErrNotReady, why, ctx.Err())
		case <-tick.C:
		}
	}
}

// DownAll removes all systems and says what went wrong.
func DownAll(ctx context.Context, all []System) error {
	var errs []error
	for _, s := range all {
		errs = append(errs, s.Down(ctx))
	}
	return errors.Join(errs...)
}

// other is the node of the lab that is not that one.
func other(node string) string {
	if node == netlab.NodeA {
		return netlab.NodeB
	}
	return netlab.NodeA
}
