package sim

import (
	"fmt"
	"time"

	"dyad/cluster/quorum"
	"dyad/eventlog"
	"dyad/failover"
	"dyad/projections"
)

const (
	// aftermath is how long something that was wrong may be the cause of a verdict:
	// a little longer than the membership may contradict the pulse.
	aftermath = 3 * time.Second
	// backlog is how old a reading may be, and how long a pulse that goes on takes to
	// read what waited.
	backlog = 5 * time.Millisecond
	// maxSwings is how often a node may give a takeover up within swingWindow. The
	// delays before it double: 1, 2, 4 … s after a suspicion and 10, 20, 40 … s
	// after a death leave room for no more.
	maxSwings   = 12
	swingWindow = failover.DefaultFlapWindow
	// verdictBound is how long a death may stay without a verdict.
	verdictBound = 100 * time.Millisecond
)

// watched is a condition with the time since when it holds; -1 while it does not.
type watched struct{ since time.Duration }

func (x *watched) set(ok bool, now time.Duration) {
	switch {
	case !ok:
		x.since = -1
	case x.since < 0:
		x.since = now
	}
}

// longer tells whether it has held for so long.
func (x watched) longer(now, d time.Duration) bool { return x.since >= 0 && now-x.since >= d }

// touch notes who is well after something has changed, and what clients see.
func (w *world) touch() {
	if w.nodes[0] == nil || w.nodes[1] == nil || w.clients == nil {
		return
	}
	for i, n := range w.nodes {
		w.health[i].set(n.healthy() && w.router.up, w.now)
	}
	clean := w.router.up
	for i := range w.wires {
		clean = clean && w.wires[i].clean()
	}
	for i, n := range w.nodes {
		w.swarm.kernel[i].set(n.answers(), w.now)
	}
	w.calm.set(clean, w.now)
	w.client()
}

// fact takes what an agent wants recorded: checked against what has really
// happened, then written to its journal.
func (w *world) fact(a *agent, f failover.Fact) {
	n := a.node()
	if v, ok := f.Data.(eventlog.VerdictPayload); ok {
		w.say(a.i, "verdict on %s: %s, was %s, by %s after %s", v.Node, v.Verdict, v.Was, v.Sensor, v.Silence)
		w.verdict(a, projections.Verdict(v.Verdict), projections.Verdict(v.Was))
	}
	d, err := eventlog.NewDraft(f.Type, f.Stream, f.Data, nil)
	if err != nil {
		w.broken("a fact of %s can't be encoded: %v", names[a.i], err)
		return
	}
	a.fact++
	d.Origin = &eventlog.Origin{Node: names[a.i], Boot: a.boot, N: a.fact}
	d.Key = fmt.Sprintf("fact/%s/%s/%d", names[a.i], a.boot, a.fact)
	d.ID, d.Reason, d.ObservedAt = d.Key, f.Reason, f.At.UTC()
	d.Actor = eventlog.Actor{Name: names[a.i], Auth: "system"}
	crashes := n.crashes
	w.after(fsyncTime+n.slow, func() {
		if n.agent == a && n.crashes == crashes {
			n.journal = append(n.journal, d)
			w.durable = append(w.durable, d.Key)
			w.copySoon(a.i)
		}
	})
}

// verdict holds a verdict against the truth.
//
// Invariant: nobody is called anything worse than alive without a cause, and dead
// only if no kernel answers.
func (w *world) verdict(a *agent, v, was projections.Verdict) {
	i, now := a.i, w.now
	w.stats.Verdicts++
	switch v {
	case projections.Alive, projections.Unknown, projections.Left:
		return
	}
	h := a.node().heart
	// By the other node itself, perhaps long ago.
	said := v == projections.Gray || v == projections.Isolated || v == projections.ProcessDown
	if now-a.seen > backlog || said && h != nil && now-h.resumed < backlog {
		return // what waited while a process stood still was true when it was sent
	}
	if w.health[1-i].longer(now, aftermath) && w.calm.longer(now, aftermath) {
		w.broken("%s calls %s %s, and nothing was wrong with it", names[i], names[1-i], v)
		return
	}
	if v != projections.DeadData || was == projections.DeadMember { // the membership takes its word back first
		return
	}
	if w.calm.longer(now, verdictBound) && w.swarm.kernel[1-i].longer(now, verdictBound) && w.swarm.kernel[i].longer(now, verdictBound) {
		w.broken("%s calls %s %s, and its kernel answers", names[i], names[1-i], v)
	}
}

