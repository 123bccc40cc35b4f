package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"dyad/cluster/api"
	"dyad/cluster/config"
	"dyad/cluster/etcdnode"
	"dyad/cluster/identity"
	"dyad/eventlog"
	"dyad/projections"
)

// why a certificate was renewed, if somebody asked for it: then the agent records
// who that was.
const renewAsked = "asked for"

func identityDir(c config.Config) identity.Dir { return identity.DirIn(c.DataDir) }

func identityOptions(c config.Config) identity.Options {
	return identity.Options{Dir: identityDir(c), Node: c.Node, Address: c.Address}
}

// openIdentity reads this node's certificates and keys.
func (p *process) openIdentity() error {
	o := identityOptions(p.cfg)
	o.Log, o.Now = p.opts.Log, time.Now
	o.After = func(kind identity.Kind, name string) time.Time {
		if p.agent == nil {
			return time.Time{}
		}
		return p.agent.State().IssuedAfter(string(kind), name)
	}
	o.Issued = func(c *x509.Certificate, why string) {
		if p.agent != nil && why != renewAsked {
			p.agent.CertificateIssued(shown(c, true), why)
		}
	}
	var err error
	if p.id, err = identity.Open(o); err != nil {
		return err
	}
	if got := p.id.CA().Cluster(); got != p.file.get().Cluster {
		return fmt.Errorf("%s is of cluster %s, and node.state of %s\n  try: restore both from one backup", o.Dir, got, p.file.get().Cluster)
	}
	return nil
}

// storeTLS are the files that the store's process uses.
func storeTLS(d identity.Dir, cluster string) *etcdnode.TLS {
	return &etcdnode.TLS{Cert: d.NodeCert(), Key: d.NodeKey(), CA: d.CACert(), Host: identity.Host(cluster)}
}

// token finds the token with a public key, while it is good.
func (p *process) token(fingerprint string) (projections.Token, bool) {
	t, ok := p.agent.State().Tokens[projections.TokenID(fingerprint)]
	return t, ok && t.Fingerprint == fingerprint && !t.Expired(time.Now())
}

// who names the caller at the other end of a connection to the API.
func (p *process) who(cs tls.ConnectionState) (api.Caller, error) {
	peer, err := p.id.PeerOf(cs)
	if err != nil {
		return api.Caller{}, err
	}
	c := api.Caller{Actor: eventlog.Actor{Name: peer.Name, Auth: api.AuthCert}, Role: api.RoleNode}
	switch {
	case peer.Token != "":
		t, ok := p.token(peer.Token)
		if !ok {
			return api.Caller{}, errors.New("the token is unknown, expired or revoked")
		}
		c.Actor, c.Role, c.Token = eventlog.Actor{Name: "token " + t.ID, Auth: api.AuthToken}, api.RoleJoiner, t.ID
	case peer.Kind == identity.User:
		if c.Role, err = api.ParseRole(peer.Role); err != nil {
			return api.Caller{}, err
		}
	}
	if peer.Token == "" {
		if why := p.agent.State().Refuses(string(peer.Kind), peer.Name, peer.Certificate, peer.Issued); why != "" {
			p.agent.Revoked(c)
			return api.Caller{}, errors.New(why)
		}
	}
	return c, nil
}

// access is the configuration's, for the unix socket.
func access(c config.Access) api.Access {
	roles := func(m map[string]string) map[string]api.Role {
		out := make(map[string]api.Role, len(m))
		for name, r := range m {
			out[name] = api.Role(r)
		}
		return out
	}
	return api.Access{Users: roles(c.Users), Groups: roles(c.Groups)}
}

// keys implements cluster.Identity.
type keys struct {
	p *process
	// rotating is held by the one rotation of the gossip key, ours or the other
	// node's. Two that start at the same moment both fail, and harm nothing.
	rotating sync.Mutex
}

// shown is what the API says of a certificate.
func shown(c *x509.Certificate, renewed bool) api.Certificate {
	out := api.Certificate{
		Subject: c.Subject.CommonName, Kind: "ca", Fingerprint: identity.Fingerprint(c.Raw),
		NotBefore: c.NotBefore.UTC(), Expires: c.NotAfter.UTC(), Expiring: identity.Expiring(c.NotBefore, c.NotAfter, time.Now()),
	}
	if id, err := identity.Of(c); err == nil && !c.IsCA {
		out.Subject, out.Kind, out.Role = id.Name, string(id.Kind), id.Role
	}
	if renewed {
		out.Renews = identity.RenewAt(c).UTC()
	}
	return out
}

