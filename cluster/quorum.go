package cluster

import (
	"context"
	"fmt"
	"time"

	"dyad/cluster/api"
	"dyad/cluster/quorum"
	"dyad/cluster/steward"
	"dyad/projections"
)

// external tells whether the log lies in a store that others run.
func (a *Agent) external() bool { return a.p.Config.Store.External() }

// takeoverBound is how long an operator's takeover may take.
const takeoverBound = 30 * time.Second

// Takeover implements [api.Backend].
func (a *Agent) Takeover(ctx context.Context, who api.Caller, r api.TakeoverRequest) (api.TakeoverResult, error) {
	res := api.TakeoverResult{Node: a.p.Config.Node, DryRun: r.DryRun}
	s := a.Snapshot()
	if err := a.mayTakeOver(s, r); err != nil {
		return res, err
	}
	q := a.with.Quorum.Status()
	res.Epoch, res.Mode = q.Record.Epoch+1, string(quorum.Sole)
	res.Notes = takeoverNotes(q, r)
	if r.DryRun {
		return res, nil
	}
	ctx, cancel := context.WithTimeout(ctx, takeoverBound)
	defer cancel()
	err := a.with.Quorum.Takeover(ctx, quorum.Word{
		Peer: r.Peer, Actor: who.Actor.Name, Reason: r.Reason, WithoutWitness: r.WithoutWitness, AcceptLoss: r.AcceptLoss,
	})
	q = a.with.Quorum.Status()
	res.Epoch, res.Mode = q.Record.Epoch, string(q.Mode)
	if err != nil {
		return res, &api.Error{Class: api.ClassUnavailable, Code: "takeover", What: "takeover", Why: oneLine(q), Fix: "dyad status"}
	}
	return res, nil
}

// mayTakeOver refuses what can't be meant.
func (a *Agent) mayTakeOver(s *Snapshot, r api.TakeoverRequest) error {
	refused := func(code, fix, why string, args ...any) error {
		return &api.Error{Class: api.ClassRefused, Code: code, What: "takeover", Why: fmt.Sprintf(why, args...), Fix: fix}
	}
	names := a.peerNames(s.State)
	switch {
	case a.with.Quorum == nil:
		return refused("no-store", "dyad status", "this node keeps no log of its own")
	case a.external():
		return refused("external-store", "dyad status", "the log is in an external store, which needs neither node: there is nothing to take over")
	case s.State.Mode == string(quorum.Witnessed):
		return refused("third-voter", "start dyad on another of the three; if two are lost for good: dyad restore",
			"any two of the three voters write the log, so nobody takes it over")
	case len(names) == 0:
		return refused("single-node", "dyad status", "the cluster has one node, and it writes the log")
	case r.Peer != names[0]:
		return refused("confirm", "dyad takeover --confirm "+names[0]+" --reason TEXT",
			"the other node is %s, and %q was confirmed to be down", names[0], r.Peer)
	case r.Reason == "":
		return refused("reason", "dyad takeover --confirm "+names[0]+" --reason TEXT", "why the log goes on with one node must be said")
	case s.View.Nodes[r.Peer] == projections.Alive:
		return refused("peer-alive", "stop dyad on "+r.Peer+" first, or let it stop as planned: systemctl stop dyad",
			"%s is alive and heard by this node", r.Peer)
	}
	if alive, _ := a.PeerBeacon(); alive {
		return refused("peer-alive", "mend the paths between the nodes (dyad doctor), or stop dyad on "+r.Peer+" first",
			"%s is alive: it answers by its beacon through a router", r.Peer)
	}
	q := a.with.Quorum.Status()
	if q.Writable && q.Mode == quorum.Pair {
		return refused("writable", "dyad status", "both nodes write the log now; there is nothing to take over")
	}
	witness := s.State.Witness.URL != ""
	if q.Record.Mode == quorum.Stale && !(r.AcceptLoss && (!witness || r.WithoutWitness)) {
		add := "--accept-loss"
		if witness {
			add += " --without-witness" // it would say no
		}
		return refused("would-lose", "start dyad on "+r.Peer+"; if it is lost for good, add "+add,
			"%s went on without this node at epoch %d: what it acknowledged since then would be lost", r.Peer, q.Record.Epoch)
	}
	// With a witness it is the one that knows whether the other node went on.
	asked := witness && !r.WithoutWitness
	if q.Mode == quorum.Stale && !r.AcceptLoss && !asked {
		return refused("unproven", "start dyad on "+r.Peer+"; if it is lost for good, add --accept-loss",
			"this node was down, so it can't know whether %s went on without it: what that acknowledged meanwhile would be lost", r.Peer)
	}
	if q.Record.Mode == quorum.Joining {
		return refused("joining", "start dyad on "+r.Peer, "this node has not read the log to its end and has no vote yet")
	}
	return nil
}

