package eventlog_test

import (
	"encoding/json"
	"math/big"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"dyad/eventlog"
)

func TestParseRange(t *testing.T) {
	for in, want := range map[string]struct{ text, size string }{
		"192.0.2.0/24":                   {"192.0.2.0/24", "256"},
		" 192.0.2.0/31 ":                 {"192.0.2.0/31", "2"},
		"192.0.2.7/32":                   {"192.0.2.7", "1"},
		"192.0.2.7":                      {"192.0.2.7", "1"},
		"192.0.2.10-192.0.2.20":          {"192.0.2.10-192.0.2.20", "11"},
		"192.0.2.10 - 192.0.2.10":        {"192.0.2.10", "1"},
		"192.0.2.0-192.0.2.255":          {"192.0.2.0/24", "256"},
		"192.0.2.2-192.0.2.3":            {"192.0.2.2/31", "2"},
		"192.0.2.1-192.0.2.2":            {"192.0.2.1-192.0.2.2", "2"},
		"0.0.0.0/0":                      {"0.0.0.0/0", "4294967296"},
		"2001:db8::/64":                  {"2001:db8::/64", "18446744073709551616"},
		"2001:db8::/127":                 {"2001:db8::/127", "2"},
		"2001:db8::1/128":                {"2001:db8::1", "1"},
		"::/0":                           {"::/0", "340282366920938463463374607431768211456"},
		"2001:db8::1-2001:db8::ff":       {"2001:db8::1-2001:db8::ff", "255"},
		"::ffff:192.0.2.1":               {"192.0.2.1", "1"},
		"::ffff:192.0.2.0/120":           {"192.0.2.0/24", "256"},
		"::ffff:192.0.2.1-192.0.2.3":     {"192.0.2.1-192.0.2.3", "3"},
		"ffff:ffff:ffff:ffff:ffff::/128": {"ffff:ffff:ffff:ffff:ffff::", "1"},
	} {
		r, err := eventlog.ParseRange(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		if r.String() != want.text || r.Size().String() != want.size {
			t.Errorf("%q = %s with %s addresses; want %s with %s", in, r, r.Size(), want.text, want.size)
		}
	}
}

func TestParseRangeRefuses(t *testing.T) {
	for in, why := range map[string]string{
		"":                            "not an IP address",
		"-":                           "not an IP address",
		"192.0.2.1-":                  "not an IP address",
		"192.0.2.1-192.0.2.2-3":       "not an IP address",
		"192.0.2.300":                 "not an IP address",
		"192.0.2.1/24":                "the prefix is 192.0.2.0/24",
		"::ffff:192.0.2.1/120":        "the prefix is 192.0.2.0/24",
		"2001:db8::1/64":              "the prefix is 2001:db8::/64",
		"192.0.2.0/33":                "not a prefix",
		"192.0.2.0/":                  "not a prefix",
		"192.0.2.0/24/24":             "not a prefix",
		"192.0.2.20-192.0.2.10":       "write 192.0.2.10-192.0.2.20",
		"2001:db8::2-2001:db8::1":     "write 2001:db8::1-2001:db8::2",
		"192.0.2.1-2001:db8::1":       "mixes IPv4 and IPv6",
		"2001:db8::1-192.0.2.1":       "mixes IPv4 and IPv6",
		"fe80::1%eth0":                "zone",
		"fe80::1%eth0-fe80::2%eth0":   "zone",
		"fe80::%eth0/64":              "not a prefix",
		"192.0.2.0/24-192.0.3.0/24":   "not a prefix",
		"192.0.2.1,192.0.2.2":         "not an IP address",
		"2001:db8::1-2001:db8::2%lo":  "zone",
		"example.org":                 "not an IP address",
		"192.0.2.1-192.0.2.10/28":     "not a prefix",
		"192.0.2.01":                  "not an IP address",
		"٣.0.2.1":                     "not an IP address",
		strings.Repeat("1", 1<<12):    "not an IP address",
		"192.0.2.1 192.0.2.2":         "not an IP address",
		"0.0.0.0-255.255.255.255/0.0": "not a prefix",
	} {
		r, err := eventlog.ParseRange(in)
		if err == nil {
			t.Errorf("%q was read as %s", in, r)
		} else if !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v; want it to say %q", in, err, why)
		}
	}
}

