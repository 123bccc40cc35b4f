package gobgp_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"
	"go.uber.org/goleak"

	"dyad/projections"
	"dyad/speaker"
	"dyad/speaker/gobgp"
)

const (
	ourASN    = 64513
	routerASN = 64512
)

var (
	ourID  = netip.MustParseAddr("10.255.0.1")
	ourIP  = netip.MustParseAddr("127.0.0.1")
	normal = projections.Attributes{Origin: projections.OriginIncomplete, Prepend: 1, MED: 100, LocalPref: 200}
	better = projections.Attributes{Origin: projections.OriginIGP, LocalPref: 300}
	worse  = projections.Attributes{
		Origin: projections.OriginIncomplete, Prepend: 2, MED: 200, LocalPref: 50,
		Communities: []uint32{projections.GracefulShutdown},
	}
)

// router is a GoBGP server that plays a router on a loopback address.
type router struct {
	t    *testing.T
	srv  *server.BgpServer
	ip   netip.Addr
	asn  uint32
	mu   sync.Mutex
	seen []string // every path of every UPDATE: "+10.0.0.1/32" or "-10.0.0.1/32"
}

// freePort is a TCP port nobody listens on at any of the addresses.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

func newRouter(t *testing.T, ip string, port uint16, asn, expects uint32) *router {
	t.Helper()
	r := &router{t: t, ip: netip.MustParseAddr(ip), asn: asn}
	r.srv = server.NewBgpServer(server.LoggerOption(slog.New(slog.DiscardHandler), new(slog.LevelVar)))
	go r.srv.Serve()
	t.Cleanup(r.stop)
	ctx := t.Context()
	err := r.srv.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
		Asn: asn, RouterId: fmt.Sprintf("10.255.1.%d", r.ip.As4()[3]), ListenPort: int32(port), ListenAddresses: []string{ip},
	}})
	if err != nil {
		t.Fatal(err)
	}
	err = r.srv.WatchEvent(ctx, server.WatchEventMessageCallbacks{
		OnPathUpdate: func(paths []*apiutil.Path, _ time.Time) {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, p := range paths {
				sign := "+"
				if p.Withdrawal {
					sign = "-"
				}
				r.seen = append(r.seen, sign+p.Nlri.String())
			}
		},
	}, server.WatchUpdate(false, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	r.neighbor(expects, 90)
	return r
}

// neighbor makes the router expect us.
func (r *router) neighbor(asn uint32, hold uint64) {
	r.t.Helper()
	err := r.srv.AddPeer(r.t.Context(), &api.AddPeerRequest{Peer: &api.Peer{
		Conf:      &api.PeerConf{NeighborAddress: ourIP.String(), PeerAsn: asn},
		Transport: &api.Transport{PassiveMode: true},
		Timers:    &api.Timers{Config: &api.TimersConfig{HoldTime: hold, IdleHoldTimeAfterReset: 1}},
		AfiSafis: []*api.AfiSafi{
			{Config: &api.AfiSafiConfig{Family: &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}, Enabled: true}},
			{Config: &api.AfiSafiConfig{Family: &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}, Enabled: true}},
		},
	}})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *router) stop() { r.srv.Stop() }

