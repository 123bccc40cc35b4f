package gobgp

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"dyad/speaker"
)

// event is a change of a session on its way to the dispatcher.
type event struct {
	from    *engine
	peer    netip.Addr
	state   speaker.SessionState
	reason  string // GoBGP's word for why the state was left
	offered []bgp.Family
	final   *speaker.Session // a removed peer's last state, told as it is
}

var states = map[bgp.FSMState]speaker.SessionState{
	bgp.BGP_FSM_IDLE: speaker.Idle, bgp.BGP_FSM_CONNECT: speaker.Connect, bgp.BGP_FSM_ACTIVE: speaker.Active,
	bgp.BGP_FSM_OPENSENT: speaker.OpenSent, bgp.BGP_FSM_OPENCONFIRM: speaker.OpenConfirm,
	bgp.BGP_FSM_ESTABLISHED: speaker.Established,
}

// watch is called by GoBGP, in order, from a goroutine of its own.
func (s *Speaker) watch(e *engine, ev *apiutil.WatchEventMessage_PeerEvent) {
	if ev.Type != apiutil.PEER_EVENT_STATE {
		return
	}
	st := ev.Peer.State
	s.push(event{
		from: e, peer: st.NeighborAddress, state: states[st.SessionState], reason: st.DisconnectMessage,
		offered: offeredBy(st.RemoteCap),
	})
}

func (s *Speaker) push(ev event) {
	select {
	case s.events <- ev:
	case <-s.ctx.Done():
	}
}

// offeredBy lists the families in a router's capabilities; without any it knows
// IPv4 unicast only (RFC 4760 section 8).
func offeredBy(caps []bgp.ParameterCapabilityInterface) []bgp.Family {
	var out []bgp.Family
	for _, c := range caps {
		if mp, ok := c.(*bgp.CapMultiProtocol); ok {
			out = append(out, mp.CapValue)
		}
	}
	if out == nil {
		out = []bgp.Family{bgp.RF_IPv4_UC}
	}
	return out
}

// dispatch keeps the sessions' states and calls the Notify callback.
func (s *Speaker) dispatch() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case ev := <-s.events:
			if v := s.take(ev); v != nil {
				s.mu.Lock()
				f := s.notify
				s.mu.Unlock()
				if f != nil {
					f(*v)
				}
			}
		}
	}
}

