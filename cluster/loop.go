package cluster

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"time"

	"dyad/eventlog"
	"dyad/failover"
	"dyad/projections"
	"dyad/speaker"
)

// Times of the loop.
const (
	followRetry    = 500 * time.Millisecond
	followRetryMax = 5 * time.Second
)

// loop owns State and Machine. Everything it does between two inputs is in
// memory; what takes time is handed to others.
func (a *Agent) loop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	feed := time.NewTicker(feedEvery)
	defer feed.Stop()
	a.step(timer, a.tell(failover.Tick{})...)
	stop, quiet := a.stop, a.quiet
	for {
		select {
		case <-ctx.Done():
			return
		case in := <-a.inputs:
			a.input(timer, in)
		case batch := <-a.steps:
			a.fold(batch)
			a.step(timer, a.tell(failover.Synced{OK: a.synced})...)
		case d := <-a.done:
			a.finished(d)
		case <-timer.C:
			a.step(timer, failover.Tick{})
		case <-feed.C:
			a.feed()
		case <-stop:
			stop = nil
			a.step(timer, failover.Stopping{})
		case <-quiet:
			quiet = nil
			a.step(timer, failover.Silence{})
		}
	}
}

// input takes one reading and steps.
func (a *Agent) input(timer *time.Timer, in stamped) {
	switch v := in.in.(type) {
	case failover.PeerReport:
		a.reports[v.Node] = v.Report
	case failover.Synced:
		if a.synced = v.OK; v.OK {
			a.saver.put(a.state)
		}
	}
	a.timeLine(in)
	a.stepAt(timer, in.at, in.in)
}

// fold applies a step of the log.
//
// Invariant: half a fold is never a checkpoint; the one before it stays.
func (a *Agent) fold(step logStep) {
	if step.anew {
		a.state, a.holding, a.synced = projections.State{}, true, false
	}
	a.state = projections.Fold(a.state, step.events...)
	a.newsAt = a.p.Now()
	for _, e := range step.events {
		a.keys.add(e)
	}
	if a.p.OnState != nil {
		a.p.OnState(a.state)
	}
	if !a.holding || a.synced {
		a.saver.put(a.state)
	}
}

// tell lists what the machine must know of the state, and more.
func (a *Agent) tell(more ...failover.Input) []failover.Input {
	var want failover.Peers
	for _, k := range a.state.PeerKeys() {
		want.Want = append(want.Want, k.Address)
	}
	return append([]failover.Input{
		want,
		failover.Nodes{Names: a.state.NodeNames()},
		failover.Drained{Nodes: a.state.Drained},
		failover.Allowed{Nodes: a.state.Failbacks},
		failover.Services{Names: slices.Sorted(maps.Keys(a.state.Services))},
	}, more...)
}

func (a *Agent) step(timer *time.Timer, in ...failover.Input) {
	a.stepAt(timer, a.p.Now(), in...)
}

// stepAt runs the machine over the inputs, which were seen at the given time,
// and carries out what comes of it: first the announcements, then the words.
func (a *Agent) stepAt(timer *time.Timer, at time.Time, inputs ...failover.Input) {
	var last failover.Output
	var facts []failover.Fact
	report := false
	for _, in := range inputs {
		last = a.machine.Step(at, in)
		facts = append(facts, last.Facts...)
		report = report || last.ReportChanged
	}
	was := a.view
	a.view, a.contacts = last.View, last.Contacts
	a.announce(was)
	if was.Stance != a.view.Stance {
		a.feed()
	}
	if report {
		r := last.Report
		r.Applied, r.API = a.state.Head.Seq, a.apiAddress()
		a.with.Detector.Announce(r)
	}
	for _, f := range facts {
		a.rec.fact(f)
	}
	arm(timer, last.WakeAt, a.p.Now())
}

func arm(timer *time.Timer, at, now time.Time) {
	if at.IsZero() {
		timer.Reset(time.Hour)
		return
	}
	timer.Reset(max(0, at.Sub(now)))
}

func (a *Agent) apiAddress() string { return a.state.Nodes[a.p.Config.Node].API }

// announce computes what this node should tell the network and hands it over,
// if it differs from what it said before.
//
// Invariant: while the fold is known to be incomplete (holding), nothing is
// handed over, so nothing that stands is withdrawn.
func (a *Agent) announce(was projections.View) {
	prev := a.Snapshot()
	if a.holding && !a.synced {
		a.publish(prev.Announcements)
		return
	}
	anew := a.holding
	a.holding = false
	if !anew && a.state.Head == prev.State.Head && sameView(was, a.view) && prev.Announcements != nil {
		a.publish(prev.Announcements)
		return
	}
	now := projections.Desired(a.state, a.view)
	changed := prev.Announcements == nil || len(projections.Diff(prev.Announcements, now)) > 0 || !speaker.SameClaims(prev.Announcements, now)
	if changed || !samePeers(prev.State, a.state) {
		a.wish(now)
	}
	if a.state.Head != prev.State.Head || prev.Announcements == nil || anew {
		a.addresses.put(serviceAddresses(a.state))
		a.services.put(a.state.Services)
	}
	a.publish(now)
}

