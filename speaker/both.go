package speaker

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dyad/projections"
)

// DefaultSettle is what routers get to use a route after their session came up,
// before the address is no longer answered for on the segment.
const DefaultSettle = 2 * time.Second

// Both is BGP and layer 2 as one [Speaker]. An address that changes from the one to
// the other is never without both: it is claimed on the segment before it is
// withdrawn, and is given up there only once a router that was told of it has had a
// session for a while.
type Both struct {
	bgp    Speaker
	layer2 Layer2
	settle time.Duration
	done   chan struct{}
	wg     sync.WaitGroup

	op       sync.Mutex // held by whatever sets; taken before mu
	routed   map[netip.Addr]bool
	claims   map[claimKey]Claim // as they stand, with those that stay for a while
	segments []projections.Segment
	last     Wish

	mu     sync.Mutex
	up     map[netip.Addr]time.Time // since when a session is Established
	notify func(Session)
	closed bool
}

type claimKey struct {
	iface   string
	address netip.Addr
}

func (c Claim) key() claimKey { return claimKey{c.Interface, c.Address} }

// NewBoth joins two speakers; settle is DefaultSettle if it is 0. It closes them
// when it is closed.
func NewBoth(bgp Speaker, layer2 Layer2, settle time.Duration) *Both {
	if settle <= 0 {
		settle = DefaultSettle
	}
	b := &Both{
		bgp: bgp, layer2: layer2, settle: settle, done: make(chan struct{}),
		routed: map[netip.Addr]bool{}, claims: map[claimKey]Claim{}, up: map[netip.Addr]time.Time{},
	}
	bgp.Notify(b.session)
	return b
}

// Notify implements [Speaker].
func (b *Both) Notify(f func(Session)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notify = f
}

// Sessions implements [Speaker].
func (b *Both) Sessions() []Session { return b.bgp.Sessions() }

// session notes which routers listen.
func (b *Both) session(s Session) {
	b.mu.Lock()
	f := b.notify
	_, was := b.up[s.Peer]
	switch {
	case s.State != Established:
		delete(b.up, s.Peer)
	case !was && !b.closed:
		b.up[s.Peer] = time.Now()
		b.wg.Go(b.release)
	}
	b.mu.Unlock()
	if f != nil {
		f(s)
	}
}

// release gives up on the segment, after a while, what a router has now.
func (b *Both) release() {
	timer := time.NewTimer(b.settle)
	defer timer.Stop()
	select {
	case <-b.done:
		return
	case <-timer.C:
	}
	ctx, cancel := context.WithTimeout(context.Background(), DefaultSetTimeout)
	defer cancel()
	b.op.Lock()
	defer b.op.Unlock()
	// What can't be given up now is given up with the next wish.
	_, _ = b.layer2.Set(ctx, b.onSegments(b.last))
}

// Set implements [Speaker]. Layer 2 comes first: its frames move traffic at once.
func (b *Both) Set(ctx context.Context, w Wish) (Change, error) {
	b.op.Lock()
	defer b.op.Unlock()
	c2, err2 := b.layer2.Set(ctx, b.onSegments(w))
	b.last = w
	if w.Routes != nil {
		b.routed = make(map[netip.Addr]bool, len(w.Routes))
		for _, r := range w.Routes {
			b.routed[r.Prefix.Addr()] = true
		}
	}
	b.forget(w.Peers)
	c, err := b.bgp.Set(ctx, w)
	c.Announced, c.Changed, c.Withdrawn = c.Announced+c2.Announced, c.Changed+c2.Changed, c.Withdrawn+c2.Withdrawn
	return c, errors.Join(err, err2)
}

// forget drops the sessions of routers that are no longer peers: the end of a
// session is told later than the wish that ends it.
func (b *Both) forget(peers []Peer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.up, func(a netip.Addr, _ time.Time) bool {
		return !slices.ContainsFunc(peers, func(p Peer) bool { return p.Address == a })
	})
}

// onSegments is the part of a wish for layer 2, with what stays there for a while.
// The caller holds op.
func (b *Both) onSegments(w Wish) Wish {
	if w.Claims == nil {
		return w
	}
	claims := make(map[claimKey]Claim, len(w.Claims))
	out := Wish{Claims: slices.Clone(w.Claims), Segments: w.Segments}
	for i, c := range out.Claims {
		before, stood := b.claims[c.key()]
		out.Claims[i].Known = b.routed[c.Address] || stood && before.Known
		claims[c.key()] = out.Claims[i]
	}
	if len(b.claims) > 0 && len(w.Routes) > 0 {
		told := b.toldTo(w)
		for k, c := range b.claims {
			if _, wished := claims[k]; wished || !told[k.address] {
				continue
			}
			c.Layer2Claim = projections.Layer2Claim{Mode: projections.ClaimSpare, Preferred: c.Preferred}
			claims[k] = c
			out.Claims = append(out.Claims, c)
		}
		for _, s := range b.segments {
			if !slices.ContainsFunc(w.Segments, func(x projections.Segment) bool { return x.Interface == s.Interface }) {
				out.Segments = append(slices.Clip(out.Segments), s)
			}
		}
	}
	b.claims, b.segments = claims, out.Segments
	return out
}

// toldTo tells for which addresses a router is to be told, and none listens yet.
func (b *Both) toldTo(w Wish) map[netip.Addr]bool {
	waits := map[netip.Addr]bool{}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range w.Routes {
		since, up := b.up[r.Peer]
		heard := up && time.Since(since) >= b.settle
		if before, seen := waits[r.Prefix.Addr()]; !seen || before {
			waits[r.Prefix.Addr()] = !heard
		}
	}
	return waits
}

// Close implements [Speaker].
func (b *Both) Close(ctx context.Context) error {
	b.mu.Lock()
	first := !b.closed
	b.closed = true
	b.mu.Unlock()
	if first {
		close(b.done)
		b.wg.Wait()
	}
	return errors.Join(b.layer2.Close(ctx), b.bgp.Close(ctx))
}