// take folds an event into the session and returns it if its state changed.
func (s *Speaker) take(ev event) *speaker.Session {
	if ev.final != nil {
		return ev.final
	}
	var hold uint16
	if ev.state == speaker.Established {
		// The event does not carry it. An error means that GoBGP stops.
		hold, _ = ev.from.negotiated(s.ctx, ev.peer)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.peers[ev.peer]
	if n == nil || s.engine != ev.from || n.session.State == ev.state || ev.state == "" {
		return nil
	}
	was := n.session
	n.session.State, n.session.Since, n.session.HoldTime = ev.state, time.Now(), hold
	switch {
	case ev.state == speaker.Established:
		n.session.LastError, n.offered, n.explained = "", ev.offered, time.Time{}
	case was.State == speaker.Established:
		n.session.Flaps++
		n.offered = nil
		if n.session.LastError == "" {
			n.session.LastError = lostWords(ev.reason)
		}
		if !s.closed {
			s.wg.Go(func() { s.revive(n) })
		}
	case ev.state == speaker.Idle && (was.State == speaker.OpenConfirm || was.State == speaker.OpenSent):
		if n.session.LastError == "" {
			n.session.LastError = "the router ended the session while it was being opened"
		}
		s.probeLocked(n)
	}
	close(s.moved)
	s.moved = make(chan struct{})
	s.logSession(was, n.session)
	v := s.view(n)
	return &v
}

func (s *Speaker) logSession(was, now speaker.Session) {
	if was.State != speaker.Established && now.State != speaker.Established {
		return
	}
	s.opts.Log.Info("session "+strings.ToLower(string(now.State)), "event", "speaker.session", "reason", now.LastError,
		"peer", now.Peer, "was", was.State, "hold_time_s", now.HoldTime)
}

// lostWords says why an established session ended, from GoBGP's word for it.
// NOTIFICATIONs are told in more detail by the log; see noteLog.
func lostWords(reason string) string {
	switch {
	case reason == "read-failed", reason == "write-failed":
		return "the router closed the connection without a word: its BGP daemon, or the router, went down"
	case reason == "hold-timer-expired":
		return "hold time expired: the router was not heard in time. It, or the path to it, is down"
	case reason == "admin-down":
		return "shut down by this node"
	}
	return "the session ended: " + reason
}

// revive opens a lost session at once: GoBGP itself would idle for 5 s first.
func (s *Speaker) revive(n *neighbor) {
	s.op.Lock()
	defer s.op.Unlock()
	if s.isClosed() || s.neighborAt(n.conf.Address) != n {
		return
	}
	err := s.engine.deletePeer(s.ctx, n.conf.Address)
	if err == nil {
		err = s.engine.addPeer(s.ctx, n.conf, n.vrf)
	}
	if err != nil {
		s.opts.Log.Error("session not reopened", "event", "speaker.session", "reason", err.Error(), "peer", n.conf.Address)
	}
}

// explain sets the last error to something that names the cause. The caller
// holds the speaker's mu.
func (n *neighbor) explain(why string) {
	n.session.LastError, n.explained = why, time.Now()
}

// noteLog keeps why a session does not come up, or went down.
func (s *Speaker) noteLog(a netip.Addr, l logged) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.peers[a]
	if n == nil {
		return
	}
	note := notification{l.code, l.subcode, l.text}
	switch l.msg {
	case logConnect:
		n.session.LastError = connectWords(n.conf, s.opts.RemotePort, l.err)
	case logIO:
		if time.Since(n.explained) < explainedFor {
			return // the router sulks; why is known
		}
		n.session.LastError = "the router closed the connection before it said anything: it may not know this node's address as a neighbour"
	case logReceived:
		n.explain(note.received(n.conf))
	case logSent:
		if l.code == bgp.BGP_ERROR_FSM_ERROR {
			// The router answered our OPEN with a NOTIFICATION, and GoBGP
			// keeps to itself which one.
			s.probeLocked(n)
			return
		}
		if l.code == bgp.BGP_ERROR_CEASE {
			return // our own doing
		}
		if l.code != bgp.BGP_ERROR_OPEN_MESSAGE_ERROR {
			n.explain(note.sent(n.conf, 0))
			return
		}
		if time.Since(n.explained) >= explainedFor {
			n.explain(note.sent(n.conf, 0))
		}
		s.probeLocked(n)
	}
}

// Sessions implements [speaker.Speaker]. Advertised counts what GoBGP holds for
// the peer in the families both sides agreed on, which is its Adj-RIB-Out.
func (s *Speaker) Sessions() []speaker.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]speaker.Session, 0, len(s.peers))
	for _, n := range s.peers {
		out = append(out, s.view(n))
	}
	slices.SortFunc(out, func(a, b speaker.Session) int { return a.Peer.Compare(b.Peer) })
	return out
}

// view is the session with its counts. The caller holds mu.
func (s *Speaker) view(n *neighbor) speaker.Session {
	v := n.session
	for _, k := range n.withheld {
		v.Withheld += k
	}
	why := ""
	if v.Withheld > 0 {
		why = withheldWords(n.conf, v.Withheld)
	}
	if v.State == speaker.Established {
		for f, k := range n.installed {
			if slices.Contains(n.offered, f) {
				v.Advertised += k
				continue
			}
			v.Withheld += k
			why = fmt.Sprintf("%d %s routes are withheld: the router did not offer that family. Activate it for this neighbour on the router", k, f)
		}
	}
	v.LastError = cmp.Or(v.LastError, why)
	return v
}
