package quorum

import (
	"fmt"

	"dyad/eventlog"
)

// Next is the rule book.
func Next(r Record, s Sight) Move { return rules{}.next(r, s) }

// rules are the rule book, with one guard taken away in a mutant.
type rules struct{ without guard }

// guard is a condition without which some history breaks a promise. The tests take
// each away and demand that the walk over all histories finds the break.
type guard string

const (
	guardSwap     guard = "the witness has swapped before the store is reformed"
	guardProven   guard = "a word of anybody but a witness counts only where the log could be written since the start"
	guardSteady   guard = "a router's word counts only while the routers have stayed up"
	guardFenced   guard = "a fence's word counts only once the other node is read back as off"
	guardPairing  guard = "a node that gave a vote away asks before it goes on alone"
	guardHigher   guard = "a node that hears of a higher epoch without it steps back"
	guardYields   guard = "a node goes on when the other one says that the log is at a later epoch without it"
	guardChosen   guard = "a node to which the witness gave the log takes it, also when the other one is heard"
	guardChoice   guard = "a node that has the witness's word does not step back before one that steps back before it"
	guardRunning  guard = "a takeover that was broken off is over when the store runs"
	guardFresh    guard = "a grant that is not exclusive ends with the start it was given in"
	guardHeard    guard = "a grant that is not exclusive ends when the other node is heard before the store was killed" // the deed's, in the model
	guardTail     guard = "a tail that gives the log away is believed"                                                  // the deed's, in the model
	guardKeepTail guard = "the tail of the store is kept"                                                               // the deed's, in the model
	guardCompare  guard = "an append compares the epoch"                                                                // the log's, in the model
)

// need is ok, unless this guard was taken away.
func (u rules) need(g guard, ok bool) bool { return ok || u.without == g }

