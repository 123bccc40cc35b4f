package api

import (
	"context"
	"crypto/tls"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dyad/cluster/identity"
	"dyad/cluster/quorum"
	"dyad/eventlog"
	"dyad/projections"
	"dyad/projections/audit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a backend that remembers what it was asked.
type fake struct {
	mu      sync.Mutex
	who     Caller
	req     Request
	query   audit.Query
	fact    FactRequest
	join    JoinRequest
	witness WitnessRequest
	issue   CertificateRequest
	rotate  RotateRequest
	keys    GossipKeys

	denials []Denial
	err     error         // what Execute, Events, Explain, RecordFact and Join answer
	block   chan struct{} // if not nil, Execute waits for it or its context
	inside  chan struct{} // Execute says that it began
	panics  bool
	events  []eventlog.Envelope
	live    chan eventlog.Envelope
	ended   chan error // why following ended
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func (f *fake) Doctor(_ context.Context, cluster bool) []Examination {
	if cluster {
		return []Examination{{Node: "node-a"}, {Node: "node-b", Error: "no route to host"}}
	}
	return []Examination{{Node: "node-a", Findings: []Finding{{Code: "fsync", Result: ResultOK}}}}
}

func (f *fake) ProbeRouter(_ context.Context, who Caller, r ProbeRequest) (RouterProbe, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.who = who
	return RouterProbe{Peer: r.Peer, Prefix: r.Prefix, Result: ResultUnknown}, f.err
}

func (f *fake) TestRoute(context.Context, TestRouteRequest) (TestRouteAnswer, error) {
	return TestRouteAnswer{Theirs: true}, nil
}

func mustRange(s string) eventlog.Range {
	r, err := eventlog.ParseRange(s)
	if err != nil {
		panic(err)
	}
	return r
}

func testState() projections.State {
	return projections.State{
		Tokens: map[string]projections.Token{"t1": {TokenPayload: eventlog.TokenPayload{ID: "t1", Expires: time.Unix(1_700_000_000, 0)}}},
		Nodes:  map[string]eventlog.Node{"node-b": {Name: "node-b", Address: addr("192.0.2.2")}, "node-a": {Name: "node-a", Address: addr("192.0.2.1")}},
		Switches: map[string]eventlog.Switch{
			"vSwitch2": {Name: "vSwitch2", ID: "2"}, "vSwitch1": {Name: "vSwitch1", ID: "1", Compute: true},
		},
		Peers: map[projections.PeerKey]eventlog.Peer{
			{Switch: "vSwitch1", Address: addr("192.0.2.9")}: {Switch: "vSwitch1", Address: addr("192.0.2.9"), PeerASN: 1, SelfASN: 2, HoldTime: 90},
			{Switch: "vSwitch1", Address: addr("192.0.2.8")}: {Switch: "vSwitch1", Address: addr("192.0.2.8"), PeerASN: 1, SelfASN: 2, HoldTime: 15},
		},
		Pools: map[string]eventlog.Pool{
			"web": {Name: "web", Ranges: []eventlog.Range{mustRange("198.51.100.0/24"), mustRange("2001:db8::/48")}, Switch: "vSwitch1"},
			"db":  {Name: "db", Ranges: []eventlog.Range{mustRange("203.0.113.7")}},
		},
		Services: map[string]eventlog.Service{
			"shop": {Name: "shop", Pool: "web", Addresses: []netip.Addr{addr("198.51.100.1"), addr("2001:db8::1")}},
			"blog": {Name: "blog", Pool: "web", Addresses: []netip.Addr{addr("198.51.100.2")}},
		},
	}
}

func (f *fake) Status(context.Context) Status {
	if f.panics {
		panic("the fake fell over")
	}
	return Status{Node: "node-a", Mode: "PAIR", PID: 7}
}

func (f *fake) ClusterStatus(ctx context.Context) []NodeStatus {
	st := f.Status(ctx)
	return []NodeStatus{{Node: "node-a", Status: &st}, {Node: "node-b", Error: "no answer"}}
}
func (f *fake) State() projections.State { return testState() }

func (f *fake) Execute(ctx context.Context, who Caller, r Request) (Result, error) {
	f.mu.Lock()
	f.who, f.req = who, r
	f.mu.Unlock()
	if f.inside != nil {
		f.inside <- struct{}{}
	}
	if f.block != nil {
		select {
		case <-f.block:
		case <-ctx.Done():
			return Result{}, ctx.Err()
		}
	}
	if _, err := DecodeCommand(r.Verb, r.Args); err != nil {
		return Result{}, err
	}
	return Result{Seq: 12, Nodes: []NodeResult{{Node: "node-a", Applied: 12, Converged: true}}}, f.err
}

func (f *fake) Announcements(_ context.Context, cluster bool) []NodeAnnouncements {
	out := []NodeAnnouncements{{Node: "node-a", Items: []projections.Announcement{{
		Node: "node-a", Service: "shop", Prefix: netip.MustParsePrefix("198.51.100.1/32"), Protocol: projections.BGP, Announced: true,
	}}}}
	if cluster {
		out = append(out, NodeAnnouncements{Node: "node-b", Error: "no answer"})
	}
	return out
}

func (f *fake) Witness(_ context.Context, cluster bool) []WitnessStatus {
	out := []WitnessStatus{{Node: "node-a", URL: "https://w:7990", Claim: &quorum.Claim{Cluster: "c", Epoch: 3, Mode: quorum.Pair}, Matches: true}}
	if cluster {
		out = append(out, WitnessStatus{Node: "node-b", Why: "no answer"})
	}
	return out
}

func (f *fake) AddWitness(_ context.Context, who Caller, r WitnessRequest) (Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.who, f.witness = who, r
	return Result{Seq: 13}, f.err
}

func (f *fake) Events(_ context.Context, q audit.Query) ([]eventlog.Envelope, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.query = q
	return f.events, f.err
}

func (f *fake) FollowEvents(ctx context.Context, q audit.Query) iter.Seq2[eventlog.Envelope, error] {
	return func(yield func(eventlog.Envelope, error) bool) {
		for {
			select {
			case e, ok := <-f.live:
				if !ok {
					yield(eventlog.Envelope{}, f.err)
					return
				}
				if q.Match(e) && !yield(e, nil) {
					return
				}
			case <-ctx.Done():
				if f.ended != nil { // a reader may be gone before the stream began
					f.ended <- ctx.Err()
				}
				return
			}
		}
	}
}

func (f *fake) Explain(_ context.Context, a netip.Addr) (Explanation, error) {
	return Explanation{Address: a, Service: "shop", Lines: []string{"announced"}}, f.err
}

func (f *fake) RecordFact(_ context.Context, who Caller, r FactRequest) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.who, f.fact = who, r
	return f.err
}

func (f *fake) Join(_ context.Context, who Caller, r JoinRequest) (JoinResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.who, f.join = who, r
	return JoinResponse{
		Cluster: "c1", Epoch: 3, Members: map[string]string{"node-a": "https://192.0.2.1:2380"}, Gossip: []string{"192.0.2.1:7946"},
		CAKey: Secret("the key"), GossipKeys: []Secret{Secret("one")},
	}, f.err
}

func (f *fake) Identity(context.Context) (Identity, error) {
	return Identity{Node: "node-a", Cluster: "c1", Certificates: []Certificate{{Subject: "node-a", Kind: "node"}}, GossipKeys: []string{"f"}}, f.err
}

func (f *fake) IssueCertificate(_ context.Context, who Caller, r CertificateRequest) (CertificateAnswer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.who, f.issue = who, r
	return CertificateAnswer{Chain: "pem", Certificate: Certificate{Subject: r.Name, Role: string(r.Role)}}, f.err
}

func (f *fake) Rotate(_ context.Context, _ Caller, r RotateRequest) (RotateAnswer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rotate = r
	return RotateAnswer{GossipKey: "f2"}, f.err
}

func (f *fake) SetGossipKeys(_ context.Context, _ Caller, r GossipKeys) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys = r
	return f.err
}

