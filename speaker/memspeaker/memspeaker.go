// Package memspeaker is a [speaker.Speaker] in memory. It tells nobody: it
// records the wish, and its sessions go up and down as a script says. Whole
// clusters are simulated with it, in real or virtual time.
package memspeaker

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dyad/speaker"
)

// maxQueue bounds the session changes that wait for the Notify callback; while
// it is full, whoever changes a session waits.
const maxQueue = 1024

// ErrClosed is what Set returns after Close.
var ErrClosed = errors.New("the speaker is closed")

// Options script the sessions. The callbacks may call Sessions, Visible, Wish
// and Sets, but nothing that changes the speaker.
type Options struct {
	// Connect is how long after a Set a new peer's session comes up; 0 brings
	// it up within Set, negative leaves it down until Establish.
	Connect time.Duration
	// OnSet, if not nil, is called within every Set, before anything changes.
	// An error makes Set fail and change nothing.
	OnSet func(w speaker.Wish) error
	// OnVisible, if not nil, is called whenever what routers see may have
	// changed, with the result of Visible.
	OnVisible func(routes []speaker.Route)
}

// Speaker is a speaker in memory.
type Speaker struct {
	opts   Options
	events chan speaker.Session
	done   chan struct{}
	timers sync.WaitGroup

	op sync.Mutex // held by whatever changes the speaker; taken before mu

	mu     sync.Mutex
	notify func(speaker.Session)
	wish   speaker.Wish
	peers  map[netip.Addr]*peer
	sets   int
	closed bool
}

type peer struct {
	conf    speaker.Peer
	session speaker.Session
	timer   *time.Timer
}

// New starts a speaker. Close ends it.
func New(opts Options) *Speaker {
	s := &Speaker{
		opts:   opts,
		events: make(chan speaker.Session, maxQueue),
		done:   make(chan struct{}),
		peers:  map[netip.Addr]*peer{},
		wish:   speaker.Wish{Routes: []speaker.Route{}},
	}
	go s.dispatch()
	return s
}

func (s *Speaker) dispatch() {
	defer close(s.done)
	for ev := range s.events {
		s.mu.Lock()
		f := s.notify
		s.mu.Unlock()
		if f != nil {
			f(ev)
		}
	}
}

// Notify implements [speaker.Speaker].
func (s *Speaker) Notify(f func(speaker.Session)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notify = f
}

// Set implements [speaker.Speaker].
func (s *Speaker) Set(ctx context.Context, w speaker.Wish) (speaker.Change, error) {
	if err := ctx.Err(); err != nil {
		return speaker.Change{}, err
	}
	s.op.Lock()
	defer s.op.Unlock()
	if s.opts.OnSet != nil {
		if err := s.opts.OnSet(w); err != nil {
			return speaker.Change{}, err
		}
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return speaker.Change{}, ErrClosed
	}
	s.sets++
	evs := s.setPeers(w.Peers)
	routes := w.Routes
	if routes == nil {
		routes = s.wish.Routes
	}
	routes = slices.DeleteFunc(slices.Clone(routes), func(r speaker.Route) bool { return s.peers[r.Peer] == nil })
	routes = speaker.SortRoutes(routes)
	delta := speaker.Diff(s.wish.Routes, routes)
	s.wish = speaker.Wish{RouterID: w.RouterID, Peers: slices.Clone(w.Peers), Routes: routes}
	s.mu.Unlock()
	if !delta.Empty() || len(evs) > 0 {
		s.tell(evs)
	}
	return delta.Change(), nil
}

// setPeers adds, removes and replaces peers. The caller holds mu.
func (s *Speaker) setPeers(want []speaker.Peer) []speaker.Session {
	var evs []speaker.Session
	keep := map[netip.Addr]bool{}
	for _, c := range want {
		keep[c.Address] = true
		if p := s.peers[c.Address]; p != nil {
			if p.conf == c {
				continue
			}
			evs = append(evs, s.drop(p)...)
		}
		evs = append(evs, s.add(c)...)
	}
	for a, p := range s.peers {
		if !keep[a] {
			evs = append(evs, s.drop(p)...)
			delete(s.peers, a)
		}
	}
	slices.SortStableFunc(evs, func(a, b speaker.Session) int { return a.Peer.Compare(b.Peer) })
	return evs
}