// wish tells the speaker everything.
func (a *Agent) wish(now projections.Announcements) {
	peers := make([]eventlog.Peer, 0, len(a.state.Peers))
	for _, k := range a.state.PeerKeys() {
		peers = append(peers, a.state.Peers[k])
	}
	w := speaker.WishFrom(a.p.Config.RouterID, peers, now)
	w.Claims, w.Segments = speaker.ClaimsFrom(now), projections.Segments(a.state, a.view)
	decided := a.p.Now()
	a.genSilent = nil
	for node, t := range a.timeline {
		if t.Decided.IsZero() && a.view.Stance == projections.StanceTakeover {
			t.Decided = decided
			a.timeline[node] = t
			a.genSilent = append(a.genSilent, node)
		}
	}
	a.genRung, a.genAt = "", decided
	for _, an := range now {
		if an.Announced {
			a.genRung = an.Rung
			break
		}
	}
	a.gen = a.rc.Want(w)
}

// finished takes the reconciler's report.
func (a *Agent) finished(d wishDone) {
	s := *a.Snapshot()
	s.Done, s.SpeakerError = d.gen, ""
	if d.err != nil {
		s.SpeakerError = d.err.Error()
	}
	if d.gen == a.gen && d.err == nil {
		for _, node := range a.genSilent {
			t := a.timeline[node]
			t.Announced = d.at
			a.timeline[node] = t
		}
		a.genSilent = nil
		s.Timeline = maps.Clone(a.timeline)
	}
	a.snap.Store(&s)
	a.changed.pulse()
	if d.err != nil || d.change.Empty() {
		return
	}
	a.rec.fact(failover.Fact{
		Type: eventlog.TypeRoutesAnnounced, Stream: "routes/" + a.p.Config.Node, At: d.at,
		Data: eventlog.RoutesPayload{
			Announced: d.change.Announced, Withdrawn: d.change.Withdrawn, Changed: d.change.Changed,
			Rung: string(a.genRung), Took: max(0, d.at.Sub(a.genAt)),
		},
	})
}

// publish shows the loop's state to everybody else.
func (a *Agent) publish(now projections.Announcements) {
	old := a.Snapshot()
	a.snap.Store(&Snapshot{
		State: a.state, View: a.view, Announcements: now, Synced: a.synced,
		Reports: maps.Clone(a.reports), Contacts: a.contacts, Timeline: maps.Clone(a.timeline),
		Generation: a.gen, Done: old.Done, SpeakerError: old.SpeakerError, At: a.newsAt,
	})
	a.changed.pulse()
}

func sameView(x, y projections.View) bool {
	return x.Stance == y.Stance && x.Reason == y.Reason && maps.Equal(x.Nodes, y.Nodes) && maps.Equal(x.Unhealthy, y.Unhealthy) &&
		maps.Equal(x.Stances, y.Stances)
}

// samePeers tells whether neither routers nor the switches' ports have changed.
func samePeers(x, y projections.State) bool {
	return maps.Equal(x.Peers, y.Peers) && maps.EqualFunc(x.Switches, y.Switches, func(a, b eventlog.Switch) bool {
		return reflect.DeepEqual(a, b)
	})
}

// follow keeps the loop fed from the log. If what the log holds does not
// continue the checkpoint, it folds anew from the start.
func (a *Agent) follow(ctx context.Context) {
	after := a.startHead
	wait := followRetry
	for ctx.Err() == nil {
		for batch, err := range a.p.Log.Follow(ctx, after) {
			if err != nil {
				after = a.followFailed(ctx, after, err)
				break
			}
			wait = followRetry
			if len(batch) == 0 { // caught up with what was there when it began
				if a.awaitFolded(ctx, after.Seq) && !a.Snapshot().Synced {
					a.Emit(failover.Synced{OK: true})
				}
				continue
			}
			after = eventlog.HeadOf(batch[len(batch)-1])
			if !a.deliver(ctx, logStep{events: batch}) {
				return
			}
		}
		if !pause(ctx, wait) {
			return
		}
		wait = min(2*wait, followRetryMax)
	}
}

// followFailed decides where to go on after the log ended the follower.
func (a *Agent) followFailed(ctx context.Context, after eventlog.Head, err error) eventlog.Head {
	if ctx.Err() != nil {
		return after
	}
	a.p.Logger.Warn("the log could not be followed", "event", "log.follow", "reason", err)
	if errors.Is(err, eventlog.ErrCorrupt) || errors.Is(err, eventlog.ErrGap) {
		a.Emit(failover.Synced{OK: false})
		a.deliver(ctx, logStep{anew: true})
		return eventlog.Head{}
	}
	return after
}

// deliver hands a step of the log to the loop.
func (a *Agent) deliver(ctx context.Context, step logStep) bool {
	select {
	case a.steps <- step:
		return true
	case <-ctx.Done():
		return false
	}
}

// awaitFolded waits until the loop has folded up to seq.
func (a *Agent) awaitFolded(ctx context.Context, seq eventlog.Seq) bool {
	for {
		next := a.changed.next()
		if a.Snapshot().State.Head.Seq >= seq {
			return true
		}
		select {
		case <-next:
		case <-ctx.Done():
			return false
		}
	}
}
