package address

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func set(s ...string) map[netip.Addr]bool {
	m := map[netip.Addr]bool{}
	for _, x := range s {
		m[ip(x)] = true
	}
	return m
}

func TestPlan(t *testing.T) {
	p := planFor(
		set("127.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.9"), // here
		set("192.0.2.10", "10.0.0.5"),                        // elsewhere
		set("10.0.0.1", "10.0.0.2", "10.0.0.7"),              // owned
		set("10.0.0.1", "10.0.0.3", "10.0.0.5", "10.0.0.9"),  // want
	)
	for _, c := range []struct {
		name string
		got  []netip.Addr
		want string
	}{
		{"add", p.add, "10.0.0.3"},
		{"remove", p.remove, "10.0.0.2"},
		{"foreign", p.foreign, "10.0.0.5 10.0.0.9"},
		{"forget", p.forget, "10.0.0.7"},
	} {
		var s []string
		for _, a := range c.got {
			s = append(s, a.String())
		}
		if strings.Join(s, " ") != c.want {
			t.Errorf("%s = %v, want %s", c.name, s, c.want)
		}
	}
}

func TestPlanProperties(t *testing.T) {
	some := rapid.Custom(func(t *rapid.T) map[netip.Addr]bool {
		m := map[netip.Addr]bool{}
		for _, b := range rapid.SliceOf(rapid.ByteMax(15)).Draw(t, "last bytes") {
			m[netip.AddrFrom4([4]byte{10, 0, 0, b})] = true
		}
		return m
	})
	rapid.Check(t, func(t *rapid.T) {
		here, elsewhere := some.Draw(t, "here"), some.Draw(t, "elsewhere")
		owned, want := some.Draw(t, "owned"), some.Draw(t, "want")
		p := planFor(here, elsewhere, owned, want)
		for _, a := range p.remove {
			if !owned[a] || want[a] {
				t.Fatalf("removes %s: owned %v, wanted %v", a, owned[a], want[a])
			}
		}
		after := map[netip.Addr]bool{}
		for a := range here {
			after[a] = true
		}
		for _, a := range p.add {
			if after[a] {
				t.Fatalf("adds %s, which is there", a)
			}
			after[a] = true
		}
		for _, a := range p.remove {
			delete(after, a)
		}
		for a := range want {
			if !after[a] && !slices.Contains(p.foreign, a) {
				t.Fatalf("%s is wanted and neither here nor somebody else's", a)
			}
		}
		for a := range here {
			if !owned[a] && !after[a] {
				t.Fatalf("%s was not ours and is gone", a)
			}
		}
	})
}

func TestOwnerFileSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses.json")
	if o, err := readOwner(path); err != nil || len(o.Addresses) != 0 {
		t.Fatalf("no file: %+v, %v", o, err)
	}
	want := owner{Boot: "b", Interface: "lo", Index: 1, Addresses: []netip.Addr{ip("10.0.0.1"), ip("fd00::1")}}
	if err := want.write(path); err != nil {
		t.Fatal(err)
	}
	got, err := readOwner(path)
	if err != nil || got.Boot != want.Boot || got.Interface != want.Interface || got.Index != 1 ||
		!slices.Equal(got.Addresses, want.Addresses) {
		t.Fatalf("got %+v, %v", got, err)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) != 0 {
		t.Fatalf("left behind: %v", left)
	}
	if err := os.WriteFile(path, []byte(`{"boot":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readOwner(path); err == nil || !strings.Contains(err.Error(), "try:") {
		t.Fatalf("a torn file must be told, with a way out: %v", err)
	}
}

func TestWantedIsChecked(t *testing.T) {
	for _, bad := range []string{"0.0.0.0", "127.0.0.2", "224.0.0.1", "fe80::1", "::1", "fd00::1%lo"} {
		if _, err := checkWanted([]netip.Addr{ip(bad)}); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
	if s, err := checkWanted([]netip.Addr{ip("::ffff:10.0.0.1"), ip("10.0.0.1")}); err != nil || len(s) != 1 {
		t.Errorf("%v, %v", s, err)
	}
}
