package quorum

import (
	"fmt"

	"dyad/eventlog"
)

// Next is the rule book.
func Next(r Record, s Sight) Move { return rules{}.next(r, s) }

// rules are the rule book, with one guard taken away in a mutant.
type rules struct{ without guard }

// guard is a condition that a history without it would break. The tests take
// each away and demand that the walk over all histories finds the break.
type guard string

const (
	guardVoter     guard = "only a voter of the newest epoch goes on alone"
	guardClaim     guard = "the witness's claim is no newer than what this node knows"
	guardSwap      guard = "the witness has swapped before the store is reformed"
	guardSteady    guard = "a fence or a router's word counts only without a break"
	guardPairing   guard = "a node that gave a vote away asks before it goes on alone"
	guardHandover  guard = "a witness is asked before an unfinished handover is finished alone"
	guardHigher    guard = "a node that hears of a higher epoch without it steps back"
	guardFresh     guard = "a grant that is not exclusive ends with the start it was given in"
	guardTail      guard = "a tail that gives the log away is believed" // the deed's, in the model
	guardKeepTail  guard = "the tail of the store is kept"              // the deed's, in the model
	guardPromotion guard = "a learner gets a vote when it has it all"   // the deed's, in the model
	guardCompare   guard = "an append compares the epoch and the head"  // the log's, in the model
)

// need is ok, unless this guard was taken away.
func (u rules) need(g guard, ok bool) bool { return ok || u.without == g }

func (u rules) next(r Record, s Sight) Move {
	switch {
	case r.Step == Granted && s.Peer.Epoch > r.Epoch && s.Peer.Epoch >= r.Next:
		// Only an authority that is not exclusive (tor, operator) leads here.
		return u.stepBack(r, s.Peer.Epoch, s)
	case r.Step == Granted && s.Log.Epoch > r.Epoch && s.Log.Self && !s.Log.Others && !s.Log.Shared:
		return u.adopt(r, s)
	case r.Step == Granted:
		return Move{
			Record: r, Do: Reform, Epoch: r.Next, Mode: Suspended,
			Why: fmt.Sprintf("this node is taking the log over, by the word of the %s", r.By), Fix: "wait a moment",
		}
	case s.Log.Epoch > r.Epoch:
		return u.adopt(r, s)
	case u.superseded(r, s):
		return u.stepBack(r, max(s.Peer.Epoch, s.Witness.Claim.Epoch), s)
	}
	switch r.Mode {
	case Joining:
		return u.joining(r, s)
	case Stale:
		return u.stale(r, s)
	case Solo, Sole:
		return u.alone(r, s)
	case Pair:
		return u.pair(r, s)
	}
	return u.witnessed(r, s)
}

// superseded: somebody went on at a higher epoch without this node.
func (u rules) superseded(r Record, s Sight) bool {
	if r.Mode == Stale || r.Mode == Witnessed || u.without == guardHigher {
		return false
	}
	peer := s.Peer.heard() && s.Peer.Epoch > r.newest() && (s.Peer.Mode == Sole || s.Peer.Mode == Solo)
	c := s.Witness.Claim
	claim := s.Witness.Known && c.Epoch > r.newest() && c.Mode != Pair && c.Holder != s.Self
	return peer || claim
}

func (u rules) stepBack(r Record, epoch eventlog.Epoch, s Sight) Move {
	next := Record{Mode: Stale, Epoch: epoch}
	m := u.stale(next, s)
	m.Record = next
	return m
}

// adopt takes over what the log itself says of its writers: it was committed, so
// it is so.
func (u rules) adopt(r Record, s Sight) Move {
	next := Record{Mode: s.Log.Mode, Epoch: s.Log.Epoch}
	if !s.Log.Self {
		next.Mode = Stale
	}
	return u.next(next, s)
}

func (u rules) joining(r Record, s Sight) Move {
	return Move{
		Record: r, Do: Wait, Mode: Joining,
		Why: "this node is reading the log and has no vote yet", Fix: "wait; dyad status shows how far it is",
	}
}

