package witness

import (
	"context"
	"fmt"
	"sync"
	"time"

	"dyad/cluster/quorum"
)

// Memory is a register in this process, for tests and simulations. Its zero
// value is not usable; see [NewMemory].
type Memory struct {
	mu   sync.Mutex
	held map[string]quorum.Claim
	down error
}

// NewMemory makes an empty register for any number of clusters.
func NewMemory() *Memory { return &Memory{held: map[string]quorum.Claim{}} }

// Cluster is the register as one cluster sees it.
func (m *Memory) Cluster(id string) Witness { return &memoryView{m, id} }

// SetDown makes every question fail with err from here on; nil ends it.
func (m *Memory) SetDown(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = err
}

// Wipe forgets every claim.
func (m *Memory) Wipe() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.held)
}

type memoryView struct {
	m       *Memory
	cluster string
}

// change holds the lock while decide says what stands next.
func (v *memoryView) change(ctx context.Context, decide func(stands quorum.Claim, known bool) (quorum.Claim, error)) (quorum.Claim, error) {
	if err := ctx.Err(); err != nil {
		return quorum.Claim{}, fmt.Errorf("%w: %w", quorum.ErrUnavailable, err)
	}
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	if v.m.down != nil {
		return quorum.Claim{}, v.m.down
	}
	stands, known := v.m.held[v.cluster]
	next, err := decide(stands, known)
	if err == nil {
		v.m.held[v.cluster] = next
	}
	return next, err
}

// Get implements quorum.Register.
func (v *memoryView) Get(ctx context.Context) (quorum.Claim, error) {
	return v.change(ctx, func(stands quorum.Claim, known bool) (quorum.Claim, error) {
		if !known {
			return stands, quorum.ErrUnknown
		}
		return stands, nil
	})
}

// Create implements quorum.Register.
func (v *memoryView) Create(ctx context.Context, first quorum.Claim) (quorum.Claim, error) {
	return v.change(ctx, func(stands quorum.Claim, known bool) (quorum.Claim, error) {
		return create(v.cluster, stands, known, first)
	})
}

// Swap implements quorum.Register.
func (v *memoryView) Swap(ctx context.Context, from, to quorum.Claim) (quorum.Claim, error) {
	return v.change(ctx, func(stands quorum.Claim, known bool) (quorum.Claim, error) {
		return swap(v.cluster, stands, known, from, to)
	})
}

// Check implements Witness.
func (v *memoryView) Check(ctx context.Context) Report { return check(ctx, KindMemory, v) }

// Close implements Witness.
func (v *memoryView) Close() error { return nil }

// create and swap are the steps that a register without a server takes itself.
func create(cluster string, stands quorum.Claim, known bool, first quorum.Claim) (quorum.Claim, error) {
	if err := first.Check(); err != nil {
		return stands, err
	}
	if err := ours(cluster, first); err != nil {
		return stands, err
	}
	if !known {
		return first, nil
	}
	return stands.Create(first)
}

func swap(cluster string, stands quorum.Claim, known bool, from, to quorum.Claim) (quorum.Claim, error) {
	if err := quorum.CheckSwap(from, to); err != nil {
		return stands, err
	}
	if err := ours(cluster, to); err != nil {
		return stands, err
	}
	if !known {
		return stands, quorum.ErrUnknown
	}
	return stands.Swap(from, to)
}

func ours(cluster string, c quorum.Claim) error {
	if c.Cluster != cluster {
		return fmt.Errorf("%w: it is of cluster %s, and this register was opened for %s", quorum.ErrBadClaim, c.Cluster, cluster)
	}
	return nil
}

// check asks a register what stands.
func check(ctx context.Context, kind string, r quorum.Register) Report {
	start := time.Now()
	c, err := r.Get(ctx)
	return Report{Kind: kind, Latency: time.Since(start), Claim: c, Err: err}
}
