package node

import (
	"context"

	"dyad/cluster/api"
	"dyad/cluster/etcdnode"
	"dyad/cluster/quorum"
	"dyad/projections"
)

// onState takes every new state from the agent's loop; only the newest counts.
func (p *process) onState(s projections.State) {
	select {
	case <-p.news:
	default:
	}
	p.news <- s
}

// keepState keeps node.state and the detector's addresses in step with the log.
func (p *process) keepState(ctx context.Context) {
	for {
		select {
		case s := <-p.news:
			p.useWitness(s.Witness)
			gossip := gossipOf(s, p.cfg.Node)
			if len(gossip) > 0 {
				p.det.SetPeers(gossip)
			}
			err := p.file.update(func(n *etcdnode.State) {
				n.Release = p.opts.Version
				if len(gossip) > 0 {
					n.Gossip = gossip
				}
			})
			if err != nil {
				p.opts.Log.Error("node.state can't be written", "event", "state.write", "reason", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

func gossipOf(s projections.State, self string) []string {
	var out []string
	for _, name := range s.NodeNames() {
		if g := s.Nodes[name].Gossip; name != self && g != "" {
			out = append(out, g)
		}
	}
	return out
}

// admit answers a node that wants to join: its store member becomes a learner
// here. The steward gives it its vote once it runs and has everything.
func (p *process) admit(ctx context.Context, r api.JoinRequest) (api.JoinResponse, error) {
	return p.takeIn(ctx, "join", r)
}

// readmit answers a node of the cluster that has set its store aside.
func (p *process) readmit(ctx context.Context, r api.JoinRequest) (api.JoinResponse, error) {
	return p.takeIn(ctx, "rejoin", r)
}

// takeIn makes a node a learner. Only the one writer of the log does that.
//
// Invariant: a node is taken in only after whatever it held before was set
// aside, or it never held anything: its vote comes from the copy it makes now.
func (p *process) takeIn(ctx context.Context, what string, r api.JoinRequest) (api.JoinResponse, error) {
	refused := func(class, code, why string) (api.JoinResponse, error) {
		return api.JoinResponse{}, &api.Error{Class: class, Code: code, What: what + " " + r.Node.Name, Why: why, Fix: "dyad status on " + p.cfg.Node + ", then again"}
	}
	s := p.steward.Status()
	alone := s.Record.Mode == quorum.Solo || s.Record.Mode == quorum.Sole
	switch {
	case !alone:
		return refused(api.ClassRefused, "not-alone", "the log has two writers already")
	case s.Record.Step == quorum.Granted || !s.Writable:
		return refused(api.ClassUnavailable, "log-not-writable", s.Why)
	}
	_, members, err := etcdnode.Readmit(ctx, p.client, r.Node.Name, r.PeerURL)
	if err != nil {
		return refused(api.ClassFailed, what, err.Error())
	}
	return api.JoinResponse{
		Cluster: p.file.get().Cluster, Epoch: s.Record.Epoch, Members: members, Gossip: []string{gossipAddress(p.cfg)},
	}, nil
}