func (f *fake) Denied(_ context.Context, who Caller, d Denial) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.who, f.denials = who, append(f.denials, d)
}

func (f *fake) Segments() []Segment {
	return []Segment{{First: 1, Last: 3, End: eventlog.HeadOf(f.events[2]), Bytes: 10, SHA256: "ab"}}
}

func (f *fake) Segment(_ context.Context, first, upTo eventlog.Seq) ([]byte, error) {
	if f.err != nil {
		return nil, f.err
	}
	return []byte(fmt.Sprintf("%d-%d\n", first, upTo)), nil
}

func (f *fake) Verify(_ context.Context, fromStart bool, progress func(done, of eventlog.Seq)) (Verification, error) {
	progress(2, 3)
	v := Verification{Node: "node-a", From: 1, To: 3, Events: 3}
	if fromStart {
		v.Segments = 1
	}
	return v, f.err
}

func (f *fake) caller() Caller {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.who
}

// chain makes n events that follow each other.
func chain(t *testing.T, n int) []eventlog.Envelope {
	t.Helper()
	var head eventlog.Head
	var out []eventlog.Envelope
	for range n {
		d, err := eventlog.NewDraft(eventlog.TypePoolRemoved, "pool/web", map[string]string{"name": "<web>"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		e, err := eventlog.Seal(head, 1, head2rev(head), time.Unix(1_800_000_000, 0), d)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
		head = eventlog.HeadOf(e)
	}
	return out
}

func head2rev(h eventlog.Head) uint64 { return uint64(h.Seq) + 1 }

// start runs a front and ends it, waiting, with the test.
func start(t *testing.T, run func(context.Context) error) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("front: %v", err)
		}
	})
	return stop
}

