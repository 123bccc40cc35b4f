package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"dyad/eventlog"
	"dyad/failover"
	"dyad/failover/beat"
	"dyad/projections"
	"dyad/speaker"
)

// feedEvery is how often an agent feeds its pulse, as in dyad/cluster.
const feedEvery = 200 * time.Millisecond

// epoch is when every simulation begins, by clocks that are right.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

var names = [2]string{"node-a", "node-b"}

// agent is one run of the agent's process: what dyad/cluster's loop does.
type agent struct {
	w    *world
	i    int
	boot string
	m    *failover.Machine
	born time.Duration

	state   projections.State
	synced  bool
	holding bool // the fold is known to be incomplete
	view    projections.View
	out     failover.Output
	anns    projections.Announcements
	have    []speaker.Route // handed to the protocol engine

	stopped bool
	haltAt  time.Duration // when it was stopped
	queue   []stamped
	wakeGen uint64
	feedDue bool
	fact    uint64 // of this boot
	report  failover.Report
	// peerSaid is the other node's newest report.
	peerSaid failover.Report
	seen     time.Duration // when the input of this step was
	watch    watch
	swings   []time.Duration // when it gave a takeover up
}

type stamped struct {
	at   time.Time
	seen time.Duration
	in   failover.Input
}

// wall is the time by a node's own clock.
func (w *world) wall(i int) time.Time { return epoch.Add(w.now + w.nodes[i].offset) }

func (w *world) startAgent(i int) {
	n := w.nodes[i]
	if n.agent != nil || !n.kernel {
		return
	}
	n.boots++
	a := &agent{w: w, i: i, boot: fmt.Sprintf("%s%d", names[i], n.boots), born: w.now, holding: n.checkpoint.Head.Seq == 0}
	a.state = n.checkpoint
	conf := failover.Config{Self: names[i], Boot: a.boot}
	if w.mutant == MutantNoDamping {
		conf.FlapWindow = time.Nanosecond
	}
	a.m = failover.New(conf, w.wall(i))
	a.view = a.m.View()
	n.agent = a
	w.say(i, "agent starts as %s", a.boot)
	n.bootStore()
	a.step(a.tell(failover.Log{Epoch: n.record.Epoch, Mode: string(n.record.Mode)}, failover.Tick{})...)
	if w.mutant == MutantNoSync {
		a.step(failover.Synced{OK: true})
	}
	w.after(w.between(5*time.Millisecond, 30*time.Millisecond), func() {
		if n.agent == a {
			w.startHeart(i)
		}
	})
	w.member(i)
	w.member(1 - i)
	w.connect(i)
	w.dirty()
	w.touch()
}

func (a *agent) node() *node { return a.w.nodes[a.i] }

// responsive: its loop runs.
func (a *agent) responsive() bool { return !a.stopped && !a.node().paused }

// fedAt is when it last fed its pulse.
func (a *agent) fedAt() time.Duration {
	if a.responsive() {
		return a.w.now
	}
	return a.haltAt - (a.haltAt-a.born)%feedEvery
}

// emit hands it an input of the pulse, seen now.
func (a *agent) emit(in failover.Input) {
	s := stamped{a.w.wall(a.i), a.w.now, in}
	a.w.after(pipeDelay, func() {
		if a.node().agent == a {
			a.take(s)
		}
	})
}

func (a *agent) take(s stamped) {
	if !a.responsive() {
		a.queue = append(a.queue, s)
		return
	}
	a.seen = s.seen
	a.stepAt(s.at, s.in)
}

// resume works off what came while it stood still.
func (a *agent) resume() {
	queue := a.queue
	a.queue = nil
	for _, s := range queue {
		a.seen = s.seen
		a.stepAt(s.at, s.in)
	}
	a.step(failover.Tick{})
	a.feedHeart()
}

func (a *agent) tell(more ...failover.Input) []failover.Input {
	var want failover.Peers
	for _, k := range a.state.PeerKeys() {
		want.Want = append(want.Want, k.Address)
	}
	return append([]failover.Input{
		want,
		failover.Nodes{Names: a.state.NodeNames()},
		failover.Drained{Nodes: a.state.Drained},
		failover.Services{Names: slices.Sorted(maps.Keys(a.state.Services))},
	}, more...)
}