// table is what the router learned: prefix → attributes in words.
func (r *router) table() map[string]string {
	out := map[string]string{}
	for _, f := range []bgp.Family{bgp.RF_IPv4_UC, bgp.RF_IPv6_UC} {
		err := r.srv.ListPath(apiutil.ListPathRequest{TableType: api.TableType_TABLE_TYPE_GLOBAL, Family: f},
			func(nlri bgp.NLRI, paths []*apiutil.Path) {
				for _, p := range paths {
					out[nlri.String()] = words(p)
				}
			})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	return out
}

func words(p *apiutil.Path) string {
	var out []string
	for _, a := range p.Attrs {
		switch v := a.(type) {
		case *bgp.PathAttributeMpReachNLRI:
			out = append(out, "next hop "+v.Nexthop.String())
		case *bgp.PathAttributeNextHop:
			out = append(out, "next hop "+v.Value.String())
		case *bgp.PathAttributeOrigin:
			out = append(out, fmt.Sprintf("origin %d", v.Value))
		case *bgp.PathAttributeAsPath:
			var asns []uint32
			for _, s := range v.Value {
				asns = append(asns, s.GetAS()...)
			}
			out = append(out, fmt.Sprintf("as path %v", asns))
		case *bgp.PathAttributeMultiExitDisc:
			out = append(out, fmt.Sprintf("med %d", v.Value))
		case *bgp.PathAttributeLocalPref:
			out = append(out, fmt.Sprintf("local pref %d", v.Value))
		case *bgp.PathAttributeCommunities:
			out = append(out, fmt.Sprintf("communities %v", v.Value))
		default:
			out = append(out, fmt.Sprintf("unexpected %T", a))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func (r *router) updates() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen)
}

// opensSeen counts the OPEN messages the router got from us.
func (r *router) opensSeen() uint64 {
	var n uint64
	err := r.srv.ListPeer(r.t.Context(), &api.ListPeerRequest{}, func(p *api.Peer) {
		n += p.GetState().GetMessages().GetReceived().GetOpen()
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

func newSpeaker(t *testing.T, opts gobgp.Options) *gobgp.Speaker {
	t.Helper()
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	opts.LocalAddresses = append(opts.LocalAddresses, ourIP)
	s, err := gobgp.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// await polls until ok holds.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	awaitFor(t, 20*time.Second, what, ok)
}

func awaitFor(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(limit)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

func sessionOf(s *gobgp.Speaker, a netip.Addr) speaker.Session {
	for _, v := range s.Sessions() {
		if v.Peer == a {
			return v
		}
	}
	return speaker.Session{}
}

func awaitUp(t *testing.T, s *gobgp.Speaker, peers ...netip.Addr) {
	t.Helper()
	for _, a := range peers {
		await(t, fmt.Sprintf("session with %s is up: %+v", a, sessionOf(s, a)),
			func() bool { return sessionOf(s, a).State == speaker.Established })
	}
}

func mustSet(t *testing.T, s *gobgp.Speaker, w speaker.Wish) speaker.Change {
	t.Helper()
	c, err := s.Set(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func route(peer netip.Addr, prefix string, a projections.Attributes) speaker.Route {
	return speaker.Route{Peer: peer, Prefix: netip.MustParsePrefix(prefix), Attributes: a}
}

func peerOf(r *router, self uint32) speaker.Peer {
	return speaker.Peer{Address: r.ip, PeerASN: r.asn, SelfASN: self, HoldTime: 90}
}

func expectTable(t *testing.T, r *router, want map[string]string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for {
		got := r.table()
		if fmt.Sprint(got) == fmt.Sprint(want) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the router %s has\n%v, want\n%v", r.ip, got, want)
		}
	}
}

func TestEachPeerGetsItsOwn(t *testing.T) {
	port := freePort(t)
	a := newRouter(t, "127.0.0.2", port, routerASN, ourASN)
	b := newRouter(t, "127.0.0.3", port, 4200000000, 4200000001) // 32 bit, another own ASN
	c := newRouter(t, "127.0.0.4", port, 65001, 65001)           // iBGP
	s := newSpeaker(t, gobgp.Options{RemotePort: port, NextHop6: netip.MustParseAddr("2001:db8::9")})
	w := speaker.Wish{
		RouterID: ourID,
		Peers:    []speaker.Peer{peerOf(a, ourASN), peerOf(b, 4200000001), peerOf(c, 65001)},
		Routes: []speaker.Route{
			route(a.ip, "10.0.0.1/32", normal),
			route(b.ip, "10.0.0.1/32", worse),
			route(c.ip, "10.0.0.1/32", better),
			route(a.ip, "10.0.0.2/32", better),
			route(b.ip, "10.0.0.3/32", better),
			route(c.ip, "10.0.0.4/32", worse),
			route(c.ip, "fd00::4/128", normal),
		},
	}
	if got := mustSet(t, s, w); got != (speaker.Change{Announced: 7}) {
		t.Fatalf("%+v", got)
	}
	awaitUp(t, s, a.ip, b.ip, c.ip)
	expectTable(t, a, map[string]string{
		"10.0.0.1/32": "as path [64513 64513], med 100, next hop 127.0.0.1, origin 2",
		"10.0.0.2/32": "as path [64513], med 0, next hop 127.0.0.1, origin 0",
	})
	expectTable(t, b, map[string]string{
		"10.0.0.1/32": "as path [4200000001 4200000001 4200000001], communities [4294901760], med 200, next hop 127.0.0.1, origin 2",
		"10.0.0.3/32": "as path [4200000001], med 0, next hop 127.0.0.1, origin 0",
	})
	expectTable(t, c, map[string]string{
		"10.0.0.1/32": "as path [], local pref 300, med 0, next hop 127.0.0.1, origin 0",
		"10.0.0.4/32": "as path [], communities [4294901760], local pref 50, med 200, next hop 127.0.0.1, origin 2",
		"fd00::4/128": "as path [], local pref 200, med 100, next hop 2001:db8::9, origin 2",
	})
	if v := sessionOf(s, c.ip); v.Advertised != 3 || v.HoldTime != 90 || v.LastError != "" || v.Withheld != 0 {
		t.Fatalf("%+v", v)
	}

	// An attribute change is one UPDATE that replaces; it reaches only its peer.
	seenB := len(b.updates())
	seenA := len(a.updates())
	w.Routes[0].Attributes = better
	if got := mustSet(t, s, w); got != (speaker.Change{Changed: 1}) {
		t.Fatalf("%+v", got)
	}
	expectTable(t, a, map[string]string{
		"10.0.0.1/32": "as path [64513], med 0, next hop 127.0.0.1, origin 0",
		"10.0.0.2/32": "as path [64513], med 0, next hop 127.0.0.1, origin 0",
	})
	if u := a.updates()[seenA:]; !slices.Equal(u, []string{"+10.0.0.1/32"}) {
		t.Fatalf("a change must be one UPDATE that replaces: %v", u)
	}
	// A withdrawal reaches only its peer.
	w.Routes = slices.Delete(w.Routes, 3, 4)
	if got := mustSet(t, s, w); got != (speaker.Change{Withdrawn: 1}) {
		t.Fatalf("%+v", got)
	}
	expectTable(t, a, map[string]string{"10.0.0.1/32": "as path [64513], med 0, next hop 127.0.0.1, origin 0"})
	if got := mustSet(t, s, w); !got.Empty() {
		t.Fatalf("the same wish again: %+v", got)
	}
	// Nil routes keep what stands.
	if got := mustSet(t, s, speaker.Wish{RouterID: ourID, Peers: w.Peers}); !got.Empty() {
		t.Fatalf("nil routes: %+v", got)
	}
	// An empty list withdraws all.
	if got := mustSet(t, s, speaker.Wish{RouterID: ourID, Peers: w.Peers, Routes: []speaker.Route{}}); got.Withdrawn != 6 {
		t.Fatalf("no routes: %+v", got)
	}
	for _, r := range []*router{a, b, c} {
		expectTable(t, r, map[string]string{})
	}
	if u := b.updates()[seenB:]; !slices.Equal(sorted(u), []string{"-10.0.0.1/32", "-10.0.0.3/32"}) {
		t.Fatalf("what concerned others reached %s: %v", b.ip, u)
	}
}

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}

func TestPeersComeAndGoAlone(t *testing.T) {
	port := freePort(t)
	a := newRouter(t, "127.0.0.2", port, routerASN, ourASN)
	b := newRouter(t, "127.0.0.3", port, routerASN, ourASN)
	s := newSpeaker(t, gobgp.Options{RemotePort: port})
	var mu sync.Mutex
	var told []string
	s.Notify(func(v speaker.Session) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprint(v.Peer, " ", v.State))
	})
	w := speaker.Wish{RouterID: ourID, Peers: []speaker.Peer{peerOf(a, ourASN)}, Routes: []speaker.Route{
		route(a.ip, "10.0.0.1/32", normal), route(b.ip, "10.0.0.1/32", normal),
	}}
	if c := mustSet(t, s, w); c.Announced != 1 {
		t.Fatalf("a route for an unknown peer must wait: %+v", c)
	}
	awaitUp(t, s, a.ip)
	since := sessionOf(s, a.ip).Since
	w.Peers = append(w.Peers, peerOf(b, ourASN))
	if c := mustSet(t, s, w); c.Announced != 1 {
		t.Fatalf("%+v", c)
	}
	awaitUp(t, s, b.ip)
	onlyOne := map[string]string{"10.0.0.1/32": "as path [64513 64513], med 100, next hop 127.0.0.1, origin 2"}
	expectTable(t, b, onlyOne)

	// Another hold time: that session is made anew, with its routes.
	b.srv.Log().Debug("hold time changes")
	w.Peers[1].HoldTime = 30
	mustSet(t, s, w)
	await(t, "the session has the new hold time", func() bool {
		v := sessionOf(s, b.ip)
		return v.State == speaker.Established && v.HoldTime == 30
	})
	expectTable(t, b, onlyOne)

	w.Peers = w.Peers[:1]
	if c := mustSet(t, s, w); c.Withdrawn != 0 && c.Announced != 0 {
		t.Fatalf("%+v", c)
	}
	expectTable(t, b, map[string]string{})
	if len(s.Sessions()) != 1 {
		t.Fatalf("%+v", s.Sessions())
	}
	if v := sessionOf(s, a.ip); v.Since != since || v.Flaps != 0 || a.opensSeen() != 1 {
		t.Fatalf("the other session was touched: %+v, %d OPENs", v, a.opensSeen())
	}
	expectTable(t, a, onlyOne)
	await(t, "the removal is told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(told) > 0 && told[len(told)-1] == b.ip.String()+" Idle"
	})
}

func TestNothingIsAcceptedOrPassedOn(t *testing.T) {
	port := freePort(t)
	a := newRouter(t, "127.0.0.2", port, routerASN, ourASN)
	b := newRouter(t, "127.0.0.3", port, 65100, ourASN)
	i := newRouter(t, "127.0.0.4", port, ourASN, ourASN)
	s := newSpeaker(t, gobgp.Options{RemotePort: port})
	mustSet(t, s, speaker.Wish{
		RouterID: ourID, Peers: []speaker.Peer{peerOf(a, ourASN), peerOf(b, ourASN), peerOf(i, ourASN)},
		Routes: []speaker.Route{route(b.ip, "10.0.0.1/32", better)},
	})
	awaitUp(t, s, a.ip, b.ip, i.ip)
	for _, r := range []*router{a, i} {
		nlri, _ := bgp.NewIPAddrPrefix(netip.MustParsePrefix("203.0.113.0/24"))
		hop, _ := bgp.NewPathAttributeNextHop(r.ip)
		_, err := r.srv.AddPath(apiutil.AddPathRequest{Paths: []*apiutil.Path{{
			Family: bgp.RF_IPv4_UC, Nlri: nlri, Attrs: []bgp.PathAttributeInterface{bgp.NewPathAttributeOrigin(0), hop},
		}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	// A change after it proves that everything before was passed on, or not.
	mustSet(t, s, speaker.Wish{
		RouterID: ourID, Peers: []speaker.Peer{peerOf(a, ourASN), peerOf(b, ourASN), peerOf(i, ourASN)},
		Routes: []speaker.Route{route(b.ip, "10.0.0.2/32", better)},
	})
	expectTable(t, b, map[string]string{"10.0.0.2/32": "as path [64513], med 0, next hop 127.0.0.1, origin 0"})
	if _, leaked := i.table()["203.0.113.0/24"]; len(i.table()) != 1 || !leaked {
		t.Fatalf("the iBGP router has %v, want only its own", i.table())
	}
	if u := b.updates(); slices.Contains(u, "+203.0.113.0/24") {
		t.Fatalf("a router's route was passed on: %v", u)
	}
}

func TestWrongASNsAreToldInWords(t *testing.T) {
	port := freePort(t)
	theirs := newRouter(t, "127.0.0.2", port, 64999, ourASN)  // not what we expect
	ours := newRouter(t, "127.0.0.3", port, routerASN, 64111) // does not expect us
	s := newSpeaker(t, gobgp.Options{RemotePort: port})
	nobody := netip.MustParseAddr("127.0.0.9")
	mustSet(t, s, speaker.Wish{RouterID: ourID, Routes: []speaker.Route{}, Peers: []speaker.Peer{
		{Address: theirs.ip, PeerASN: routerASN, SelfASN: ourASN, HoldTime: 90},
		{Address: ours.ip, PeerASN: routerASN, SelfASN: ourASN, HoldTime: 90},
		{Address: nobody, PeerASN: routerASN, SelfASN: ourASN, HoldTime: 90},
	}})
	for a, want := range map[netip.Addr][]string{
		theirs.ip: {"Bad Peer AS (2/2)", "not 64512"},
		ours.ip:   {"the router sent NOTIFICATION", "Bad Peer AS (2/2)", "another ASN than ours, 64513"},
		nobody:    {"refused the connection"},
	} {
		var v speaker.Session
		defer func() { t.Logf("%s: %s", a, v.LastError) }()
		await(t, fmt.Sprintf("%s tells %q", a, want), func() bool {
			v = sessionOf(s, a)
			for _, part := range want {
				if !strings.Contains(v.LastError, part) {
					return false
				}
			}
			return v.State != speaker.Established
		})
	}
}

func TestHoldTimesNegotiate(t *testing.T) {
	port := freePort(t)
	a := newRouter(t, "127.0.0.2", port, routerASN, ourASN)
	b := newRouter(t, "127.0.0.3", port, routerASN, ourASN)
	s := newSpeaker(t, gobgp.Options{RemotePort: port})
	low, zero := peerOf(a, ourASN), peerOf(b, ourASN)
	low.HoldTime, zero.HoldTime = 3, 0
	mustSet(t, s, speaker.Wish{RouterID: ourID, Peers: []speaker.Peer{low, zero}})
	awaitUp(t, s, a.ip, b.ip)
	if v := sessionOf(s, a.ip); v.HoldTime != 3 {
		t.Fatalf("the lower one counts: %+v", v)
	}
	if v := sessionOf(s, b.ip); v.HoldTime != 90 {
		t.Fatalf("0 proposes the longest, so the router's counts: %+v", v)
	}
	// 4 s with a hold time of 3 s: keepalives flow.
	hold := time.After(4 * time.Second)
	<-hold
	if v := sessionOf(s, a.ip); v.State != speaker.Established || v.Flaps != 0 {
		t.Fatalf("no keepalives? %+v", v)
	}
	for _, bad := range []speaker.Peer{
		{Address: a.ip, PeerASN: 1, SelfASN: 2, HoldTime: 2},
		{Address: a.ip, PeerASN: 0, SelfASN: 2, HoldTime: 9},
		{PeerASN: 1, SelfASN: 2, HoldTime: 9},
	} {
		if _, err := s.Set(t.Context(), speaker.Wish{RouterID: ourID, Peers: []speaker.Peer{bad}}); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
	if _, err := s.Set(t.Context(), speaker.Wish{Peers: []speaker.Peer{low}}); err == nil {
		t.Error("no router ID was accepted")
	}
	if v := sessionOf(s, a.ip); v.State != speaker.Established {
		t.Fatalf("a refused wish touched a session: %+v", v)
	}
}

func TestRoutesOfTheWrongFamilyAreWithheld(t *testing.T) {
	port := freePort(t)
	a := newRouter(t, "127.0.0.2", port, routerASN, ourASN)
	s := newSpeaker(t, gobgp.Options{RemotePort: port})
	c := mustSet(t, s, speaker.Wish{RouterID: ourID, Peers: []speaker.Peer{peerOf(a, ourASN)}, Routes: []speaker.Route{
		route(a.ip, "10.0.0.1/32", better), route(a.ip, "fd00::1/128", better),
	}})
	if c.Announced != 1 {
		t.Fatalf("%+v", c)
	}
	awaitUp(t, s, a.ip)
	expectTable(t, a, map[string]string{"10.0.0.1/32": "as path [64513], med 0, next hop 127.0.0.1, origin 0"})
	if v := sessionOf(s, a.ip); v.Withheld != 1 || v.Advertised != 1 || !strings.Contains(v.LastError, "1 IPv6 routes are withheld") {
		t.Fatalf("%+v", v)
	}
}

func TestALostSessionComesBack(t *testing.T) {
	port := freePort(t)
	a := newRouter(t, "127.0.0.2", port, routerASN, ourASN)
	s := newSpeaker(t, gobgp.Options{RemotePort: port})
	mustSet(t, s, speaker.Wish{
		RouterID: ourID, Peers: []speaker.Peer{peerOf(a, ourASN)},
		Routes: []speaker.Route{route(a.ip, "10.0.0.1/32", better)},
	})
	awaitUp(t, s, a.ip)
	a.stop()
	await(t, "the loss is seen", func() bool { return sessionOf(s, a.ip).State != speaker.Established })
	if v := sessionOf(s, a.ip); v.Flaps != 1 || !strings.Contains(v.LastError, "Cease, Peer De-configured (6/3)") {
		t.Fatalf("%+v", v)
	}
	b := newRouter(t, "127.0.0.2", port, routerASN, ourASN)
	start := time.Now()
	awaitUp(t, s, b.ip)
	t.Logf("back %v after the router", time.Since(start))
	expectTable(t, b, map[string]string{"10.0.0.1/32": "as path [64513], med 0, next hop 127.0.0.1, origin 0"})
}

func TestCloseSaysGoodbyeAndLeavesNothing(t *testing.T) {
	port := freePort(t)
	a := newRouter(t, "127.0.0.2", port, routerASN, ourASN)
	var mu sync.Mutex
	var last string
	before := goleak.IgnoreCurrent()
	s, err := gobgp.New(gobgp.Options{RemotePort: port, LocalAddresses: []netip.Addr{ourIP}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	watching, unwatch := context.WithCancel(t.Context())
	defer unwatch()
	err = a.srv.WatchEvent(watching, server.WatchEventMessageCallbacks{
		OnPeerUpdate: func(ev *apiutil.WatchEventMessage_PeerEvent, _ time.Time) {
			mu.Lock()
			defer mu.Unlock()
			if ev.Peer.State.SessionState == bgp.BGP_FSM_IDLE {
				last = ev.Peer.State.DisconnectMessage
			}
		},
	}, server.WatchPeer())
	if err != nil {
		t.Fatal(err)
	}
	mustSet(t, s, speaker.Wish{RouterID: ourID, Peers: []speaker.Peer{peerOf(a, ourASN)}})
	awaitUp(t, s, a.ip)
	start := time.Now()
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("closed in %v", time.Since(start))
	await(t, "the router hears why", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(last, "administrative") || strings.Contains(last, "administrative-shutdown")
	})
	if _, err := s.Set(t.Context(), speaker.Wish{}); !errors.Is(err, gobgp.ErrClosed) {
		t.Fatalf("Set after Close: %v", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatalf("a second Close: %v", err)
	}
	unwatch()
	a.stop()
	goleak.VerifyNone(t, before)
}

func TestListening(t *testing.T) {
	port, ourPort := freePort(t), freePort(t)
	s := newSpeaker(t, gobgp.Options{RemotePort: port, ListenPort: ourPort, ListenAddresses: []netip.Addr{ourIP}})
	ip := netip.MustParseAddr("127.0.0.2")
	mustSet(t, s, speaker.Wish{RouterID: ourID, Peers: []speaker.Peer{{Address: ip, PeerASN: routerASN, SelfASN: ourASN, HoldTime: 9}}})
	r := server.NewBgpServer(server.LoggerOption(slog.New(slog.DiscardHandler), new(slog.LevelVar)))
	go r.Serve()
	t.Cleanup(r.Stop)
	err := r.StartBgp(t.Context(), &api.StartBgpRequest{Global: &api.Global{Asn: routerASN, RouterId: "10.255.1.2", ListenPort: -1}})
	if err != nil {
		t.Fatal(err)
	}
	err = r.AddPeer(t.Context(), &api.AddPeerRequest{Peer: &api.Peer{
		Conf:      &api.PeerConf{NeighborAddress: ourIP.String(), PeerAsn: ourASN},
		Transport: &api.Transport{LocalAddress: ip.String(), RemotePort: uint32(ourPort)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	awaitUp(t, s, ip)
}

func TestOptionsAreChecked(t *testing.T) {
	for _, bad := range []gobgp.Options{
		{ConnectRetry: time.Millisecond},
		{ConnectRetry: time.Hour},
		{NextHop6: netip.MustParseAddr("192.0.2.1")},
		{NextHop6: netip.MustParseAddr("fe80::1")},
		{LocalAddresses: []netip.Addr{netip.IPv4Unspecified()}},
	} {
		if s, err := gobgp.New(bad); err == nil {
			t.Errorf("%+v was accepted", bad)
			_ = s.Close(t.Context())
		}
	}
}