func (s *Speaker) add(c speaker.Peer) []speaker.Session {
	p := &peer{conf: c, session: speaker.Session{
		Peer: c.Address, State: speaker.Active, Since: time.Now(), PeerASN: c.PeerASN, SelfASN: c.SelfASN,
	}}
	s.peers[c.Address] = p
	switch {
	case s.opts.Connect == 0:
		return []speaker.Session{p.shift(speaker.Established, "")}
	case s.opts.Connect > 0:
		s.timers.Add(1)
		p.timer = time.AfterFunc(s.opts.Connect, func() {
			defer s.timers.Done()
			s.change(c.Address, p, speaker.Established, "")
		})
	}
	return nil
}

// drop ends a peer. The caller holds mu.
func (s *Speaker) drop(p *peer) []speaker.Session {
	if p.timer != nil && p.timer.Stop() {
		s.timers.Done()
	}
	if p.session.State != speaker.Established {
		return nil
	}
	return []speaker.Session{p.shift(speaker.Idle, "the peer was removed")}
}

// shift changes the state and returns the session after it.
func (p *peer) shift(to speaker.SessionState, why string) speaker.Session {
	if p.session.State == speaker.Established {
		p.session.Flaps++
	}
	p.session.State, p.session.Since, p.session.LastError, p.session.HoldTime = to, time.Now(), why, 0
	if to == speaker.Established {
		p.session.HoldTime = p.conf.HoldTime
	}
	return p.session
}

// change moves a session if it is not there yet; p, if not nil, must still be
// the peer at that address.
func (s *Speaker) change(a netip.Addr, p *peer, to speaker.SessionState, why string) bool {
	s.op.Lock()
	defer s.op.Unlock()
	s.mu.Lock()
	now := s.peers[a]
	if s.closed || now == nil || p != nil && now != p || now.session.State == to {
		s.mu.Unlock()
		return false
	}
	ev := now.shift(to, why)
	s.mu.Unlock()
	s.tell([]speaker.Session{ev})
	return true
}

// tell queues session changes and calls OnVisible. The caller holds op only.
func (s *Speaker) tell(evs []speaker.Session) {
	for _, ev := range evs {
		s.events <- ev
	}
	if s.opts.OnVisible != nil {
		s.opts.OnVisible(s.Visible())
	}
}

// Establish brings the session with a peer up. It returns false if there is no
// such peer or the session is up.
func (s *Speaker) Establish(a netip.Addr) bool { return s.change(a, nil, speaker.Established, "") }

// Fail takes the session with a peer down, with the reason. It returns false if
// there is no such peer or the session is down.
func (s *Speaker) Fail(a netip.Addr, why string) bool { return s.change(a, nil, speaker.Idle, why) }

// Sessions implements [speaker.Speaker].
func (s *Speaker) Sessions() []speaker.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	count := map[netip.Addr]int{}
	for _, r := range s.wish.Routes {
		count[r.Peer]++
	}
	out := make([]speaker.Session, 0, len(s.peers))
	for _, p := range s.peers {
		v := p.session
		if v.State == speaker.Established {
			v.Advertised = count[v.Peer]
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b speaker.Session) int { return a.Peer.Compare(b.Peer) })
	return out
}

// Wish returns what stands: the router ID, the peers, and the routes of all
// peers, whether their sessions are up or not.
func (s *Speaker) Wish() speaker.Wish {
	s.mu.Lock()
	defer s.mu.Unlock()
	return speaker.Wish{RouterID: s.wish.RouterID, Peers: slices.Clone(s.wish.Peers), Routes: slices.Clone(s.wish.Routes)}
}

// Visible returns what routers see: the routes of all established sessions,
// sorted by prefix, then peer.
func (s *Speaker) Visible() []speaker.Route {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []speaker.Route{}
	if s.closed {
		return out
	}
	for _, r := range s.wish.Routes {
		if p := s.peers[r.Peer]; p != nil && p.session.State == speaker.Established {
			out = append(out, r)
		}
	}
	return out
}

// Sets counts the calls of Set that were carried out.
func (s *Speaker) Sets() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sets
}

// Close implements [speaker.Speaker]. Routers see nothing afterwards.
func (s *Speaker) Close(ctx context.Context) error {
	s.op.Lock()
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	for _, p := range s.peers {
		if p.timer != nil && p.timer.Stop() {
			s.timers.Done()
		}
	}
	s.mu.Unlock()
	if first {
		if s.opts.OnVisible != nil {
			s.opts.OnVisible(s.Visible())
		}
		close(s.events)
	}
	s.op.Unlock()
	wait := make(chan struct{})
	go func() {
		s.timers.Wait()
		<-s.done
		close(wait)
	}()
	select {
	case <-wait:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
