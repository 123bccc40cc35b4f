package projections

import (
	"net/netip"
	"testing"

	"dyad/eventlog"
)

// Each step differs from the base in its own attributes, always for the better.
func TestTestStepsDifferInOneGroup(t *testing.T) {
	for _, internal := range []bool{false, true} {
		base := TestBase()
		for _, s := range TestSteps(internal) {
			moved := map[string]bool{
				StepOrigin:    s.Attributes.Origin < base.Origin,
				StepASPath:    s.Attributes.Prepend < base.Prepend,
				StepMED:       s.Attributes.MED < base.MED,
				StepLocalPref: s.Attributes.LocalPref > base.LocalPref,
			}
			for name, m := range moved {
				if want := s.Name == StepAll || s.Name == name; m != want {
					t.Errorf("internal %v, step %s: %s moved: %v", internal, s.Name, name, m)
				}
			}
			if s.Name == StepLocalPref && !internal || s.Name == StepASPath && internal {
				t.Errorf("internal %v has the step %s", internal, s.Name)
			}
		}
	}
}

func TestCheckTest(t *testing.T) {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	router := addr("10.0.0.1")
	s := State{
		Nodes:    map[string]eventlog.Node{"a": {Name: "a", Address: addr("10.1.0.1"), Addresses: []netip.Prefix{prefix("10.2.0.1/24")}}},
		Peers:    map[PeerKey]eventlog.Peer{{Switch: "s", Address: router}: {Switch: "s", Address: router}},
		Services: map[string]eventlog.Service{"web": {Name: "web", Addresses: []netip.Addr{addr("192.0.2.1")}}},
		Switches: map[string]eventlog.Switch{"s": {Name: "s", Ports: []eventlog.Port{{Node: "a", Addresses: []netip.Prefix{prefix("10.0.0.2/24")}}}}},
	}
	for p, code := range map[string]string{
		"192.0.2.254/32": "", "192.0.2.2/32": "",
		"192.0.2.1/32": "test-in-use", "10.0.0.1/32": "test-in-use", "10.0.0.2/32": "test-in-use",
		"10.1.0.1/32": "test-in-use", "10.2.0.1/32": "test-in-use",
		"192.0.2.0/24": "test-prefix", "127.0.0.1/32": "test-prefix", "224.0.0.1/32": "test-prefix", "0.0.0.0/0": "test-prefix",
		"2001:db8::fffe/128": "test-family",
	} {
		got := ""
		if r := CheckTest(s, router, prefix(p)); r != nil {
			got = r.Code
			if r.Why == "" || r.Fix == "" {
				t.Errorf("%s: %+v does not say why and what to try", p, r)
			}
		}
		if got != code {
			t.Errorf("%s: %q, want %q", p, got, code)
		}
	}
	if r := CheckTest(s, router, netip.Prefix{}); r == nil {
		t.Error("no prefix at all was let through")
	}
	if a, b := TestMark(s, "a"), TestMark(s, "b"); a == 0 || b != 0 {
		t.Errorf("marks %d and %d", a, b)
	}
}
