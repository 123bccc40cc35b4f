package cluster

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"dyad/cluster/api"
	"dyad/failover"
	"dyad/projections"
)

// feedEvery is how often the loop tells its pulse that it lives, and what it
// says of itself; a change of stance goes out at once.
const feedEvery = 200 * time.Millisecond

// Pulse is the process that sends and hears heartbeats (dyad/failover/beat).
type Pulse interface {
	// Feed must not block. armed lets the pulse take over next hops.
	Feed(w failover.Word, armed bool)
	Status() PulseStatus
}

// PulseStatus is the state of the pulse.
type PulseStatus struct {
	Running  bool
	Why      string // why it does not run
	Restarts int
	// Lacks is what real-time property the host does not grant; empty if none.
	Lacks string
	// Paths holds those that were heard, or can't be used, by name.
	Paths map[string]PulsePath
}

// PulsePath is the state of one path to the other node.
type PulsePath struct {
	Up, Deaf bool
	Error    string
}

// EmitAt is [Agent.Emit] for a reading that was taken a moment ago.
func (a *Agent) EmitAt(at time.Time, in failover.Input) {
	select {
	case a.inputs <- stamped{at, in}:
	case <-a.ended:
	}
}

// feed tells the pulse what this node says of itself. It is called by the loop,
// so a loop that hangs is called hung.
//
// Invariant: next hops are taken only by a node that wants traffic and holds
// addresses.
func (a *Agent) feed() {
	if a.with.Pulse == nil {
		return
	}
	up, wanted := a.machine.Sessions()
	stance := a.view.Stance
	armed := (stance == projections.StanceNormal || stance == projections.StanceTakeover) && len(a.state.Services) > 0
	a.with.Pulse.Feed(failover.Word{
		Epoch: a.state.Head.Epoch, Mode: a.state.Mode, Seq: a.state.Head.Seq, Stance: stance,
		SessionsUp: up, SessionsWanted: wanted, Stopping: stance == projections.StanceStepDown && a.view.Reason.Code == "stopping",
	}, armed)
}

// timeLine notes the instants of a takeover, for drills.
func (a *Agent) timeLine(in stamped) {
	begin := func(node string) {
		if !a.view.Nodes[node].Silent() {
			a.timeline[node] = api.Timeline{Detected: in.at}
		}
	}
	switch v := in.in.(type) {
	case failover.PeerSilent:
		begin(v.Node)
	case failover.PulseSuspect:
		begin(v.Node)
	case failover.PulseProcessDown:
		begin(v.Node)
	case failover.PulseHop:
		if t := a.timeline[v.Node]; v.Taken && t.NextHop.IsZero() {
			t.NextHop = in.at
			a.timeline[v.Node] = t
		}
	}
}

func pulseDown(d diagnosis) []string {
	p := d.pulse
	return when(p != nil && !p.Running, "the pulse does not run: %s; the membership alone watches the other node; see the agent's log", orNothing(p))
}

func orNothing(p *PulseStatus) string {
	if p == nil || p.Why == "" {
		return "it has not started yet"
	}
	return p.Why
}

func pulseLate(d diagnosis) []string {
	if d.pulse == nil || d.pulse.Lacks == "" {
		return nil
	}
	return []string{"the pulse lacks " + d.pulse.Lacks}
}

func pathDown(d diagnosis) (out []string) {
	if d.pulse == nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(d.pulse.Paths)) {
		switch p := d.pulse.Paths[name]; {
		case p.Error != "":
			out = append(out, fmt.Sprintf("%s: %s", name, p.Error))
		case !p.Up:
			out = append(out, fmt.Sprintf("%s: no heartbeats come; check the cabling, and that UDP passes on the pulse's port", name))
		case p.Deaf:
			out = append(out, fmt.Sprintf("%s: the other node hears nothing from here on it; check the cabling, and that UDP passes on the pulse's port", name))
		}
	}
	return out
}

func isolated(d diagnosis) []string {
	return when(d.snap.View.Reason.Code == "isolated", "no router answers %s; check its router-facing ports, then: dyad peer list", d.self)
}
