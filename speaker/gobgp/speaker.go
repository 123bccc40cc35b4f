package gobgp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"dyad/speaker"
)

// ErrClosed is what Set returns after Close.
var ErrClosed = errors.New("the BGP speaker is closed")

// Speaker speaks BGP. It implements [speaker.Speaker].
type Speaker struct {
	opts   Options
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	events chan event

	// op is held by whatever changes GoBGP; the dispatcher never takes it.
	op     sync.Mutex
	have   []speaker.Route          // what GoBGP was given; sorted
	wanted []speaker.Route          // the routes of the last wish; nil before the first
	tests  map[tested]speaker.Route // announced beside the wish

	mu     sync.Mutex // guards what follows; taken after op, never held across GoBGP
	engine *engine
	peers  map[netip.Addr]*neighbor
	notify func(speaker.Session)
	closed bool
	moved  chan struct{} // closed and replaced whenever a session changed
}

// neighbor is a peer with its routing instance and the state of its session.
type neighbor struct {
	conf    speaker.Peer
	vrf     string
	session speaker.Session
	// installed and withheld count routes by family.
	installed, withheld map[bgp.Family]int
	// offered are the families both sides know, once Established.
	offered []bgp.Family
	probed  time.Time // when the last probe began
	// explained is when LastError was last set to what names the cause.
	explained time.Time
}

var _ speaker.Speaker = (*Speaker)(nil)