func (u rules) next(r Record, s Sight) Move {
	switch {
	case s.External:
		return external(r, s)
	case r.Step == Granted && s.Peer.Epoch >= r.Next && u.need(guardChoice, !r.Exclusive() && s.Peer.alone()):
		// Two words contradict each other.
		return u.stepBack(r, s.Peer.Epoch, s)
	case r.Step == Granted && s.Log.Epoch > r.Epoch && s.Log.Self && !s.Log.Others && !s.Log.Shared && u.need(guardRunning, s.Log.Writable):
		return u.adopt(r, s)
	case r.Step == Granted:
		return u.reform(r)
	case s.Log.Epoch > r.Epoch:
		return u.adopt(r, s)
	case u.without != guardChosen && r.Writes() && s.chosen(r):
		return u.ask(r, s)
	case u.without != guardYields && r.Writes() && s.yields(r) && s.Log.Refusing >= s.HoldDown:
		return u.grant(r, s.Peer.Epoch, BySelf)
	case u.without != guardHigher && superseded(r, s):
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
	return witnessed(r, s)
}

// chosen: the witness gave this node the log, and the other one is away or knows
// it. That one can't write any more, so this one goes on, heard or not.
func (s Sight) chosen(r Record) bool {
	return s.Witness.Known && s.Witness.Claim.gives(s.Self, r.newest()) && (!s.Log.Writable || s.yields(r))
}

// yields: the other node says that the log went on without it at an epoch that this
// one does not know.
//
// Invariant: it can only mean this node. The other one has read a handover that
// this one has on its disk, or a claim; it has no vote any more, and that lies on
// its disk.
func (s Sight) yields(r Record) bool {
	return s.Peer.heard() && s.Peer.Mode == Stale && s.Peer.Epoch > r.newest()
}

// superseded: somebody went on at a higher epoch without this node.
func superseded(r Record, s Sight) bool {
	if r.Mode == Stale {
		return false
	}
	peer := s.Peer.heard() && s.Peer.alone() && s.Peer.Epoch > r.newest()
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
	if s.Word.AcceptLoss && s.Word.Peer != "" && !s.Peer.heard() && (!s.Witness.Configured || s.Word.WithoutWitness) {
		return u.grant(r, 0, ByOperator)
	}
	m := Move{
		Record: r, Do: Wait, Mode: Stale,
		Why: fmt.Sprintf("the log went on without this node (epoch %d), and the other node does not answer", r.Epoch),
		Fix: startOrLose(s),
	}
	switch {
	case s.Leaving:
		m.Why, m.Fix = "the log goes on without this node, which is stopping", "start dyad here again"
	case s.Peer.heard() && (s.Peer.alone() || s.Peer.Mode == Witnessed):
		m.Do = Return
		m.Why, m.Fix = "the log went on without this node, which is joining again", "wait a moment"
	}
	return m
}

// startOrConfirm is what helps where nobody went on.
func startOrConfirm(s Sight) string {
	return fmt.Sprintf("start dyad on %s; if it is off and stays off: dyad takeover --confirm %s --reason TEXT", s.Peer.Name, s.Peer.Name)
}

// startOrLose is what helps where the other node may have gone on.
func startOrLose(s Sight) string {
	flags := ""
	if s.Witness.Configured {
		flags = " --without-witness"
	}
	return fmt.Sprintf("start dyad on %s; if it is lost for good: dyad takeover --confirm %s --accept-loss%s --reason TEXT", s.Peer.Name, s.Peer.Name, flags)
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
		return u.grant(r, 0, BySelf)
	case s.Log.Writable:
		if m = u.tell(m, s); m.Do == Wait && s.Log.Shared && s.Log.Epoch == r.Epoch {
			m.Do = Shed // the witness knows, or there is none
		}
		return m
	case s.Log.Shared && s.Log.Refusing >= s.HoldDown:
		// The other node handed over and left, and its vote is still there. It
		// told the witness before it told the log.
		return u.grant(r, 0, BySelf)
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
	m := Move{Record: r, Do: Wait, Mode: Suspended, Why: s.Peer.Name + " was about to get its vote and does not answer", Fix: startOrConfirm(s)}
	if !s.Proven {
		m.Mode, m.Fix = Stale, startOrLose(s)
	}
	if u.without == guardPairing && s.Log.Refusing >= s.HoldDown {
		return u.grant(r, 0, BySelf)
	}
	return u.authority(m, r, s)
}

func (u rules) pair(r Record, s Sight) Move {
	switch {
	case s.Log.Writable && s.Leaving:
		return Move{Record: r, Do: Leave, Epoch: r.Epoch + 1, Mode: Pair, Why: "this node hands the log over and stops"}
	case s.Log.Writable && s.Third.Unwanted:
		return Move{Record: r, Do: Shed, Mode: Pair}
	case s.Log.Writable && s.Third.Named && s.Learner && s.Log.Epoch == r.Epoch:
		return Move{Record: r, Do: Widen, Epoch: r.Epoch + 1, Mode: Pair}
	case s.Log.Writable:
		m := u.tell(Move{Record: r, Do: Wait, Mode: Pair}, s)
		if c := s.Witness.Claim; m.Do == Wait && s.Witness.Known && s.Log.Epoch == r.Epoch && c.Mode == Pair && c.Epoch > r.Epoch {
			m.Do, m.Epoch = Raise, c.Epoch
		}
		return m
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
	m.Fix = startOrConfirm(s)
	if !s.Proven {
		m.Why = fmt.Sprintf("this node was down, and can't know whether %s, which is silent, went on without it", s.Peer.Name)
		m.Fix = startOrLose(s)
	}
	return u.authority(m, r, s)
}

// authority asks for the log. Only voters come here: a node that is learning, or
// was passed over, has no proof, and the claim of a witness is the other one's.
//
// Invariant: what anybody but a witness says is about the other node as it is now.
// Whether that went on alone before, only a node knows that could write since its
// start.
func (u rules) authority(m Move, r Record, s Sight) Move {
	word := s.Word.Peer != "" && s.Word.Peer == s.Peer.Name && !s.Peer.heard()
	if s.Leaving || !word && (s.Peer.heard() || s.Peer.Silent < s.HoldDown) {
		return m
	}
	proven := u.need(guardProven, s.Proven)
	vouched := word && (proven || s.Word.AcceptLoss)
	switch {
	case s.Witness.Configured && vouched && s.Word.WithoutWitness:
		return u.grant(r, 0, ByOperator)
	case s.Witness.Configured:
		a := u.ask(r, s)
		if a.Record == r {
			a.Mode, a.Why, a.Fix = m.Mode, m.Why+"; "+a.Why, m.Fix
		}
		return a
	case vouched:
		return u.grant(r, 0, ByOperator)
	case !proven:
		return m
	case s.Authority == ByFence && u.need(guardFenced, s.Fenced):
		return u.grant(r, 0, ByFence)
	case s.Authority == ByFence:
		m.Do, m.Fix = AskFence, "wait: the fence is switching "+s.Peer.Name+" off"
	case s.Authority == ByTor && u.need(guardSteady, s.Steady):
		return u.grant(r, 0, ByTor)
	case s.Beacon:
		m.Why += ", and alive: it answers by its beacon through a router"
		m.Fix = "mend the paths between the nodes: dyad doctor"
	}
	return m
}

// ask asks the witness, or takes its word.
//
// Invariant: two nodes can't both get a yes. Each swap names what stood before,
// and epochs only rise: a claim newer than what a node knows is never swapped by
// it ([CheckSwap]).
func (u rules) ask(r Record, s Sight) Move {
	m := Move{Record: r, Do: Wait, Mode: Suspended}
	c := s.Witness.Claim
	to := Claim{Cluster: c.Cluster, Epoch: r.newest() + 1, Mode: Sole, Holder: s.Self, Seq: c.Seq, Hash: c.Hash}
	switch {
	case !s.Witness.Known:
		// The first question: what stands there?
		m.Do, m.Why = AskWitness, "the witness does not answer"
	case c.gives(s.Self, r.newest()):
		return u.grant(r, c.Epoch, ByWitness)
	case u.without == guardSwap:
		return u.grant(r, 0, ByWitness)
	case c.Epoch > r.newest():
		m.Why = "the witness holds " + c.String() + ", which this node has not taken part in"
	default:
		m.Do, m.From, m.To, m.Why = AskWitness, c, to, "the witness is asked"
	}
	return m
}

// grant makes an authority's word durable; the reform follows. The epoch is the
// lowest that the word is for.
func (u rules) grant(r Record, epoch eventlog.Epoch, by Authority) Move {
	next := Record{Mode: r.Mode, Epoch: r.Epoch, Step: Granted, Next: max(epoch, r.newest()+1), By: by}
	return u.reform(next)
}

func (u rules) reform(r Record) Move {
	why := "this node is taking the log over, by the word of the " + string(r.By)
	if r.By == BySelf {
		why = "this node is taking the log over: no other one can have it"
	}
	return Move{Record: r, Do: Reform, Epoch: r.Next, Mode: Suspended, Why: why, Fix: "wait a moment"}
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
