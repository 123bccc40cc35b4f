package node

import (
	"context"
	"strings"

	"dyad/cluster/api"
	"dyad/cluster/etcdnode"
	"dyad/cluster/identity"
	"dyad/cluster/quorum"
)

// admit answers a node that wants to join with a token. The token is spent
// first, in the log; then the node gets its certificate and the keys, and its
// store member becomes a learner here. promote makes it a voter once it runs. A
// join that broke off at any of these steps is repeated as a whole: by the same
// node with the same key.
func (p *process) admit(ctx context.Context, who api.Caller, r api.JoinRequest) (api.JoinResponse, error) {
	refuse := func(class, code, why, fix string) (api.JoinResponse, error) {
		return api.JoinResponse{}, &api.Error{Class: class, Code: code, What: "join " + r.Node.Name, Why: why, Fix: fix}
	}
	s := p.agent.State()
	pub, key, err := identity.ReadRequest([]byte(r.Request))
	switch {
	case err != nil:
		return refuse(api.ClassUsage, "request", err.Error(), "install the same dyad on both nodes")
	case !strings.HasPrefix(r.PeerURL, "https://"):
		return refuse(api.ClassUsage, "peer-url", r.PeerURL+" is not https", "install the same dyad on both nodes")
	case r.Node.Name == p.cfg.Node:
		return refuse(api.ClassRefused, "node-name", "this node has that name", "give the other node another name: node: in its configuration")
	case s.Mode != string(quorum.Solo):
		return refuse(api.ClassRefused, "not-solo", "the cluster has two nodes already", "dyad node list")
	}
	if err := p.agent.SpendToken(ctx, who, r.Node.Name, key); err != nil {
		return api.JoinResponse{}, err
	}
	grant, leaf, err := p.id.Grant(pub, r.Node.Name, r.Node.Address)
	if err != nil {
		return refuse(api.ClassFailed, "certificate", err.Error(), "dyad cert list")
	}
	p.agent.CertificateIssued(shown(leaf, false), "joined with "+who.Actor.Name)
	_, members, err := etcdnode.AddLearner(ctx, p.client, r.Node.Name, r.PeerURL)
	if err != nil {
		return refuse(api.ClassFailed, "join", err.Error(), "dyad status on "+p.cfg.Node+", then join again with the same token")
	}
	return api.JoinResponse{
		Cluster: p.state.Cluster, Epoch: s.Head.Epoch, Members: members, Gossip: []string{gossipAddress(p.cfg)},
		Certificate: string(grant.Certificate), CAKey: api.Secret(grant.CAKey.Reveal()), GossipKeys: secrets(p.id.GossipKeys()),
	}, nil
}
