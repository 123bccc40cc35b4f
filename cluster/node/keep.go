package node

import (
	"context"
	"time"

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
	pulse := time.NewTimer(pulseFirst)
	defer pulse.Stop()
	soon := true
	for {
		select {
		case <-pulse.C:
			// After a start the checkpoint has to do: the log may come late, or never.
			s := p.agent.State()
			if soon = len(s.Nodes) == 0; soon {
				pulse.Reset(pulseFirst)
				continue
			}
			p.keepPulse(s)
			pulse.Reset(pulseKeep)
		case s := <-p.news:
			if !soon { // not with every event: there may be thousands a second
				soon = true
				pulse.Reset(pulseFirst)
			}
			gossip := gossipOf(s, p.cfg.Node)
			if len(gossip) > 0 {
				p.det.SetPeers(gossip)
			}
			err := p.file.update(func(n *etcdnode.State) {
				n.Release = p.opts.Version
				keepWitness(n, s)
				if len(gossip) > 0 {
					n.Gossip = gossip
				}
			})
			if err != nil {
				p.opts.Log.Error("node.state can't be written", "event", "state.write", "reason", err)
			}
			p.useWitness(p.file.get().Witness)
		case <-ctx.Done():
			return
		}
	}
}

// keepWitness takes the log's word of which witness the cluster has.
//
// Invariant: a node never goes back to an earlier witness, nor to none. It reads
// the log again from a checkpoint, or from the start, and comes by states that
// name one that the other node no longer asks.
func keepWitness(n *etcdnode.State, s projections.State) {
	at := n.WitnessAt
	ahead := s.Head.Epoch > at.Epoch || s.Head.Epoch == at.Epoch && s.Head.Seq > at.Seq
	if s.Witness != n.Witness && ahead {
		n.Witness, n.WitnessAt = s.Witness, s.Head
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

// readmit answers a node of the cluster that has set its store aside.
func (p *process) readmit(ctx context.Context, r api.JoinRequest) (api.JoinResponse, error) {
	if err := p.mayTakeIn("rejoin", r); err != nil {
		return api.JoinResponse{}, err
	}
	return p.takeIn(ctx, "rejoin", r)
}

func notTaken(class, code, what string, r api.JoinRequest, why, fix string) error {
	return &api.Error{Class: class, Code: code, What: what + " " + r.Node.Name, Why: why, Fix: fix}
}

// mayTakeIn tells whether this node can make another one a learner: only the one
// writer of the log does that.
func (p *process) mayTakeIn(what string, r api.JoinRequest) error {
	s := p.steward.Status()
	fix := "dyad status on " + p.cfg.Node + ", then again"
	switch alone := s.Record.Mode == quorum.Solo || s.Record.Mode == quorum.Sole; {
	case what == "rejoin" && s.Record.Mode == quorum.Witnessed && s.Writable:
		return nil // the two others vote, and what it held is not counted any more
	case !alone && !p.external():
		return notTaken(api.ClassRefused, "not-alone", what, r, "the log is "+string(s.Mode)+": it has no room for another writer", fix)
	case s.Record.Step == quorum.Granted || !s.Writable:
		return notTaken(api.ClassUnavailable, "log-not-writable", what, r, s.Why, fix)
	}
	return nil
}

// takeIn makes a node a learner.
//
// Invariant: a node is taken in only after whatever it held before was set
// aside, or it never held anything: its vote comes from the copy it makes now.
func (p *process) takeIn(ctx context.Context, what string, r api.JoinRequest) (api.JoinResponse, error) {
	if p.external() {
		return p.joinResponse(nil), nil // whoever has a certificate of the store's reaches the log
	}
	_, members, err := etcdnode.Readmit(ctx, p.client, r.Node.Name, r.PeerURL)
	if err != nil {
		return api.JoinResponse{}, notTaken(api.ClassFailed, what, what, r, err.Error(), "dyad status on "+p.cfg.Node+", then again with the same token")
	}
	return p.joinResponse(members), nil
}

// joinResponse names the newest epoch: right after the first start the steward
// may not have read it yet, and a node that joined at an older one would take
// itself for passed over.
func (p *process) joinResponse(members map[string]string) api.JoinResponse {
	epoch := max(p.steward.Status().Record.Epoch, p.agent.State().Head.Epoch)
	return api.JoinResponse{
		Cluster: p.file.get().Cluster, Epoch: epoch, Members: members, Gossip: []string{gossipAddress(p.cfg)},
	}
}
