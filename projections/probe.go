package projections

import (
	"fmt"
	"net/netip"
	"slices"

	"dyad/eventlog"
)

// TestStep is one difference that a router is asked about: what a node announces
// that is to win over [TestBase], and the name of the attributes that differ.
type TestStep struct {
	Name       string
	Attributes Attributes
}

// Names of test steps.
const (
	StepOrigin    = "origin"
	StepASPath    = "as-path"
	StepMED       = "med"
	StepLocalPref = "local-pref" // iBGP only
	StepAll       = "all"        // the whole of P0
)

// TestBase is what both nodes announce before a step: P1.
func TestBase() Attributes { return ladder[P1] }

// TestSteps are the differences between P1 and P0, one group of attributes at a
// time, and at the end all of them together. Internal sessions (iBGP) carry
// LOCAL_PREF and no prepend.
func TestSteps(internal bool) []TestStep {
	base, top := ladder[P1], ladder[P0]
	with := func(name string, change func(*Attributes)) TestStep {
		a := base
		change(&a)
		return TestStep{name, a}
	}
	out := []TestStep{with(StepOrigin, func(a *Attributes) { a.Origin = top.Origin })}
	if internal {
		out = append(out, with(StepLocalPref, func(a *Attributes) { a.LocalPref = top.LocalPref }))
	} else {
		out = append(out, with(StepASPath, func(a *Attributes) { a.Prepend = top.Prepend }))
	}
	return append(out, with(StepMED, func(a *Attributes) { a.MED = top.MED }), TestStep{StepAll, top})
}

// testMark is the community that says whose test route a path is: 64941, of the
// ASNs for private use (RFC 6996), and the node's number. No route of a service
// carries it.
const testMark uint32 = 64941 << 16

// TestMark is the community of a node's test routes; 0 if the cluster does not
// know the node.
func TestMark(s State, node string) uint32 {
	i := slices.Index(s.NodeNames(), node)
	if i < 0 {
		return 0
	}
	return testMark | uint32(i+1)
}

// Default prefixes of a test, of the ranges for documentation (RFC 5737, 3849):
// nobody uses them, and many networks filter them.
var (
	defaultTest4 = netip.MustParsePrefix("192.0.2.254/32")
	defaultTest6 = netip.MustParsePrefix("2001:db8::fffe/128")
)

// TestPrefix is the prefix that a test with that router uses if none is given.
func TestPrefix(peer netip.Addr) netip.Prefix {
	if peer.Is4() {
		return defaultTest4
	}
	return defaultTest6
}

// CheckTest refuses a prefix that a test must not announce to that router: only
// a host route of the router's family that nothing uses.
func CheckTest(s State, peer netip.Addr, prefix netip.Prefix) *Refusal {
	a := prefix.Addr()
	refuse := func(code, why, fix string) *Refusal {
		return &Refusal{Code: code, What: "test with " + prefix.String(), Why: why, Fix: fix}
	}
	another := "dyad doctor --probe-router --prefix PREFIX, with a free address of a pool"
	switch {
	case !prefix.IsValid() || !prefix.IsSingleIP() || a.Is4In6() || !a.IsGlobalUnicast():
		return refuse("test-prefix", "it is not the route of one host", "a prefix such as "+TestPrefix(peer).String())
	case a.Is4() != peer.Is4():
		return refuse("test-family", "the session with "+peer.String()+" is of the other family", "a prefix such as "+TestPrefix(peer).String())
	}
	for _, sv := range s.Services {
		if slices.Contains(sv.Addresses, a) {
			return refuse("test-in-use", "the service "+sv.Name+" has that address", another)
		}
	}
	for _, k := range s.PeerKeys() {
		if k.Address == a {
			return refuse("test-in-use", "a router has that address", another)
		}
	}
	for _, name := range s.NodeNames() {
		if owns(s.Nodes[name], a) {
			return refuse("test-in-use", fmt.Sprintf("%s has that address", name), another)
		}
	}
	for _, sw := range s.Switches {
		for _, port := range sw.Ports {
			if holds(port.Addresses, a) {
				return refuse("test-in-use", fmt.Sprintf("%s has that address", port.Node), another)
			}
		}
	}
	return nil
}

func owns(n eventlog.Node, a netip.Addr) bool { return n.Address == a || holds(n.Addresses, a) }

func holds(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Addr() == a })
}