func overUnix(t *testing.T, b Backend) (*Client, string, func() error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "dyad.sock")
	ln, err := ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	h := NewHandler(b, HandlerOptions{})
	stop := start(t, func(ctx context.Context) error { return ServeUnix(ctx, ln, Access{}, h, nil) })
	c := NewClient(ClientOptions{Socket: path})
	t.Cleanup(c.Close)
	return c, path, stop
}

// cluster is the identity of node-a in a cluster of its own.
func newCluster(t *testing.T) *identity.Store {
	t.Helper()
	s, err := identity.Create("c1", identity.Options{Dir: identity.DirIn(t.TempDir()), Node: "node-a", Address: addr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// whoIs is what the node does: a node may do what nodes may, a user has the role
// in its certificate, a token may join.
func whoIs(s *identity.Store) func(tls.ConnectionState) (Caller, error) {
	return func(cs tls.ConnectionState) (Caller, error) {
		p, err := s.PeerOf(cs)
		switch {
		case err != nil:
			return Caller{}, err
		case p.Token != "":
			return Caller{Actor: eventlog.Actor{Name: "token", Auth: AuthToken}, Role: RoleJoiner, Token: p.Token}, nil
		case p.Kind == identity.Node:
			return Caller{Actor: eventlog.Actor{Name: p.Name, Auth: AuthCert}, Role: RoleNode}, nil
		}
		return Caller{Actor: eventlog.Actor{Name: p.Name, Auth: AuthCert}, Role: Role(p.Role)}, nil
	}
}

func serveTCP(t *testing.T, b Backend, s *identity.Store, tokens func(string) bool) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := NewHandler(b, HandlerOptions{})
	start(t, func(ctx context.Context) error { return ServeTCP(ctx, ln, s.ServerTLS(tokens), whoIs(s), h, nil) })
	return ln.Addr().String()
}

func dialTLS(t *testing.T, address string, conf *tls.Config) *Client {
	t.Helper()
	c := NewClient(ClientOptions{Address: address, TLS: conf})
	t.Cleanup(c.Close)
	return c
}

// userTLS is a user with a role.
func userTLS(t *testing.T, s *identity.Store, name string, role Role) *tls.Config {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	chain, _, err := s.IssueUser(key.Public(), name, string(role), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	files, err := identity.WriteUser(t.TempDir(), key, chain)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := files.Load()
	if err != nil {
		t.Fatal(err)
	}
	return conf
}

func overTCP(t *testing.T, b Backend) (*Client, string) {
	t.Helper()
	s := newCluster(t)
	a := serveTCP(t, b, s, nil)
	return dialTLS(t, a, s.ClientTLS()), a
}

func (f *fake) Takeover(_ context.Context, who Caller, r TakeoverRequest) (TakeoverResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.who = who
	return TakeoverResult{Node: "node-a", Mode: "SOLE", Epoch: 8, Notes: []string{r.Peer}}, f.err
}

func (f *fake) Rejoin(_ context.Context, who Caller, r JoinRequest) (JoinResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.who, f.join = who, r
	return JoinResponse{Cluster: "c", Epoch: 8}, f.err
}

func (f *fake) ReplaceNode(_ context.Context, who Caller, r ReplaceNodeRequest) (ReplaceNodeResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.who = who
	return ReplaceNodeResult{Node: r.Node, With: r.With, Removed: true, Epoch: 8, Seq: 9}, f.err
}

func (f *fake) RemoveNode(_ context.Context, who Caller, r RemoveNodeRequest) (RemoveNodeResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.who = who
	return RemoveNodeResult{Node: r.Node, Epoch: 8, Seq: 9}, f.err
}
