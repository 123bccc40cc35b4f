package node

import (
	"context"
	"strings"

	"dyad/cluster/api"
	"dyad/cluster/identity"
	"dyad/projections"
)

// admit answers a node that wants to join with a token. The token is spent
// first, in the log; then the node gets its certificate and the keys, and its
// store member becomes a learner here. the steward gives it its
// vote once it runs. A
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
	case r.Store != p.file.get().External:
		return refuse(api.ClassRefused, "store", otherStore(p.file.get().External, r.Store), "give both nodes the same store: section in their configuration")
	case r.Store == "" && !strings.HasPrefix(r.PeerURL, "https://"):
		return refuse(api.ClassUsage, "peer-url", r.PeerURL+" is not https", "install the same dyad on both nodes")
	case r.Node.Name == p.cfg.Node:
		return refuse(api.ClassRefused, "node-name", "this node has that name", "give the other node another name: node: in its configuration")
	case !r.Voter && len(s.Nodes) >= projections.MaxNodes && s.Nodes[r.Node.Name].Name == "":
		return refuse(api.ClassRefused, "two-nodes", "the cluster has two nodes already", "dyad node list; dyad node remove NAME")
	}
	take := p.mayTakeIn
	if r.Voter {
		take = p.mayEnlist
	}
	if err := take("join", r); err != nil {
		return api.JoinResponse{}, err
	}
	if err := p.agent.SpendToken(ctx, who, r.Node.Name, key); err != nil {
		return api.JoinResponse{}, err
	}
	grant, leaf, err := p.id.Grant(pub, r.Node.Name, r.Node.Address)
	if err != nil {
		return refuse(api.ClassFailed, "certificate", err.Error(), "dyad cert list")
	}
	p.agent.CertificateIssued(shown(leaf, false), "joined with "+who.Actor.Name)
	if r.Voter {
		if err := p.agent.Submit(ctx, projections.JoinVoter{Voter: r.Node}, "joined with "+who.Actor.Name); err != nil {
			return api.JoinResponse{}, err
		}
	}
	answer, err := p.takeIn(ctx, "join", r)
	answer.Certificate, answer.CAKey, answer.GossipKeys = string(grant.Certificate), api.Secret(grant.CAKey.Reveal()), secrets(p.id.GossipKeys())
	return answer, err
}