func (a *agent) step(in ...failover.Input) {
	a.seen = a.w.now
	a.stepAt(a.w.wall(a.i), in...)
}

// stepAt runs the machine and carries out what comes of it.
func (a *agent) stepAt(at time.Time, inputs ...failover.Input) {
	w, was := a.w, a.view
	var facts []failover.Fact
	report := false
	for _, in := range inputs {
		if r, ok := in.(failover.PeerReport); ok {
			a.peerSaid = r.Report
		}
		a.out = a.m.Step(at, in)
		facts = append(facts, a.out.Facts...)
		report = report || a.out.ReportChanged
	}
	a.view = a.out.View
	a.announce()
	if was.Stance != a.view.Stance {
		w.stance(a, was.Stance)
		a.feedHeart()
	} else {
		a.feedLater()
	}
	if report {
		a.report = a.out.Report
		a.report.Applied = a.state.Head.Seq
		w.send(a.i)
	}
	for _, f := range facts {
		w.fact(a, f)
	}
	a.arm()
	if !maps.Equal(was.Nodes, a.view.Nodes) {
		w.dirty()
	}
}

// arm wakes it at the machine's deadline. A timer runs by a clock that is not set.
func (a *agent) arm() {
	a.wakeGen++
	if a.out.WakeAt.IsZero() {
		return
	}
	gen := a.wakeGen
	a.w.after(max(0, a.out.WakeAt.Sub(a.w.wall(a.i))), func() {
		if a.node().agent == a && a.wakeGen == gen && a.responsive() {
			a.step(failover.Tick{})
		}
	})
}

func (a *agent) feedNow() beat.Feed {
	up, wanted := a.m.Sessions()
	stance := a.view.Stance
	armed := (stance == projections.StanceNormal || stance == projections.StanceTakeover) && len(a.state.Services) > 0
	return beat.FeedOf(failover.Word{
		Epoch: a.state.Head.Epoch, Mode: a.state.Mode, Seq: a.state.Head.Seq, Stance: stance,
		SessionsUp: up, SessionsWanted: wanted, Stopping: stance == projections.StanceStepDown && a.view.Reason.Code == "stopping",
	}, armed)
}

func (a *agent) feedHeart() {
	h := a.node().heart
	if h == nil || h.stopped || !a.responsive() {
		return
	}
	if f := a.feedNow(); f != h.feed {
		h.feed, h.newsAt = f, a.w.now
		h.taker.Arm(a.w.now, f.Armed)
		h.act()
		h.wake()
	}
}

// feedLater feeds what has changed with the next of the regular feeds.
func (a *agent) feedLater() {
	h := a.node().heart
	if h == nil || a.feedDue || a.feedNow() == h.feed {
		return
	}
	a.feedDue = true
	a.w.after(feedEvery-(a.w.now-a.born)%feedEvery, func() {
		a.feedDue = false
		if a.node().agent == a {
			a.feedHeart()
		}
	})
}

// announce hands the speaker what the network should be told, if it differs.
func (a *agent) announce() {
	if a.holding && !a.synced {
		return
	}
	a.holding = false
	now := projections.Desired(a.state, a.view)
	if a.anns != nil && len(projections.Diff(a.anns, now)) == 0 {
		a.anns = now
		return
	}
	a.anns = now
	peers := make([]eventlog.Peer, 0, len(a.state.Peers))
	for _, k := range a.state.PeerKeys() {
		peers = append(peers, a.state.Peers[k])
	}
	wish := speaker.WishFrom(hops[a.i], peers, now)
	delta := speaker.Diff(a.have, wish.Routes)
	if delta.Empty() {
		return
	}
	a.have = wish.Routes
	a.w.update(a.i)
	c := delta.Change()
	a.w.fact(a, failover.Fact{
		Type: eventlog.TypeRoutesAnnounced, Stream: "routes/" + names[a.i], At: a.w.wall(a.i),
		Data: eventlog.RoutesPayload{Announced: c.Announced, Withdrawn: c.Withdrawn, Changed: c.Changed},
	})
}

// fold takes what the log has that this node has not.
func (a *agent) fold(events []eventlog.Envelope) {
	if len(events) == 0 {
		return
	}
	a.state = projections.Fold(a.state, events...)
	a.node().checkpoint = a.state
	a.step(a.tell()...)
}
