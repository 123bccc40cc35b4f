package cluster

import (
	"context"
	"errors"
	"time"

	"dyad/cluster/api"
	"dyad/eventlog"
	"dyad/failover"
	"dyad/projections"
)

// Identity is what the agent asks of whoever keeps its certificates and keys
// (dyad/cluster/node puts it on dyad/cluster/identity).
type Identity interface {
	// View shows the authority, the certificates and the keys' fingerprints.
	View() api.Identity
	// Issue signs a user's certificate.
	Issue(r api.CertificateRequest) (api.CertificateAnswer, error)
	// Renew makes a new certificate for this node.
	Renew() (api.Certificate, error)
	// RotateGossip draws a gossip key and has every one of nodes take it.
	RotateGossip(ctx context.Context, nodes []eventlog.Node) (fingerprint string, err error)
	// SetGossipKeys takes a ring from the other node.
	SetGossipKeys(keys []api.Secret) error
}

var errNoIdentity = errors.New("this agent has no identity to work with")

// Identity implements [api.Backend].
func (a *Agent) Identity(context.Context) (api.Identity, error) {
	if a.p.Identity == nil {
		return api.Identity{}, errNoIdentity
	}
	v := a.p.Identity.View()
	v.Revoked = api.Revocations(a.State())
	return v, nil
}

// IssueCertificate implements [api.Backend].
func (a *Agent) IssueCertificate(_ context.Context, who api.Caller, r api.CertificateRequest) (api.CertificateAnswer, error) {
	if a.p.Identity == nil {
		return api.CertificateAnswer{}, errNoIdentity
	}
	ans, err := a.p.Identity.Issue(r)
	if err != nil {
		return ans, &api.Error{Class: api.ClassRefused, Code: "certificate", What: "certificate for " + r.Name, Why: err.Error(), Fix: "dyad help cert issue"}
	}
	a.factBy(who, r.Reason, certificateFact(ans.Certificate))
	return ans, nil
}

// Rotate implements [api.Backend].
func (a *Agent) Rotate(ctx context.Context, who api.Caller, r api.RotateRequest) (api.RotateAnswer, error) {
	if a.p.Identity == nil {
		return api.RotateAnswer{}, errNoIdentity
	}
	if !r.GossipKey {
		c, err := a.p.Identity.Renew()
		if err != nil {
			return api.RotateAnswer{}, err
		}
		a.factBy(who, r.Reason, certificateFact(c))
		return api.RotateAnswer{Certificate: &c}, nil
	}
	s := a.State()
	ans := api.RotateAnswer{Nodes: []string{a.p.Config.Node}}
	var others []eventlog.Node
	for _, n := range a.peerNames(s) {
		others, ans.Nodes = append(others, s.Nodes[n]), append(ans.Nodes, n)
	}
	f, err := a.p.Identity.RotateGossip(ctx, others)
	if err != nil {
		return api.RotateAnswer{}, err
	}
	ans.GossipKey = f
	a.factBy(who, r.Reason, failover.Fact{
		Type: eventlog.TypeGossipKeyRotated, Stream: "gossip", Data: eventlog.KeyRef{Fingerprint: f},
	})
	return ans, nil
}

// SetGossipKeys implements [api.Backend].
func (a *Agent) SetGossipKeys(_ context.Context, who api.Caller, r api.GossipKeys) error {
	if a.p.Identity == nil {
		return errNoIdentity
	}
	err := a.p.Identity.SetGossipKeys(r.Keys)
	if err == nil {
		a.p.Logger.Info("gossip keys taken over", "event", "gossip.keys", "reason", who.Actor.Name+" handed them over", "keys", len(r.Keys))
	}
	return err
}

// Join implements [api.Backend].
func (a *Agent) Join(ctx context.Context, who api.Caller, r api.JoinRequest) (api.JoinResponse, error) {
	if a.p.Admit == nil {
		return api.JoinResponse{}, errors.New("this node can't admit another")
	}
	var cmd projections.Command = projections.JoinNode{Node: r.Node}
	if r.Voter {
		cmd = projections.JoinVoter{Voter: r.Node}
	}
	if _, err := projections.Decide(a.State(), cmd); err != nil {
		return api.JoinResponse{}, err
	}
	return a.p.Admit(ctx, who, r)
}

// SpendToken records that a node joins with a token; it fails if another one
// did, or if the token's time is over.
func (a *Agent) SpendToken(ctx context.Context, who api.Caller, node, key string) error {
	ctx, cancel := context.WithTimeout(ctx, appendBound)
	defer cancel()
	meta := projections.Meta{Actor: who.Actor, Source: a.source("api", "dyad"), Reason: node + " joins", Correlation: a.p.NewID()}
	if who.Address.IsValid() {
		meta.Source.Address = who.Address
	}
	cmd := projections.UseToken{ID: who.Token, Node: node, Key: key, Now: a.p.Now()}
	if o := a.appender.submit(ctx, cmd, meta); o.err != nil {
		return a.failed(cmd, meta, o.err)
	}
	return nil
}

// CertificateIssued records a certificate that dyad itself made.
func (a *Agent) CertificateIssued(c api.Certificate, reason string) {
	f := certificateFact(c)
	f.Reason, f.At = reason, a.p.Now()
	a.rec.fact(f)
}

func certificateFact(c api.Certificate) failover.Fact {
	return failover.Fact{
		Type: eventlog.TypeCertificateIssued, Stream: "certificate/" + c.Kind + "/" + c.Subject,
		Data: eventlog.CertificatePayload{Name: c.Subject, Kind: c.Kind, Role: c.Role, Fingerprint: c.Fingerprint, Expires: c.Expires},
	}
}

// factBy records a fact that a caller brought about.
func (a *Agent) factBy(who api.Caller, reason string, f failover.Fact) {
	f.At, f.Reason = a.p.Now(), reason
	d := a.rec.draftOf(f)
	d.Actor, d.Source = who.Actor, a.source("api", "")
	if who.Address.IsValid() {
		d.Source.Address = who.Address
	}
	a.rec.draft(d)
}

// expiring lists the certificates that nobody renewed in time.
func expiringCertificates(d diagnosis) (out []string) {
	for _, c := range d.certificates {
		if c.Expiring {
			out = append(out, c.Subject+" ("+c.Kind+") expires at "+c.Expires.UTC().Format(time.RFC3339)+"; try: dyad cert rotate, and see the agent's log")
		}
	}
	return out
}
