package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"dyad/cluster/api"
	"dyad/cluster/etcdnode"
	"dyad/cluster/quorum"
	"dyad/projections"
)

// promoteEvery is how often a lone voter looks for a learner that has started.
const promoteEvery = 500 * time.Millisecond

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
	k := keeper{dir: p.cfg.DataDir, release: p.opts.Version, state: p.state}
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
			if err := k.sync(s.Mode, s.Head.Epoch, gossip); err != nil {
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
// here, and promote makes it a voter once it runs.
func (p *process) admit(ctx context.Context, r api.JoinRequest) (api.JoinResponse, error) {
	s := p.agent.State()
	if s.Mode != string(quorum.Solo) {
		return api.JoinResponse{}, &api.Error{
			Class: "refused", Code: "not-solo", What: "join " + r.Node.Name,
			Why: "the cluster has two nodes already", Fix: "dyad node list",
		}
	}
	_, members, err := etcdnode.AddLearner(ctx, p.client, r.Node.Name, r.PeerURL)
	if err != nil {
		return api.JoinResponse{}, &api.Error{
			Class: "failed", Code: "join", What: "join " + r.Node.Name, Why: err.Error(), Fix: "dyad status on " + p.cfg.Node + ", then join again",
		}
	}
	return api.JoinResponse{
		Cluster: p.state.Cluster, Epoch: s.Head.Epoch, Members: members, Gossip: []string{gossipAddress(p.cfg)},
	}, nil
}

// promote turns SOLO into PAIR: when a learner runs and has everything, it
// becomes a voter, and a new epoch says so. A broken-off attempt is taken up by
// whichever start comes next.
func (p *process) promote(ctx context.Context) {
	t := time.NewTicker(promoteEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		s := p.agent.State()
		if s.Mode != string(quorum.Solo) {
			continue
		}
		if err := p.promoteOnce(ctx, s); err != nil && ctx.Err() == nil {
			p.opts.Log.Debug("no promotion yet", "event", "store.promote", "reason", err)
		}
	}
}

func (p *process) promoteOnce(ctx context.Context, s projections.State) error {
	members, err := etcdnode.Members(ctx, p.client)
	if err != nil || len(members) < 2 {
		return err
	}
	writers := make([]string, 0, len(members))
	for _, m := range members {
		if m.Name == "" {
			return errors.New("the new member has not started yet")
		}
		if m.Learner {
			if err := etcdnode.PromoteWhenEqual(ctx, p.client, m.ID); err != nil {
				return err
			}
			p.opts.Log.Info("the new member votes now", "event", "store.promoted", "reason", "it has everything", "member", m.Name)
		}
		writers = append(writers, m.Name)
	}
	slices.Sort(writers)
	return p.agent.Submit(ctx, projections.StartEpoch{
		Epoch: s.Head.Epoch + 1, Mode: string(quorum.Pair), Writers: writers,
	}, "a second voter joined")
}