func takeoverNotes(q steward.Status, t api.TakeoverRequest) []string {
	notes := []string{}
	switch {
	case q.Record.Mode == quorum.Stale:
		notes = append(notes, fmt.Sprintf("everything that %s acknowledged since epoch %d is lost to the cluster; it shows as orphaned when %s returns", t.Peer, q.Record.Epoch, t.Peer))
	case q.Mode == quorum.Stale:
		notes = append(notes, fmt.Sprintf("if %s went on alone while this node was down, what it acknowledged is lost to the cluster; it shows as orphaned when %s returns", t.Peer, t.Peer))
	default:
		notes = append(notes, "nothing acknowledged is lost: this node is a voter of the pair and holds all of it")
	}
	notes = append(notes, t.Peer+" sets its log aside when it returns, and joins again")
	if t.WithoutWitness {
		notes = append(notes, t.Peer+" must stay off until this node has told the witness: two nodes could write otherwise")
	}
	return notes
}

// Rejoin implements [api.Backend].
func (a *Agent) Rejoin(ctx context.Context, who api.Caller, r api.JoinRequest) (api.JoinResponse, error) {
	s := a.State()
	gone := s.Refuses(string(api.RoleNode), who.Actor.Name, "", a.p.Now()) != ""
	if _, ok := s.Nodes[who.Actor.Name]; gone || r.Voter || !ok && len(s.Nodes) >= projections.MaxNodes {
		return api.JoinResponse{}, &api.Error{
			Class: api.ClassRefused, Code: "node-unknown", What: "rejoin " + r.Node.Name, Why: "it is no node of this cluster any more",
			Fix: "dyad token create here, then dyad join there with an empty data directory",
		}
	}
	if a.p.Readmit == nil || a.external() {
		return api.JoinResponse{}, &api.Error{Class: api.ClassFailed, Code: "no-store", What: "rejoin", Why: "this node keeps no log of its own", Fix: "dyad status"}
	}
	return a.p.Readmit(ctx, r)
}

// RemoveNode implements [api.Backend].
func (a *Agent) RemoveNode(ctx context.Context, who api.Caller, r api.RemoveNodeRequest) (api.RemoveNodeResult, error) {
	res := api.RemoveNodeResult{Node: r.Node, DryRun: r.DryRun}
	if r.Node == a.p.Config.Node {
		return res, &api.Error{
			Class: api.ClassRefused, Code: "remove-self", What: "node " + r.Node, Why: "a node can't remove itself",
			Fix: "run it on the other node, or stop dyad here",
		}
	}
	s := a.Snapshot()
	if r.Node == s.State.Voter.Name {
		return a.removeVoter(ctx, who, r)
	}
	if _, err := projections.Decide(s.State, projections.RemoveNode{Name: r.Node}); err != nil {
		return res, err
	}
	if ok, why := a.writable(s); !ok {
		return res, notWritable("node remove", why)
	}
	change := projections.Apply{Commands: []projections.Command{projections.RemoveNode{Name: r.Node, Now: a.p.Now()}}}
	if res.Epoch, res.Mode = s.State.Head.Epoch, string(quorum.External); !a.external() {
		res.Mode = string(quorum.Solo)
		res.Epoch++
		change.Commands = append(change.Commands, projections.StartEpoch{
			Epoch: res.Epoch, Mode: string(quorum.Solo), Writers: []string{a.p.Config.Node},
		})
	}
	if r.DryRun {
		return res, nil
	}
	ctx, cancel := context.WithTimeout(ctx, takeoverBound)
	defer cancel()
	o := a.appender.submit(ctx, change, projections.Meta{Actor: who.Actor, Source: a.source("api", ""), Reason: r.Reason, Correlation: a.p.NewID()})
	if o.err != nil {
		return res, a.failed(projections.RemoveNode{Name: r.Node}, projections.Meta{Actor: who.Actor, Reason: r.Reason}, o.err)
	}
	res.Seq = o.seq
	return res, nil
}
