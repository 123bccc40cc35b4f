package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"dyad/cluster/quorum"
)

// witnessBound is how long one question to the witness may take.
const witnessBound = 2 * time.Second

// claims is what the witness last said.
type claims struct {
	mu       sync.Mutex
	cluster  string
	register quorum.Register // nil: the cluster has no witness
	claim    quorum.Claim
	known    bool
}

// get implements [steward.Config].Claim.
func (c *claims) get() (quorum.Claim, bool, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	claim := c.claim
	claim.Cluster = c.cluster
	return claim, c.known, c.register != nil
}

func (c *claims) set(claim quorum.Claim, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claim, c.known = claim, known
}

func (c *claims) at() quorum.Register {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.register
}

// use begins with another register, or none; nothing is known of it yet.
func (c *claims) use(r quorum.Register) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.register, c.claim, c.known = r, quorum.Claim{}, false
}

// swap asks the witness what stands, or swaps.
func (p *process) swap(ctx context.Context, m quorum.Move) (*quorum.Record, error) {
	r := p.claims.at()
	if r == nil {
		return nil, nil // removed meanwhile; look again
	}
	ctx, cancel := context.WithTimeout(ctx, witnessBound)
	defer cancel()
	stands, err := quorum.Claim{}, error(nil)
	if m.From.Epoch == 0 {
		stands, err = r.Get(ctx)
	} else {
		stands, err = r.Swap(ctx, m.From, m.To)
	}
	if errors.Is(err, quorum.ErrUnknown) && m.Do == quorum.TellWitness {
		// It lost its memory. The log can be written, so the log itself says who
		// writes it; a witness asked before a takeover is never taught like that.
		stands, err = quorum.Enrol(ctx, r, m.To)
	}
	moved := errors.Is(err, quorum.ErrMoved)
	p.claims.set(stands, err == nil || moved)
	if moved {
		return nil, nil // what stands is known now; look again
	}
	return nil, err
}

// witnessed brings the witness to a claim of a later epoch; nil if there is none.
func (p *process) witnessed(ctx context.Context, to quorum.Claim) error {
	r := p.claims.at()
	if r == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, witnessBound)
	defer cancel()
	to.Cluster = p.file.get().Cluster
	stands, err := r.Get(ctx)
	if err == nil && stands.Epoch < to.Epoch {
		stands, err = r.Swap(ctx, stands, to)
	}
	if err == nil && !stands.Same(to) {
		err = errors.New("the witness holds " + stands.String())
	}
	return err
}

// holdDown is how long the other node must be silent first.
func (p *process) holdDown() time.Duration { return p.cfg.Takeover.HoldDown.Std() }
