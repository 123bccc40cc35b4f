package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"

	"dyad/cluster/api"
	"dyad/cluster/config"
	"dyad/cluster/etcdnode"
	"dyad/cluster/identity"
	"dyad/cluster/quorum"
	"dyad/eventlog"
)

// joinBound is how long a join may take.
const joinBound = 30 * time.Second

// Init makes this node the first of a new cluster. It refuses a data directory
// that is in use.
func Init(ctx context.Context, c config.Config, version string) (etcdnode.State, error) {
	var s etcdnode.State
	unlock, err := prepare(c)
	if err != nil {
		return s, err
	}
	defer unlock()
	id := uuid.NewString()
	if err := tryExternal(ctx, c, id, false); err != nil {
		return s, err
	}
	if _, err := identity.Create(id, identityOptions(c)); err != nil {
		return s, err
	}
	s = etcdnode.State{
		Release: version, Cluster: id, Node: c.Node, Mode: quorum.Solo,
		Members: map[string]string{c.Node: peerURL(c)},
	}
	if c.Store.External() {
		s.Mode, s.External, s.Members = quorum.External, c.Store.Prefix, nil
	}
	return s, etcdnode.SaveState(c.DataDir, s)
}

// Join makes this node the second of the cluster that the agent at address
// (host:port of its API) belongs to, with a token of that cluster. The store of
// this node starts as a learner when the agent does. A join that broke off may be
// repeated with the same token. With voter this machine is to be no node, and only
// holds the third vote of two.
func Join(ctx context.Context, c config.Config, address, token, version string, voter bool) (etcdnode.State, error) {
	var s etcdnode.State
	if voter && c.Store.External() {
		return s, errors.New("an external store has voters of its own\n  try: leave store: out of the configuration, or --voter-only")
	}
	t, err := identity.ParseToken(token)
	if err != nil {
		return s, err
	}
	unlock, err := prepare(c)
	if err != nil {
		return s, err
	}
	defer unlock()
	key, err := identity.PendingKey(identityDir(c))
	if err != nil {
		return s, fmt.Errorf("this node's key: %w\n  try: make %s writable, or remove it", err, identityDir(c))
	}
	request, err := identity.Request(key)
	if err != nil {
		return s, err
	}
	conf, err := identity.JoinTLS(t, time.Now())
	if err != nil {
		return s, err
	}
	ctx, cancel := context.WithTimeout(ctx, joinBound)
	defer cancel()
	client := api.NewClient(api.ClientOptions{Address: address, TLS: conf, Timeout: joinBound})
	defer client.Close()
	if err := tryExternal(ctx, c, t.CA, false); err != nil {
		return s, err
	}
	ask := joinRequest(c, version, string(request), voter)
	r, err := client.Join(ctx, ask)
	if err != nil {
		return s, err
	}
	if err := tryExternal(ctx, c, r.Cluster, true); err != nil {
		return s, err
	}
	grant := identity.Grant{Certificate: []byte(r.Certificate), CAKey: identity.NewSecret(r.CAKey)}
	for _, k := range r.GossipKeys {
		grant.Gossip = append(grant.Gossip, identity.NewSecret(k))
	}
	id, err := identity.Join(identityOptions(c), key, grant)
	if err != nil {
		return s, err
	}
	if id.CA().Fingerprint() != t.CA || id.CA().Cluster() != r.Cluster {
		return s, identity.ErrPin
	}
	s = etcdnode.State{
		Release: version, Cluster: r.Cluster, Node: c.Node, Mode: quorum.Joining,
		Epoch: r.Epoch, Voter: voter, External: ask.Store, Members: r.Members, Gossip: r.Gossip,
	}
	return s, etcdnode.SaveState(c.DataDir, s)
}

func joinRequest(c config.Config, version, request string, voter bool) api.JoinRequest {
	ask := api.JoinRequest{Node: ownNode(c, version), PeerURL: peerURL(c), Request: request}
	if voter {
		ask.Voter, ask.Node.Gossip, ask.Node.Addresses = true, "", nil
	}
	if c.Store.External() {
		ask.Store, ask.PeerURL = c.Store.Prefix, ""
	}
	return ask
}

// prepare makes the data directory and takes it; a directory that belongs to a
// node already is refused.
func prepare(c config.Config) (unlock func(), err error) {
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("the data directory can't be made: %w\n  try: run as root, or choose another dataDir", err)
	}
	lock, err := etcdnode.LockDir(c.DataDir)
	if err != nil {
		return nil, err
	}
	s, err := etcdnode.LoadState(c.DataDir)
	switch {
	case errors.Is(err, etcdnode.ErrNotInitialised):
		return func() { _ = lock.Close() }, nil
	case err == nil:
		err = fmt.Errorf("%s belongs to %s of cluster %s already\n  try: dyad agent, or remove the directory for a fresh start",
			c.DataDir, s.Node, s.Cluster)
	}
	_ = lock.Close()
	return nil, err
}

// ownNode describes this node to the cluster.
func ownNode(c config.Config, version string) eventlog.Node {
	n := eventlog.Node{
		Name: c.Node, Address: c.Address, Addresses: hostPrefixes(), API: apiAddress(c), Gossip: gossipAddress(c),
		Version: version, Beacon: c.Beacon.Prefix,
	}
	if n.Beacon.IsValid() {
		n.Addresses = append(n.Addresses, n.Beacon)
	}
	return n
}
