package cluster

import (
	"context"
	"fmt"

	"dyad/cluster/api"
	"dyad/cluster/quorum"
	"dyad/eventlog"
	"dyad/projections"
)

// removeVoter takes the third vote back. The stewards do it once the log says so;
// it waits until the nodes are a pair again.
func (a *Agent) removeVoter(ctx context.Context, who api.Caller, r api.RemoveNodeRequest) (api.RemoveNodeResult, error) {
	s := a.Snapshot()
	res := api.RemoveNodeResult{Node: r.Node, Mode: string(quorum.Pair), Epoch: s.State.Head.Epoch, DryRun: r.DryRun}
	if s.State.Mode == string(quorum.Witnessed) {
		res.Epoch++
	}
	if ok, why := a.writable(s); !ok {
		return res, notWritable("node remove", why)
	}
	for _, n := range a.peerNames(s.State) {
		if s.View.Nodes[n] != projections.Alive {
			return res, &api.Error{
				Class: api.ClassRefused, Code: "peer-silent", What: "node " + r.Node,
				Why: fmt.Sprintf("%s does not answer: without %s this node could not write alone", n, r.Node), Fix: "start dyad on " + n + " first",
			}
		}
	}
	if r.DryRun {
		return res, nil
	}
	ctx, cancel := context.WithTimeout(ctx, takeoverBound)
	defer cancel()
	cmd := projections.RemoveVoter{Name: r.Node}
	meta := projections.Meta{Actor: who.Actor, Source: a.source("api", ""), Reason: r.Reason, Correlation: a.p.NewID()}
	o := a.appender.submit(ctx, cmd, meta)
	if o.err != nil {
		return res, a.failed(cmd, meta, o.err)
	}
	res.Seq = o.seq
	if !a.until(ctx, takeoverBound, func(s *Snapshot) bool { return s.State.Mode == string(quorum.Pair) && s.State.Voter.Name == "" }) {
		return res, &api.Error{
			Class: api.ClassUnavailable, Code: "voter-leaving", What: "node " + r.Node,
			Why: "its vote has not been taken back yet", Fix: "dyad status; it goes on by itself when both nodes run",
		}
	}
	return res, nil
}

// voterStatus is what the third voter says of itself.
func (a *Agent) voterStatus(ctx context.Context, v eventlog.Node) api.NodeStatus {
	ctx, cancel := context.WithTimeout(ctx, remoteBound)
	defer cancel()
	st, err := a.p.Peer.Status(ctx, v)
	if err != nil {
		return api.NodeStatus{Node: v.Name, Error: brief(err)}
	}
	return api.NodeStatus{Node: v.Name, Status: &st}
}