// stale: what lies in the store is not the log. It is set aside as soon as the
// node that has the log can be asked.
func (u rules) stale(r Record, s Sight) Move {
	if s.Word.AcceptLoss && s.Word.Peer != "" && !s.Peer.heard() && !s.Witness.Configured {
		return u.grant(r, s, ByOperator)
	}
	m := Move{
		Record: r, Do: Wait, Mode: Stale,
		Why: fmt.Sprintf("the log went on without this node (epoch %d), and the other node does not answer", r.Epoch),
		Fix: "start dyad on the other node; if it is lost for good: dyad takeover --confirm PEER --accept-loss --reason TEXT",
	}
	if s.Peer.heard() && (s.Peer.Mode == Sole || s.Peer.Mode == Solo) {
		m.Do = Return
		m.Why, m.Fix = "the log went on without this node, which is joining again", "wait a moment"
	}
	return m
}

// alone: this node is the only writer, as far as it knows.
func (u rules) alone(r Record, s Sight) Move {
	m := Move{Record: r, Do: Wait, Mode: r.Mode}
	switch {
	case r.Step == Pairing:
		return u.pairing(r, s)
	case s.Log.Writable && s.Learner && !s.Leaving:
		next := r
		next.Step, next.Next = Pairing, r.Epoch+1
		return Move{Record: next, Do: Pairup, Epoch: next.Next, Mode: r.Mode}
	case s.Log.Writable && s.Word.Peer != "" && !s.Peer.heard():
		// Raises the epoch: how an operator ends a fork.
		return u.grant(r, s, BySelf)
	case s.Log.Writable:
		if m = u.tell(m, s); m.Do == Wait && s.Log.Shared && s.Log.Epoch == r.Epoch {
			m.Do = Shed // the witness knows, or there is none
		}
		return m
	case s.Log.Shared && s.Log.Refusing >= s.HoldDown:
		// The other node handed over and left, and its vote is still there.
		if s.Witness.Configured && u.without != guardHandover {
			return u.ask(r, s)
		}
		return u.grant(r, s, BySelf)
	}
	m.Why, m.Fix = "the store does not answer; it is started again", "wait a moment, then see the agent's log"
	return m
}

// pairing: the peer may have its vote already, and may have seen epoch.started
// before this node did.
func (u rules) pairing(r Record, s Sight) Move {
	if s.Log.Writable && !s.Leaving {
		return Move{Record: r, Do: Pairup, Epoch: r.Next, Mode: r.Mode}
	}
	m := Move{Record: r, Do: Wait, Mode: Suspended, Why: "the other node was about to get its vote and does not answer", Fix: "start dyad there"}
	if u.without == guardPairing && s.Log.Refusing >= s.HoldDown {
		return u.grant(r, s, BySelf)
	}
	return u.authority(m, r, s)
}

func (u rules) pair(r Record, s Sight) Move {
	switch {
	case s.Log.Writable && s.Leaving:
		return Move{Record: r, Do: Leave, Epoch: r.Epoch + 1, Mode: Pair, Why: "this node hands the log over and stops"}
	case s.Log.Writable:
		return u.tell(Move{Record: r, Do: Wait, Mode: Pair}, s)
	}
	m := Move{Record: r, Do: Wait, Mode: Suspended}
	if !s.Proven {
		m.Mode = Stale
	}
	if s.Peer.heard() {
		m.Why = fmt.Sprintf("the log needs both nodes; %s is there and its store does not answer", s.Peer.Name)
		m.Fix = "dyad status on " + s.Peer.Name
		return m
	}
	m.Why = fmt.Sprintf("the log needs both nodes, and %s is silent", s.Peer.Name)
	m.Fix = fmt.Sprintf("start dyad on %s; if it is off and stays off: dyad takeover --confirm %s --reason TEXT", s.Peer.Name, s.Peer.Name)
	if !s.Proven {
		m.Why = fmt.Sprintf("this node was down, and can't know whether %s, which is silent, went on without it", s.Peer.Name)
		m.Fix = fmt.Sprintf("start dyad on %s; if it is lost for good: dyad takeover --confirm %s --accept-loss --reason TEXT", s.Peer.Name, s.Peer.Name)
	}
	return u.authority(m, r, s)
}

