package speaker_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"dyad/eventlog"
	"dyad/projections"
	"dyad/speaker"
)

func routes() *rapid.Generator[[]speaker.Route] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) speaker.Route {
		a := netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(0, 9).Draw(t, "prefix"))})
		bits := rapid.SampledFrom([]int{31, 32}).Draw(t, "bits")
		if rapid.Bool().Draw(t, "v6") {
			a = netip.AddrFrom16([16]byte{0: 0xfd, 15: a.As4()[3]})
			bits += 96
		}
		return speaker.Route{
			Peer:   netip.AddrFrom4([4]byte{192, 0, 2, byte(rapid.IntRange(0, 3).Draw(t, "peer"))}),
			Prefix: netip.PrefixFrom(a, bits),
			Attributes: projections.Attributes{
				MED:         uint32(rapid.IntRange(0, 2).Draw(t, "med")),
				Communities: rapid.SampledFrom([][]uint32{nil, {projections.GracefulShutdown}}).Draw(t, "communities"),
			},
		}
	}), 0, 40)
}

type key struct {
	prefix netip.Prefix
	peer   netip.Addr
}

func table(rs []speaker.Route) map[key]speaker.Route {
	m := map[key]speaker.Route{}
	for _, r := range rs {
		m[key{r.Prefix, r.Peer}] = r
	}
	return m
}

func TestDiffAppliedToHaveGivesWant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have, want := routes().Draw(t, "have"), routes().Draw(t, "want")
		was := slices.Clone(have)
		d := speaker.Diff(have, want)
		if fmt.Sprint(have) != fmt.Sprint(was) {
			t.Fatal("the argument was changed")
		}
		got := table(have)
		for _, r := range d.Withdraw {
			if _, ok := got[key{r.Prefix, r.Peer}]; !ok {
				t.Fatalf("withdraws %v, which does not stand", r)
			}
			delete(got, key{r.Prefix, r.Peer})
		}
		for _, r := range d.Add {
			if _, ok := got[key{r.Prefix, r.Peer}]; ok {
				t.Fatalf("adds %v, which stands", r)
			}
			got[key{r.Prefix, r.Peer}] = r
		}
		for _, r := range d.Modify {
			old, ok := got[key{r.Prefix, r.Peer}]
			if !ok || old.Attributes.Equal(r.Attributes) {
				t.Fatalf("modifies %v, which stands as %v", r, old)
			}
			got[key{r.Prefix, r.Peer}] = r
		}
		if fmt.Sprint(got) != fmt.Sprint(table(want)) {
			t.Fatalf("got %v, want %v", got, table(want))
		}
		for _, l := range [][]speaker.Route{d.Add, d.Modify, d.Withdraw} {
			if !slices.IsSortedFunc(l, speaker.CompareRoutes) {
				t.Fatalf("not sorted: %v", l)
			}
		}
	})
}

func TestDiffOfEqualIsEmpty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rs := routes().Draw(t, "routes")
		if d := speaker.Diff(rs, rs); !d.Empty() {
			t.Fatalf("%+v", d)
		}
		sorted := speaker.SortRoutes(slices.Clone(rs))
		if d := speaker.Diff(rs, sorted); !d.Empty() {
			t.Fatalf("sorting made a difference: %+v", d)
		}
	})
}

func TestDiffIsDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have := speaker.SortRoutes(routes().Draw(t, "have"))
		want := speaker.SortRoutes(routes().Draw(t, "want"))
		d := speaker.Diff(have, want)
		shuffled := rapid.Permutation(want).Draw(t, "shuffled")
		if e := speaker.Diff(have, shuffled); fmt.Sprint(d) != fmt.Sprint(e) {
			t.Fatalf("order matters: %v, %v", d, e)
		}
	})
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestWishFromTakesWhatIsAnnounced(t *testing.T) {
	id := addr("192.0.2.10")
	peers := []eventlog.Peer{
		{Switch: "b", Address: addr("192.0.2.1"), PeerASN: 9, SelfASN: 8},
		{Switch: "a", Address: addr("192.0.2.1"), PeerASN: 64512, SelfASN: 64513, HoldTime: 15},
		{Switch: "a", Address: addr("2001:db8::1"), PeerASN: 64512, SelfASN: 64513, HoldTime: 90},
	}
	med := projections.Attributes{MED: 50}
	ann := func(prefix, peer string, on bool, p projections.Protocol) projections.Announcement {
		return projections.Announcement{
			Prefix: netip.MustParsePrefix(prefix), Peer: addr(peer), Announced: on, Protocol: p, Attributes: med,
		}
	}
	anns := projections.Announcements{
		ann("10.0.0.2/32", "192.0.2.1", true, projections.BGP),
		ann("10.0.0.1/32", "192.0.2.1", true, projections.BGP),
		ann("10.0.0.3/32", "192.0.2.1", false, projections.BGP),
		ann("10.0.0.4/32", "192.0.2.1", true, projections.ARP),
		ann("10.0.0.5/32", "192.0.2.99", true, projections.BGP), // a peer that was removed
		ann("fd00::1/128", "2001:db8::1", true, projections.BGP),
	}
	w := speaker.WishFrom(id, peers, anns)
	if w.RouterID != id || len(w.Peers) != 2 {
		t.Fatalf("%+v", w)
	}
	if w.Peers[0] != (speaker.Peer{Address: addr("192.0.2.1"), PeerASN: 64512, SelfASN: 64513, HoldTime: 15}) {
		t.Fatalf("the first switch must count: %+v", w.Peers[0])
	}
	var got []string
	for _, r := range w.Routes {
		got = append(got, fmt.Sprintf("%s>%s med %d", r.Prefix, r.Peer, r.Attributes.MED))
	}
	want := []string{"10.0.0.1/32>192.0.2.1 med 50", "10.0.0.2/32>192.0.2.1 med 50", "fd00::1/128>2001:db8::1 med 50"}
	if !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	if w := speaker.WishFrom(id, peers, nil); w.Routes != nil {
		t.Fatal("nil announcements must keep what stands")
	}
	if w := speaker.WishFrom(id, peers, projections.Announcements{}); w.Routes == nil {
		t.Fatal("no announcements must withdraw everything")
	}
}

func BenchmarkDiff(b *testing.B) {
	const n = 10_000
	have := make([]speaker.Route, n)
	for i := range have {
		have[i] = speaker.Route{
			Peer:   netip.AddrFrom4([4]byte{192, 0, 2, 1}),
			Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32),
		}
	}
	changed := slices.Clone(have)
	for i := range changed {
		changed[i].Attributes.MED = 100
	}
	reversed := slices.Clone(changed)
	slices.Reverse(reversed)
	for _, c := range []struct {
		name string
		want []speaker.Route
		n    int
	}{{"equal", have, 0}, {"all-changed", changed, n}, {"unsorted", reversed, n}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if d := speaker.Diff(have, c.want); cmp.Compare(len(d.Modify), c.n) != 0 {
					b.Fatal(len(d.Modify))
				}
			}
		})
	}
}
