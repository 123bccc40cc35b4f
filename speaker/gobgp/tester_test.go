package gobgp_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"dyad/speaker"
	"dyad/speaker/gobgp"
)

func TestATestRouteStandsBesideTheWish(t *testing.T) {
	port := freePort(t)
	a := newRouter(t, "127.0.0.2", port, routerASN, ourASN)
	b := newRouter(t, "127.0.0.3", port, 65100, ourASN)
	s := newSpeaker(t, gobgp.Options{RemotePort: port})
	test := netip.MustParsePrefix("192.0.2.254/32")
	w := speaker.Wish{
		RouterID: ourID, Peers: []speaker.Peer{peerOf(a, ourASN), peerOf(b, ourASN)},
		Routes: []speaker.Route{route(a.ip, "10.0.0.1/32", better)},
	}
	if err := s.Test(t.Context(), route(a.ip, test.String(), better)); err == nil {
		t.Error("a test at a peer that nobody wishes for")
	}
	mustSet(t, s, w)
	awaitUp(t, s, a.ip, b.ip)
	for _, r := range []speaker.Route{route(a.ip, "10.0.0.1/32", better), route(a.ip, "2001:db8::1/128", better)} {
		if err := s.Test(t.Context(), r); err == nil {
			t.Errorf("a test with %s", r.Prefix)
		}
	}
	if err := s.Test(t.Context(), route(a.ip, test.String(), better)); err != nil {
		t.Fatal(err)
	}
	own := "as path [64513], med 0, next hop 127.0.0.1, origin 0"
	expectTable(t, a, map[string]string{"10.0.0.1/32": own, "192.0.2.254/32": own})

	// A wish leaves it alone, and another router never hears of it.
	w.Routes = append(w.Routes, route(b.ip, "10.0.0.2/32", better))
	mustSet(t, s, w)
	expectTable(t, b, map[string]string{"10.0.0.2/32": own})
	expectTable(t, a, map[string]string{"10.0.0.1/32": own, "192.0.2.254/32": own})
	if err := s.Untest(t.Context(), a.ip, test); err != nil {
		t.Fatal(err)
	}
	expectTable(t, a, map[string]string{"10.0.0.1/32": own})

	// What a wish has come to announce stays.
	if err := s.Test(t.Context(), route(a.ip, test.String(), normal)); err != nil {
		t.Fatal(err)
	}
	w.Routes = append(w.Routes, route(a.ip, test.String(), better))
	mustSet(t, s, w)
	if err := s.Untest(t.Context(), a.ip, test); err != nil {
		t.Fatal(err)
	}
	w.Routes = append(w.Routes, route(a.ip, "10.0.0.3/32", better)) // proves that what was before has arrived
	mustSet(t, s, w)
	expectTable(t, a, map[string]string{"10.0.0.1/32": own, "10.0.0.3/32": own, "192.0.2.254/32": own})
}

// It is heard as it came, and passed on to nobody.
func TestWhatARouterSendsBackIsHeard(t *testing.T) {
	port := freePort(t)
	a := newRouter(t, "127.0.0.2", port, routerASN, ourASN)
	b := newRouter(t, "127.0.0.3", port, 65100, ourASN)
	s := newSpeaker(t, gobgp.Options{RemotePort: port})
	mustSet(t, s, speaker.Wish{RouterID: ourID, Peers: []speaker.Peer{peerOf(a, ourASN), peerOf(b, ourASN)}, Routes: []speaker.Route{}})
	awaitUp(t, s, a.ip, b.ip)
	heard := func() speaker.Heard {
		h, err := s.Heard(a.ip, netip.MustParsePrefix("192.0.2.254/32"))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	if h := heard(); h.There {
		t.Fatalf("%+v before anything was sent", h)
	}
	path := func(prefix string) *apiutil.Path {
		nlri, err := bgp.NewIPAddrPrefix(netip.MustParsePrefix(prefix))
		if err != nil {
			t.Fatal(err)
		}
		hop, err := bgp.NewPathAttributeNextHop(a.ip)
		if err != nil {
			t.Fatal(err)
		}
		return &apiutil.Path{Family: bgp.RF_IPv4_UC, Nlri: nlri, Attrs: []bgp.PathAttributeInterface{
			bgp.NewPathAttributeOrigin(0), hop, bgp.NewPathAttributeCommunities([]uint32{7, 64941<<16 | 2}),
		}}
	}
	for _, p := range []string{"192.0.2.0/24", "192.0.2.254/32"} {
		if _, err := a.srv.AddPath(apiutil.AddPathRequest{Paths: []*apiutil.Path{path(p)}}); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the path is heard", func() bool { return heard().There })
	if h := heard(); !slices.Contains(h.Communities, 64941<<16|2) || h.NextHop != a.ip {
		t.Errorf("%+v", h)
	}
	if err := a.srv.DeletePath(apiutil.DeletePathRequest{Paths: []*apiutil.Path{path("192.0.2.254/32")}}); err != nil {
		t.Fatal(err)
	}
	await(t, "the withdrawal is heard", func() bool { return !heard().There })
	if u := b.updates(); len(u) != 0 {
		t.Errorf("a router's route was passed on: %v", u)
	}
	if _, err := s.Heard(netip.MustParseAddr("127.0.0.9"), netip.MustParsePrefix("192.0.2.254/32")); err == nil {
		t.Error("a router that nobody wishes for was heard")
	}
}
