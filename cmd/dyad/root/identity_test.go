package root

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"dyad/cluster/api"
	"dyad/cluster/identity"
	"dyad/eventlog"
)

// The identity of the fake agent is real.

func (f *fake) Identity(context.Context) (api.Identity, error) {
	own := f.id.Current().Leaf
	return api.Identity{
		Node: "node-a", Cluster: "c1", CAFingerprint: f.id.CA().Fingerprint(), GossipKeys: []string{}, Revoked: api.Revocations(f.State()),
		Certificates: []api.Certificate{{Subject: "node-a", Kind: "node", Expires: own.NotAfter, Renews: identity.RenewAt(own), Fingerprint: identity.Fingerprint(own.Raw)}},
	}, nil
}

func (f *fake) IssueCertificate(_ context.Context, _ api.Caller, r api.CertificateRequest) (api.CertificateAnswer, error) {
	pub, _, err := identity.ReadRequest([]byte(r.Request))
	if err != nil {
		return api.CertificateAnswer{}, err
	}
	chain, leaf, err := f.id.IssueUser(pub, r.Name, string(r.Role), r.TTL)
	if err != nil {
		return api.CertificateAnswer{}, err
	}
	return api.CertificateAnswer{Chain: string(chain), Certificate: api.Certificate{
		Subject: r.Name, Kind: "user", Role: string(r.Role), Expires: leaf.NotAfter, Fingerprint: identity.Fingerprint(leaf.Raw),
	}}, nil
}

func (f *fake) Rotate(_ context.Context, _ api.Caller, r api.RotateRequest) (api.RotateAnswer, error) {
	if r.GossipKey {
		return api.RotateAnswer{GossipKey: identity.Fingerprint([]byte("new")), Nodes: []string{"node-a", "node-b"}}, nil
	}
	if err := f.id.Renew("a story"); err != nil {
		return api.RotateAnswer{}, err
	}
	own := f.id.Current().Leaf
	return api.RotateAnswer{Certificate: &api.Certificate{Subject: "node-a", Kind: "node", Expires: own.NotAfter, Fingerprint: identity.Fingerprint(own.Raw)}}, nil
}

func (f *fake) SetGossipKeys(context.Context, api.Caller, api.GossipKeys) error { return nil }

func (f *fake) Join(context.Context, api.Caller, api.JoinRequest) (api.JoinResponse, error) {
	return api.JoinResponse{}, errors.New("not in a test")
}

func (f *fake) Denied(context.Context, api.Caller, api.Denial) {}

// serve runs the fake on a socket, and with certificates on a TCP port, until
// stop is called.
func (f *fake) serve(path, dir string) (address string, stop func(), err error) {
	if f.id, err = identity.Create("c1", identity.Options{Dir: identity.DirIn(dir), Node: "node-a", Address: netip.MustParseAddr("127.0.0.1")}); err != nil {
		return "", nil, err
	}
	local, err := api.ListenUnix(path)
	if err != nil {
		return "", nil, err
	}
	remote, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, errors.Join(err, local.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	h, log := api.NewHandler(f, api.HandlerOptions{}), slog.New(slog.DiscardHandler)
	who := func(cs tls.ConnectionState) (api.Caller, error) {
		p, err := f.id.PeerOf(cs)
		c := api.Caller{Actor: eventlog.Actor{Name: p.Name, Auth: api.AuthCert}, Role: api.Role(p.Role)}
		if p.Kind == identity.Node {
			c.Role = api.RoleNode
		}
		return c, err
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = api.ServeUnix(ctx, local, api.Access{}, h, log) }) // the stories see what fails
	wg.Go(func() { _ = api.ServeTCP(ctx, remote, f.id.ServerTLS(nil), who, h, log) })
	return remote.Addr().String(), func() { cancel(); wg.Wait() }, nil
}