// stance notes a change of stance.
//
// Invariant: a node that is not in sync announces at the lowest rung, and a node
// that flaps is not followed.
func (w *world) stance(a *agent, was projections.Stance) {
	i, now := a.i, a.view.Stance
	w.say(i, "%s, was %s: %s", now, was, a.view.Reason.Text)
	w.stats.Stances++
	if now == projections.StanceTakeover {
		w.stats.Failovers++
	}
	if now != projections.StanceStepDown && !a.synced {
		w.broken("%s announces as %s and is not in sync", names[i], now)
	}
	if was != projections.StanceTakeover || now != projections.StanceNormal {
		return
	}
	list := append(a.swings, w.now)
	for len(list) > 0 && w.now-list[0] > swingWindow {
		list = list[1:]
	}
	w.stats.Swings = max(w.stats.Swings, len(list))
	if a.swings = list; len(list) > maxSwings {
		w.broken("%s has given its takeover up %d times within %s", names[i], len(list), swingWindow)
	}
}

// expectation is a verdict that must stand in the log in the end.
type expectation struct {
	by       int
	boot     string
	from, to time.Time // by the clock of who says it
	at       time.Duration
}

// expect notes that node i has died, if the other one must have seen it.
func (w *world) expect(i int) {
	n := w.nodes[1-i]
	if !w.health[1-i].longer(w.now, aftermath) || !w.health[i].longer(w.now, aftermath) || !w.calm.longer(w.now, aftermath) {
		return
	}
	at, now := w.wall(1-i), w.now
	x := expectation{1 - i, n.agent.boot, at, at.Add(verdictBound), now}
	w.after(verdictBound+10*fsyncTime+n.slow, func() {
		if w.health[1-i].longer(w.now, w.now-now) && n.jumped < now {
			w.expects = append(w.expects, x)
		}
	})
}

// settle checks the log against what has happened, after everything has come to
// rest.
func (w *world) settle() {
	for i, n := range w.nodes {
		switch {
		case n.agent == nil || n.agent.view.Stance != projections.StanceNormal:
			w.broken("%s has not come to rest: %v", names[i], n.agent)
		case n.record.Mode != quorum.Pair || n.agent.state.Head != w.head:
			w.broken("%s is %s at event %d of %d", names[i], n.record.Mode, n.agent.state.Head.Seq, w.head.Seq)
		case len(n.journal) > 0:
			w.broken("%d facts of %s wait for a log that can be written", len(n.journal), names[i])
		}
	}
	for _, key := range w.durable {
		if w.keys[key] == 0 {
			w.broken("%s is on a disk and not in the log", key)
		}
	}
	said := map[string][]time.Time{}
	for _, e := range w.log {
		if e.Type != eventlog.TypeNodeVerdict {
			continue
		}
		if p, err := eventlog.Payload[eventlog.VerdictPayload](e.Draft); err == nil && p.Verdict != string(projections.Alive) {
			said[e.Origin.Boot] = append(said[e.Origin.Boot], e.ObservedAt)
		}
	}
	for _, x := range w.expects {
		found := false
		for _, t := range said[x.boot] {
			found = found || !t.Before(x.from) && !t.After(x.to)
		}
		if !found {
			w.broken("%s did not record that the other node was gone at %s", names[x.by], x.at)
		}
	}
	w.stats.Events += len(w.log)
	w.stats.Expected += len(w.expects)
}