func TestRangeContainsAndOverlaps(t *testing.T) {
	parse := func(s string) eventlog.Range {
		r, err := eventlog.ParseRange(s)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := parse("192.0.2.0/31")
	for in, want := range map[string]bool{
		"192.0.2.0": true, "192.0.2.1": true, "192.0.2.2": false, "192.0.1.255": false, "::": false, "::c000:200": false,
	} {
		if got := r.Contains(netip.MustParseAddr(in)); got != want {
			t.Errorf("%s in %s: %v, want %v", in, r, got, want)
		}
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"192.0.2.0/24", "192.0.2.255", true},
		{"192.0.2.0/24", "192.0.3.0", false},
		{"192.0.2.1-192.0.2.5", "192.0.2.5-192.0.2.9", true},
		{"192.0.2.1-192.0.2.4", "192.0.2.5-192.0.2.9", false},
		{"0.0.0.0/0", "::/0", false},
		{"2001:db8::/64", "2001:db8::ffff", true},
	} {
		a, b := parse(c.a), parse(c.b)
		if a.Overlaps(b) != c.want || b.Overlaps(a) != c.want {
			t.Errorf("%s and %s overlap: %v and %v, want %v", a, b, a.Overlaps(b), b.Overlaps(a), c.want)
		}
	}
	var none eventlog.Range
	if none.String() != "" || none.Size().Sign() != 0 || none.Contains(netip.MustParseAddr("::")) || none.Contains(netip.MustParseAddr("0.0.0.0")) {
		t.Error("the zero range is not empty")
	}
}

func TestPrefixRangeOfNothing(t *testing.T) {
	if r := eventlog.PrefixRange(netip.Prefix{}); r != (eventlog.Range{}) {
		t.Errorf("the range of no prefix is %v", r)
	}
}

func addrs(v4 bool) *rapid.Generator[netip.Addr] {
	n := 16
	if v4 {
		n = 4
	}
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		// Few distinct bytes make neighbours, and prefixes, likely.
		b := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0x7f, 0x80, 0xfe, 0xff}), n, n).Draw(t, "bytes")
		a, _ := netip.AddrFromSlice(b)
		return a
	})
}

func TestRangeProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v4 := rapid.Bool().Draw(t, "v4")
		a, b := addrs(v4).Draw(t, "a").Unmap(), addrs(v4).Draw(t, "b").Unmap()
		if a.Is4() != b.Is4() {
			return
		}
		if b.Less(a) {
			a, b = b, a
		}
		r, err := eventlog.ParseRange(a.String() + "-" + b.String())
		if err != nil {
			t.Fatal(err)
		}
		back, err := eventlog.ParseRange(r.String())
		if err != nil || back != r {
			t.Fatalf("%s-%s wrote itself as %s, read as %s (%v)", a, b, r, back, err)
		}
		if !r.Contains(a) || !r.Contains(b) || !r.Overlaps(r) || r.Size().Cmp(big.NewInt(1)) < 0 {
			t.Fatalf("%s does not hold its own ends, or overlap itself", r)
		}
		x := addrs(v4).Draw(t, "x")
		point := eventlog.Range{First: x, Last: x}
		if r.Contains(x) != r.Overlaps(point) {
			t.Fatalf("%s holds %s: %v, overlaps it: %v", r, x, r.Contains(x), r.Overlaps(point))
		}
		p, err := a.Prefix(rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
		if err != nil {
			t.Fatal(err)
		}
		pr := eventlog.PrefixRange(p)
		if pr.Contains(x) != p.Contains(x) {
			t.Fatalf("prefix %s holds %s: %v; its range: %v", p, x, p.Contains(x), pr.Contains(x))
		}
		text, err := json.Marshal(pr)
		if err != nil {
			t.Fatal(err)
		}
		var read eventlog.Range
		if err := json.Unmarshal(text, &read); err != nil || read != pr {
			t.Fatalf("%s became %s (%v)", text, read, err)
		}
	})
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"192.0.2.0/24", "::/80", "2001:db8::1-2001:db8::9", "::ffff:1.2.3.0/120", "1.2.3.4-::1", "fe80::1%x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := eventlog.ParseRange(s)
		if err != nil {
			return
		}
		if r.Last.Less(r.First) || r.First.Is4() != r.Last.Is4() || r.First.Zone() != "" || r.First.Is4In6() != r.Last.Is4In6() && r.First.Is4In6() {
			t.Fatalf("%q was read as %s to %s", s, r.First, r.Last)
		}
		back, err := eventlog.ParseRange(r.String())
		if err != nil || back != r {
			t.Fatalf("%q is %s, which is read as %s (%v)", s, r, back, err)
		}
	})
}
