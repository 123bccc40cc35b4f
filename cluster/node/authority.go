package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"dyad/cluster/config"
	"dyad/cluster/fence"
	"dyad/cluster/quorum"
	"dyad/eventlog"
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
	close    func() error
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

// use begins with another register, or none; nothing is known of it yet. It
// returns what closes the one before.
func (c *claims) use(r quorum.Register, closer func() error) (before func() error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before = c.close
	c.register, c.claim, c.known, c.close = r, quorum.Claim{}, false, closer
	return before
}

// useWitness follows the log's word of which witness the cluster has.
func (p *process) useWitness(w eventlog.Witness) {
	if w == p.named {
		return
	}
	var r quorum.Register
	var closer func() error
	if w.URL != "" {
		at, err := p.witnesses.open(w, p.claims.cluster, "")
		if err != nil {
			// The cluster has a witness, and this node can't ask it: then it must
			// not go on alone either.
			p.opts.Log.Error("the witness can't be used", "event", "witness.open", "reason", err, "url", w.URL)
			r = mute{err}
		} else {
			r, closer = at, at.Close
		}
	}
	p.named = w
	if before := p.claims.use(r, closer); before != nil {
		_ = before() // nothing is asked of it any more
	}
}

// mute is a witness that can't be asked.
type mute struct{ why error }

func (m mute) Get(context.Context) (quorum.Claim, error) { return quorum.Claim{}, m.why }

func (m mute) Create(context.Context, quorum.Claim) (quorum.Claim, error) {
	return quorum.Claim{}, m.why
}

func (m mute) Swap(context.Context, quorum.Claim, quorum.Claim) (quorum.Claim, error) {
	return quorum.Claim{}, m.why
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

// authority is who decides without a witness. The witness decides wherever the
// cluster has one.
func (p *process) authority() quorum.Authority {
	switch a := p.cfg.Takeover.Authority; a {
	case config.AuthorityToR:
		return quorum.ByTor
	case config.AuthorityFence:
		return quorum.ByFence
	case config.AuthorityAuto:
		if len(p.cfg.Takeover.Fence.Command) > 0 {
			return quorum.ByFence
		}
	}
	return quorum.ByOperator
}

// fenceOff has the fence switch the other node off, and read it back as off.
func (p *process) fenceOff(ctx context.Context, m quorum.Move) (*quorum.Record, error) {
	f, err := fence.New(fence.Options{Command: p.cfg.Takeover.Fence.Command, Timeout: p.cfg.Takeover.Fence.Timeout.Std()})
	if err != nil {
		return nil, err
	}
	s := p.agent.State()
	peer := p.peerName(s)
	showed, err := f.Do(ctx, fence.Request{
		Action: fence.Off, Peer: peer, Address: s.Nodes[peer].Address, Cluster: s.Cluster, Epoch: m.Record.Epoch,
	})
	p.agent.RecordFence(showed, peer, err)
	return nil, err
}