// authority asks for the log, if this node may have it.
func (u rules) authority(m Move, r Record, s Sight) Move {
	if s.Leaving || !u.need(guardVoter, r.voter()) {
		return m
	}
	word := s.Word.Peer != "" && s.Word.Peer == s.Peer.Name && !s.Peer.heard()
	if !word && (s.Peer.heard() || s.Peer.Silent < s.HoldDown) {
		return m
	}
	switch {
	case s.Witness.Configured && word && s.Word.WithoutWitness:
		return u.grant(r, s, ByOperator)
	case s.Witness.Configured:
		a := u.ask(r, s)
		if a.Record == r {
			a.Mode, a.Why, a.Fix = m.Mode, m.Why+"; "+a.Why, m.Fix
		}
		return a
	case word:
		return u.grant(r, s, ByOperator)
	case s.Authority == ByFence && u.need(guardSteady, s.Steady) && s.Fenced:
		return u.grant(r, s, ByFence)
	case s.Authority == ByFence && s.Steady:
		m.Do, m.Fix = AskFence, "wait: the fence is switching "+s.Peer.Name+" off"
	case s.Authority == ByTor && u.need(guardSteady, s.Steady):
		return u.grant(r, s, ByTor)
	}
	return m
}

// ask asks the witness, or takes its word.
//
// Invariant: two nodes can't both get a yes. Each swap names what stood before,
// and a claim newer than what a node knows is never swapped by it.
func (u rules) ask(r Record, s Sight) Move {
	m := Move{Record: r, Do: Wait, Mode: Suspended}
	c := s.Witness.Claim
	to := Claim{Cluster: c.Cluster, Epoch: r.newest() + 1, Mode: Sole, Holder: s.Self, Seq: c.Seq, Hash: c.Hash}
	switch {
	case !s.Witness.Known:
		// The first question: what stands there?
		m.Do, m.Why = AskWitness, "the witness does not answer"
	case c.Holder == s.Self && c.Mode == Sole && c.Epoch > r.newest():
		m.Record = Record{Mode: r.Mode, Epoch: r.Epoch, Step: Granted, Next: c.Epoch, By: ByWitness}
		m.Do, m.Epoch = Reform, c.Epoch
	case u.without == guardSwap:
		return u.grant(r, s, ByWitness)
	case !u.need(guardClaim, c.Epoch <= r.newest()):
		m.Why = fmt.Sprintf("the witness gave the log to the other node at epoch %d", c.Epoch)
	default:
		m.Do, m.From, m.To, m.Why = AskWitness, c, to, "the witness is asked"
	}
	return m
}

// grant makes an authority's word durable; the reform follows.
func (u rules) grant(r Record, s Sight, by Authority) Move {
	next := Record{Mode: r.Mode, Epoch: r.Epoch, Step: Granted, Next: r.newest() + 1, By: by}
	return Move{Record: next, Do: Reform, Epoch: next.Next, Mode: Suspended, Why: "this node is taking the log over, by the word of the " + string(by), Fix: "wait a moment"}
}

// tell brings a witness up to date that lags behind the log.
func (u rules) tell(m Move, s Sight) Move {
	c := s.Witness.Claim
	if !s.Witness.Configured || s.Log.Epoch != m.Record.Epoch {
		return m
	}
	to := Claim{Cluster: c.Cluster, Epoch: m.Record.Epoch, Mode: m.Record.Mode}
	if m.Record.alone() {
		to.Holder = s.Self
	}
	if !s.Witness.Known || c.Epoch < to.Epoch {
		m.Do, m.From, m.To = TellWitness, c, to
	}
	return m
}

func (u rules) witnessed(r Record, s Sight) Move {
	m := Move{Record: r, Do: Wait, Mode: Witnessed}
	if !s.Log.Writable {
		m.Mode, m.Why, m.Fix = Suspended, "fewer than two of the three voters answer", "start dyad on another of them"
	}
	return m
}