// View implements cluster.Identity.
func (k *keys) View() api.Identity {
	ca, own := k.p.id.CA(), k.p.id.Current().Leaf
	v := api.Identity{
		Node: k.p.cfg.Node, Cluster: ca.Cluster(), CA: string(identity.EncodeCertificates(ca.Cert)), CAFingerprint: ca.Fingerprint(),
		Certificates: []api.Certificate{shown(ca.Cert, false), shown(own, true)}, GossipKeys: []string{},
	}
	for _, key := range k.p.id.GossipKeys() {
		v.GossipKeys = append(v.GossipKeys, identity.Fingerprint(key))
	}
	return v
}

// Issue implements cluster.Identity.
func (k *keys) Issue(r api.CertificateRequest) (api.CertificateAnswer, error) {
	pub, _, err := identity.ReadRequest([]byte(r.Request))
	if err != nil {
		return api.CertificateAnswer{}, err
	}
	chain, leaf, err := k.p.id.IssueUser(pub, r.Name, string(r.Role), r.TTL)
	if err != nil {
		return api.CertificateAnswer{}, err
	}
	return api.CertificateAnswer{Chain: string(chain), Certificate: shown(leaf, false)}, nil
}

// Renew implements cluster.Identity.
func (k *keys) Renew() (api.Certificate, error) {
	if err := k.p.id.Renew(renewAsked); err != nil {
		return api.Certificate{}, err
	}
	return shown(k.p.id.Current().Leaf, true), nil
}

// RotateGossip implements cluster.Identity. Every ring is taken by both nodes
// before the next: first all know the new key, then all use it, then the others
// go. Wherever it breaks off, both nodes have a key in common that each may send
// with; the next rotation clears up.
func (k *keys) RotateGossip(ctx context.Context, nodes []eventlog.Node) (string, error) {
	if !k.rotating.TryLock() {
		return "", errRotating
	}
	defer k.rotating.Unlock()
	have := k.p.id.GossipKeys()
	have = have[:min(len(have), identity.MaxGossipKeys-1)]
	next := identity.NewGossipKey()
	for _, ring := range [][][]byte{append(slices.Clone(have), next), append([][]byte{next}, have...), {next}} {
		for _, n := range nodes {
			if err := k.hand(ctx, n, ring); err != nil {
				return "", &api.Error{
					Class: api.ClassUnavailable, Code: "gossip-key", What: "gossip key on " + n.Name,
					Why: "it did not take the new ring: " + err.Error(), Fix: "dyad status; repeat it when both nodes run. Gossip goes on meanwhile",
				}
			}
		}
		if err := k.install(ring); err != nil {
			return "", err
		}
	}
	return identity.Fingerprint(next), nil
}

var errRotating = &api.Error{
	Class: api.ClassUnavailable, Code: "rotating", What: "gossip key", Why: "it is being rotated at this moment", Fix: "repeat it in a moment",
}

func (k *keys) hand(ctx context.Context, n eventlog.Node, ring [][]byte) error {
	c, err := k.p.remote.client(n)
	if err != nil {
		return err
	}
	return c.SetGossipKeys(ctx, api.GossipKeys{Keys: secrets(ring)})
}

func secrets(list [][]byte) []api.Secret {
	var out []api.Secret
	for _, b := range list {
		out = append(out, api.Secret(b))
	}
	return out
}

// install makes a ring this node's: on disk first.
func (k *keys) install(ring [][]byte) error {
	if err := k.p.id.SetGossipKeys(ring); err != nil {
		return err
	}
	return k.p.det.SetKeys(ring)
}

// SetGossipKeys implements cluster.Identity.
func (k *keys) SetGossipKeys(list []api.Secret) error {
	if !k.rotating.TryLock() {
		return errRotating
	}
	defer k.rotating.Unlock()
	var ring [][]byte
	for _, s := range list {
		ring = append(ring, []byte(s))
	}
	return k.install(ring)
}
