package gobgprouter

import (
	"net/netip"
	"slices"
	"testing"
)

func TestBest(t *testing.T) {
	a, b, c := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	normal := func(n netip.Addr) route { return route{100, 2, 2, 100, n} }
	cases := []struct {
		name string
		in   []route
		want []netip.Addr
	}{
		{"none", nil, nil},
		{"equals share, in order", []route{normal(b), normal(a)}, []netip.Addr{a, b}},
		{"the survivor's rung wins", []route{normal(a), {100, 1, 0, 0, b}}, []netip.Addr{b}},
		{"LOCAL_PREF before length", []route{{200, 9, 2, 900, a}, {100, 1, 0, 0, b}}, []netip.Addr{a}},
		{"length before origin", []route{{100, 2, 0, 0, a}, {100, 1, 2, 0, b}}, []netip.Addr{b}},
		{"origin before MED", []route{{100, 2, 0, 900, a}, {100, 2, 2, 0, b}}, []netip.Addr{a}},
		{"lower MED", []route{{100, 2, 2, 100, a}, {100, 2, 2, 50, b}}, []netip.Addr{b}},
		{"not more than the table takes", []route{normal(a), normal(b), normal(c)}, []netip.Addr{a, b}},
		{"one next hop counts once", []route{normal(a), normal(a)}, []netip.Addr{a}},
	}
	for _, x := range cases {
		if got := best(x.in); !slices.Equal(got, x.want) {
			t.Errorf("%s: got %v, want %v", x.name, got, x.want)
		}
	}
}