// New makes a speaker. BGP starts with the first Set that has a peer.
func New(opts Options) (*Speaker, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Speaker{opts: opts, events: make(chan event, maxEvents), peers: map[netip.Addr]*neighbor{}, moved: make(chan struct{}), tests: map[tested]speaker.Route{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(s.dispatch)
	return s, nil
}

// Notify implements [speaker.Speaker].
func (s *Speaker) Notify(f func(speaker.Session)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notify = f
}

// Set implements [speaker.Speaker].
//
// A peer that stays as it is keeps its session, whatever happens to others. A
// peer whose ASNs or hold time change gets a new session, as BGP has no other
// way. A change of RouterID renews all sessions.
func (s *Speaker) Set(ctx context.Context, w speaker.Wish) (speaker.Change, error) {
	s.op.Lock()
	defer s.op.Unlock()
	if s.isClosed() {
		return speaker.Change{}, ErrClosed
	}
	want, err := checkPeers(w)
	if err != nil {
		return speaker.Change{}, err
	}
	if err := ctx.Err(); err != nil {
		return speaker.Change{}, err
	}
	if w.Routes != nil {
		s.wanted = speaker.SortRoutes(slices.Clone(w.Routes))
	}
	if e := s.running(); e != nil && e.routerID != w.RouterID && len(want) > 0 {
		s.halt(ctx)
	}
	if s.running() == nil {
		if len(want) == 0 {
			return speaker.Change{}, nil
		}
		if err := s.start(ctx, w); err != nil {
			return speaker.Change{}, err
		}
	}
	return s.apply(ctx, want)
}

// checkPeers refuses what GoBGP would take and a router would not.
func checkPeers(w speaker.Wish) (map[netip.Addr]speaker.Peer, error) {
	want := make(map[netip.Addr]speaker.Peer, len(w.Peers))
	for _, p := range w.Peers {
		p.Address = p.Address.Unmap()
		switch {
		case !p.Address.IsValid():
			return nil, errors.New("a peer has no address")
		case p.PeerASN == 0 || p.SelfASN == 0:
			return nil, fmt.Errorf("peer %s: an ASN is 0; give 1–65534 or 131072–4294967294", p.Address)
		case p.HoldTime == 1 || p.HoldTime == 2:
			return nil, fmt.Errorf("peer %s: hold time %d; give 0, or 3 or more seconds", p.Address, p.HoldTime)
		}
		if _, dup := want[p.Address]; dup {
			return nil, fmt.Errorf("peer %s is wished for twice", p.Address)
		}
		want[p.Address] = p
	}
	if len(want) > 0 && (!w.RouterID.Is4() || w.RouterID.IsUnspecified()) {
		return nil, fmt.Errorf("router ID %s: give an IPv4 address that is unique in the network, such as one of this node's", w.RouterID)
	}
	return want, nil
}

func (s *Speaker) start(ctx context.Context, w speaker.Wish) error {
	log := tap{base: s.opts.Log.Handler(), note: s.noteLog}
	e, err := startEngine(ctx, s.opts, w.RouterID, w.Peers[0].SelfASN, log, s.watch)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.engine = e
	s.mu.Unlock()
	return nil
}

// apply brings GoBGP from what it has to what is wanted. Existing sessions get
// their changed routes before anything else happens.
func (s *Speaker) apply(ctx context.Context, want map[netip.Addr]speaker.Peer) (speaker.Change, error) {
	var errs []error
	gone, fresh := s.peerDelta(want)
	for _, a := range gone {
		errs = append(errs, s.remove(ctx, a))
	}
	for _, p := range fresh {
		errs = append(errs, s.prepare(ctx, p))
	}
	delta := speaker.Diff(s.have, s.carried())
	c, err := s.hand(ctx, delta)
	errs = append(errs, err)
	for _, p := range fresh {
		if n := s.neighborAt(p.Address); n != nil {
			if err := s.engine.addPeer(ctx, p, n.vrf); err != nil {
				errs = append(errs, err, s.remove(ctx, p.Address))
			}
		}
	}
	return c, errors.Join(errs...)
}

// peerDelta lists the peers to remove and to add; a changed one is in both.
func (s *Speaker) peerDelta(want map[netip.Addr]speaker.Peer) (gone []netip.Addr, fresh []speaker.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a, n := range s.peers {
		if p, ok := want[a]; !ok || p != n.conf {
			gone = append(gone, a)
		}
	}
	for a, p := range want {
		if n := s.peers[a]; n == nil || n.conf != p {
			fresh = append(fresh, p)
		}
	}
	slices.SortFunc(gone, netip.Addr.Compare)
	slices.SortFunc(fresh, func(a, b speaker.Peer) int { return a.Address.Compare(b.Address) })
	return gone, fresh
}

// prepare makes the routing instance of a new peer; its session comes later.
func (s *Speaker) prepare(ctx context.Context, p speaker.Peer) error {
	vrf, err := s.engine.addVRF(ctx)
	if err != nil {
		return fmt.Errorf("prepare for peer %s: %w", p.Address, err)
	}
	if p.HoldTime == 0 {
		s.opts.Log.Info("hold time 0 cannot be proposed; proposing the longest", "event", "speaker.peer", "reason", "hold time 0",
			"peer", p.Address, "seconds", longestHold)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peers[p.Address] = &neighbor{
		conf: p, vrf: vrf,
		session: speaker.Session{
			Peer: p.Address, State: speaker.Idle, Since: time.Now(), PeerASN: p.PeerASN, SelfASN: p.SelfASN,
		},
		installed: map[bgp.Family]int{}, withheld: map[bgp.Family]int{},
	}
	return nil
}

// remove ends a peer: its session, its routes, its instance.
func (s *Speaker) remove(ctx context.Context, a netip.Addr) error {
	n := s.neighborAt(a)
	if n == nil {
		return nil
	}
	err := s.engine.deletePeer(ctx, a)
	paths := s.testPaths(n)
	s.have = slices.DeleteFunc(s.have, func(r speaker.Route) bool {
		if r.Peer != a {
			return false
		}
		if p, err := s.opts.path(n.conf, r); err == nil {
			paths = append(paths, p)
		}
		return true
	})
	for part := range slices.Chunk(paths, batchSize) {
		err = errors.Join(err, s.engine.take(n.vrf, part))
	}
	err = errors.Join(err, s.engine.deleteVRF(ctx, n.vrf))
	s.mu.Lock()
	delete(s.peers, a)
	was := n.session
	s.mu.Unlock()
	if was.State == speaker.Established {
		was.State, was.Since, was.HoldTime, was.LastError = speaker.Idle, time.Now(), 0, "the peer was removed or changed"
		s.push(event{final: &was})
	}
	return err
}

// Close implements [speaker.Speaker].
func (s *Speaker) Close(ctx context.Context) error {
	s.op.Lock()
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if first {
		s.halt(ctx)
		s.cancel()
	}
	s.op.Unlock()
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// halt ends all sessions with Cease, and GoBGP. The caller holds op.
func (s *Speaker) halt(ctx context.Context) {
	e := s.running()
	if e == nil {
		return
	}
	for _, v := range s.Sessions() {
		if v.State == speaker.Established {
			if err := e.shutPeer(ctx, v.Peer); err != nil {
				s.opts.Log.Warn("session not ended in order", "event", "speaker.close", "reason", err.Error(), "peer", v.Peer)
			}
		}
	}
	s.awaitDown(ctx)
	e.stop()
	s.mu.Lock()
	s.engine = nil
	s.peers = map[netip.Addr]*neighbor{}
	s.mu.Unlock()
	s.have = nil
	clear(s.tests)
}

// awaitDown waits until no session is up, at most ceaseGrace.
func (s *Speaker) awaitDown(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, ceaseGrace)
	defer cancel()
	for {
		s.mu.Lock()
		moved, up := s.moved, false
		for _, n := range s.peers {
			up = up || n.session.State == speaker.Established
		}
		s.mu.Unlock()
		if !up {
			return
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Speaker) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *Speaker) running() *engine {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.engine
}

func (s *Speaker) neighborAt(a netip.Addr) *neighbor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peers[a]
}
