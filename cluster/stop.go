package cluster

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"dyad/eventlog"
	"dyad/failover"
	"dyad/projections"
)

// Times of a planned stop.
const (
	// stopBound ends a planned stop whatever happens.
	stopBound = 10 * time.Second
	// handoverBound is how long the other node gets to take over.
	handoverBound = 2 * time.Second
	// withdrawSettle is what routers get to forget this node's paths, which are
	// no longer the best ones, before its sessions end.
	withdrawSettle = 200 * time.Millisecond
	// flushBound is how long the last facts may take to reach the log.
	flushBound = 500 * time.Millisecond
	// leaveBound is how long handing the log over may take.
	leaveBound = 3 * time.Second
	// levelPoll is how often a level that no snapshot announces is looked at.
	levelPoll = 50 * time.Millisecond
)

// plannedStop gives everything up without losing a packet: announce at the
// last preference, let the other node take over, wait until routers have moved,
// withdraw, and only then go.
func (a *Agent) plannedStop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stopBound)
	defer cancel()
	a.p.Logger.Info("stopping: the other node takes over first", "event", "agent.stopping", "reason", "asked to stop")
	a.rec.fact(failover.Fact{
		Type: eventlog.TypeAgentStopped, Stream: "agent/" + a.p.Config.Node, At: a.p.Now(),
		Data: eventlog.AgentPayload{Version: a.p.Version, PID: a.p.PID, Planned: true},
	})
	close(a.stop)
	if a.until(ctx, handoverBound, a.handedOver) && a.someoneElse() {
		pause(ctx, a.p.Config.Failover.StepDownSettle.Std())
	}
	a.until(ctx, flushBound, func(*Snapshot) bool { return a.p.Journal.Len() == 0 && len(a.rec.queue) == 0 })
	a.leaveLog(ctx)
	before := a.Snapshot().Generation
	close(a.quiet)
	a.until(ctx, handoverBound, func(s *Snapshot) bool {
		return s.View.Stance == projections.StanceSilent && (s.Done >= s.Generation || s.Generation == before)
	})
	if a.someoneElse() {
		pause(ctx, withdrawSettle)
	}
}

// leaveLog hands the log to the other node, so that it can be written while this
// one is away. Where that can't be done the other node has to be told by its
// authority; nothing is lost either way.
func (a *Agent) leaveLog(ctx context.Context) {
	if a.with.Quorum == nil || !a.someoneElse() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaveBound)
	defer cancel()
	if err := a.with.Quorum.Leave(ctx); err != nil {
		a.p.Logger.Warn("the log could not be handed over", "event", "log.leave", "reason", err)
	}
}

// handedOver tells whether this node announces at P2 and every living node says
// that it took over.
func (a *Agent) handedOver(s *Snapshot) bool {
	if s.View.Stance != projections.StanceStepDown || s.Done < s.Generation {
		return false
	}
	for node, v := range s.View.Nodes {
		if v == projections.Alive && s.Reports[node].Stance != projections.StanceTakeover {
			return false
		}
	}
	return true
}

func (a *Agent) someoneElse() bool {
	for _, v := range a.Snapshot().View.Nodes {
		if v == projections.Alive {
			return true
		}
	}
	return false
}

// until waits for a level of the snapshot; it tells whether it was reached.
func (a *Agent) until(ctx context.Context, bound time.Duration, level func(*Snapshot) bool) bool {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	poll := time.NewTicker(min(bound/40, levelPoll))
	defer poll.Stop()
	for {
		next := a.changed.next()
		if level(a.Snapshot()) {
			return true
		}
		select {
		case <-next:
		case <-poll.C:
		case <-ctx.Done():
			return false
		}
	}
}

// serviceAddresses lists the addresses of all services, sorted.
func serviceAddresses(s projections.State) []netip.Addr {
	out := make([]netip.Addr, 0, len(s.Taken))
	for a := range s.Taken {
		out = append(out, a)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}
