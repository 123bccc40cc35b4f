package projections

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"dyad/eventlog"
	"pgregory.net/rapid"
)

// world folds drafts into envelopes the way a log does.
type world struct {
	t testing.TB
	s State
}

func newWorld(t testing.TB) *world { return &world{t: t} }

func (w *world) append(drafts ...eventlog.Draft) {
	w.t.Helper()
	w.s = Fold(w.s, seal(w.t, w.s.Head, drafts...)...)
}

func seal(t testing.TB, head eventlog.Head, drafts ...eventlog.Draft) []eventlog.Envelope {
	t.Helper()
	var out []eventlog.Envelope
	for _, d := range drafts {
		epoch, err := eventlog.EpochAfter(head.Epoch, d)
		if err != nil {
			t.Fatal(err)
		}
		e, err := eventlog.Seal(head, epoch, 1, time.Unix(1700000000, 0), d)
		if err != nil {
			t.Fatal(err)
		}
		head = eventlog.HeadOf(e)
		out = append(out, e)
	}
	return out
}

// do decides and folds; it fails the test if the command is refused.
func (w *world) do(cmds ...Command) {
	w.t.Helper()
	for _, c := range cmds {
		drafts, err := Decide(w.s, c)
		if err != nil {
			w.t.Fatalf("%s: %v", c.Verb(), err)
		}
		w.append(drafts...)
	}
}

func (w *world) refused(code string, c Command) {
	w.t.Helper()
	before, _ := json.Marshal(w.s)
	drafts, err := Decide(w.s, c)
	var r *Refusal
	if !errors.As(err, &r) {
		w.t.Fatalf("%s was not refused (%d events, error %v), want %s", c.Verb(), len(drafts), err, code)
	}
	if r.Code != code {
		w.t.Errorf("%s refused as %s (%v), want %s", c.Verb(), r.Code, r, code)
	}
	if r.What == "" || r.Why == "" || r.Fix == "" {
		w.t.Errorf("%s: a refusal says what, why and a fix: %#v", code, r)
	}
	after, _ := json.Marshal(w.s)
	if string(before) != string(after) {
		w.t.Errorf("%s: the refused command changed the state", code)
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func rng(t testing.TB, list ...string) []eventlog.Range {
	t.Helper()
	var out []eventlog.Range
	for _, s := range list {
		r, err := eventlog.ParseRange(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func hold(v int64) *int64 { return &v }

// pair is a cluster of two nodes with one compute switch, as the document has it.
func pair(t testing.TB) *world {
	w := newWorld(t)
	port := func(node, a string) eventlog.Port {
		return eventlog.Port{Node: node, Interface: "eth1", Alias: "Port3", Addresses: []netip.Prefix{netip.MustParsePrefix(a)}}
	}
	w.do(
		StartEpoch{Epoch: 1, Mode: "SOLO", Writers: []string{"node-a"}, Cluster: "c1"},
		JoinNode{eventlog.Node{Name: "node-a", Address: addr("192.168.0.1"), Addresses: []netip.Prefix{netip.MustParsePrefix("10.126.77.11/24")}}},
		JoinNode{eventlog.Node{Name: "node-b", Address: addr("192.168.0.2"), Addresses: []netip.Prefix{netip.MustParsePrefix("10.126.77.12/24")}}},
		DeclareSwitch{eventlog.Switch{Name: "vSwitch1", ID: "u1", Compute: true, Ports: []eventlog.Port{port("node-a", "10.126.77.11/24")}}},
		DeclareSwitch{eventlog.Switch{Name: "vSwitch1", Compute: true, Ports: []eventlog.Port{port("node-b", "10.126.77.12/24")}}},
		DeclareSwitch{eventlog.Switch{Name: "storage", ID: "u2", Storage: true}},
	)
	return w
}

func peered(t testing.TB) *world {
	w := pair(t)
	w.do(SetPeer{Switch: "vSwitch1", Address: addr("10.126.77.125"), PeerASN: 64512, SelfASN: 64513, HoldTime: hold(15)},
		SetPool{Name: "web", Ranges: rng(t, "203.0.113.0/28")})
	return w
}

func TestPeerRules(t *testing.T) {
	good := SetPeer{Switch: "vSwitch1", Address: addr("10.126.77.125"), PeerASN: 64512, SelfASN: 64513}
	for _, asn := range []int64{1, 64512, 65534, 131072, 4294967294} {
		w := pair(t)
		c := good
		c.PeerASN, c.SelfASN = asn, asn
		w.do(c)
	}
	w := pair(t)
	for _, asn := range []int64{0, -1, 65535, 65536, 131071, 4294967295, 1 << 40} {
		c := good
		c.PeerASN = asn
		w.refused("asn-range", c)
		c = good
		c.SelfASN = asn
		w.refused("asn-range", c)
	}
	for _, h := range []int64{1, 2, -1, 65536} {
		c := good
		c.HoldTime = hold(h)
		w.refused("hold-time-range", c)
	}
	for code, mutate := range map[string]func(*SetPeer){
		"switch-unknown":     func(c *SetPeer) { c.Switch = "vSwitch9" },
		"switch-not-compute": func(c *SetPeer) { c.Switch = "storage" },
		"peer-is-node":       func(c *SetPeer) { c.Address = addr("10.126.77.11") },
		"peer-address":       func(c *SetPeer) { c.Address = addr("fe80::1%eth0") },
	} {
		c := good
		mutate(&c)
		w.refused(code, c)
	}
	for _, a := range []netip.Addr{{}, addr("0.0.0.0"), addr("224.0.0.5"), addr("127.0.0.1"), addr("255.255.255.255"), addr("::")} {
		c := good
		c.Address = a
		w.refused("peer-address", c)
	}
	c := good
	c.Address = addr("::ffff:10.126.77.12")
	w.refused("peer-is-node", c)

	w.do(good)
	if p := w.s.Peers[PeerKey{"vSwitch1", good.Address}]; p.HoldTime != DefaultHoldTime {
		t.Errorf("hold time %d, want the default", p.HoldTime)
	}
	c = good
	c.New = true
	w.refused("peer-exists", c)
	if d, err := Decide(w.s, good); err != nil || len(d) != 0 {
		t.Errorf("the same peer again gave %d events, error %v", len(d), err)
	}
	w.do(DeclareSwitch{eventlog.Switch{Name: "vSwitch2", Compute: true}})
	c = good
	c.Switch = "vSwitch2"
	w.refused("duplicate-peer", c)
	w.refused("peer-unknown", RemovePeer{"vSwitch1", addr("10.9.9.9")})
	w.refused("switch-unknown", RemovePeer{"nope", good.Address})
	w.refused("switch-in-use", DeclareSwitch{eventlog.Switch{Name: "vSwitch1"}})
	w.refused("switch-in-use", RemoveSwitch{"vSwitch1"})
	w.do(SetPool{Name: "p", Ranges: rng(t, "198.51.100.0/24")})
	c = good
	c.Address = addr("198.51.100.7")
	w.refused("peer-in-pool", c)
	w.do(RemovePeer{"vSwitch1", good.Address})
	if len(w.s.Peers) != 0 {
		t.Error("the peer is still there")
	}
}

func TestPoolRules(t *testing.T) {
	w := peered(t)
	for _, tc := range []struct {
		code   string
		ranges []string
	}{
		{"pool-overlap", []string{"203.0.113.8-203.0.113.40"}},
		{"pool-overlap", []string{"198.51.100.0/24", "198.51.100.9"}},
		{"pool-contains-node", []string{"10.126.77.0/28"}},
		{"pool-contains-node", []string{"192.168.0.0/24"}},
		{"pool-contains-peer", []string{"10.126.77.120-10.126.77.126"}},
		{"pool-range", []string{"127.0.0.0/24"}},
		{"pool-range", []string{"fe80::/64"}},
		{"pool-range", []string{"239.0.0.0/8"}},
		{"pool-ranges", nil},
	} {
		w.refused(tc.code, SetPool{Name: "x", Ranges: rng(t, tc.ranges...)})
	}
	w.refused("pool-range", SetPool{Name: "x", Ranges: []eventlog.Range{{First: addr("192.0.2.9"), Last: addr("192.0.2.1")}}})
	w.refused("pool-exists", SetPool{Name: "web", Ranges: rng(t, "192.0.2.0/24"), New: true})
	w.refused("name", SetPool{Name: "-bad-", Ranges: rng(t, "192.0.2.0/24")})
	w.refused("switch-unknown", SetPool{Name: "x", Ranges: rng(t, "192.0.2.0/24"), Switch: "nope"})
	w.refused("switch-not-compute", SetPool{Name: "x", Ranges: rng(t, "192.0.2.0/24"), Switch: "storage"})
	w.do(SetPool{Name: "one", Ranges: rng(t, "192.0.2.1/32")}, SetPool{Name: "two", Ranges: rng(t, "192.0.2.2/31")},
		SetPool{Name: "six", Ranges: rng(t, "2001:db8::/64")})

	w.do(SetService{Name: "a", Pool: "two"}, SetService{Name: "b", Pool: "two"})
	w.refused("pool-exhausted", SetService{Name: "c", Pool: "two"})
	w.refused("pool-in-use", SetPool{Name: "two", Ranges: rng(t, "192.0.2.2")})
	w.refused("pool-in-use", RemovePool{"two"})
	w.refused("pool-unknown", RemovePool{"nope"})
	w.do(SetService{Name: "v6", Pool: "six"})
	if got := w.s.Services["v6"].Addresses; len(got) != 1 || got[0] != addr("2001:db8::") {
		t.Errorf("IPv6 service got %v", got)
	}

	flat := pair(t)
	flat.refused("pool-unreachable", SetPool{Name: "x", Ranges: rng(t, "203.0.113.0/28"), Switch: "vSwitch1"})
	flat.do(SetPool{Name: "x", Ranges: rng(t, "10.126.77.64/28"), Switch: "vSwitch1"})
}

func TestServiceRules(t *testing.T) {
	w := peered(t)
	w.do(SetPool{Name: "held", Ranges: rng(t, "198.51.100.0/30"), Manual: true},
		SetService{Name: "web-1"}, SetService{Name: "web-2"})
	one, two := w.s.Services["web-1"], w.s.Services["web-2"]
	if one.Addresses[0] != addr("203.0.113.0") || two.Addresses[0] != addr("203.0.113.1") {
		t.Errorf("addresses %v %v", one.Addresses, two.Addresses)
	}
	if one.Preferred == two.Preferred {
		t.Errorf("both services prefer %s", one.Preferred)
	}
	w.refused("service-exists", SetService{Name: "web-1", New: true})
	w.refused("address-taken", SetService{Name: "x", Addresses: []netip.Addr{addr("203.0.113.1")}})
	w.refused("address-outside-pools", SetService{Name: "x", Addresses: []netip.Addr{addr("8.8.8.8")}})
	w.refused("address-outside-pool", SetService{Name: "x", Pool: "web", Addresses: []netip.Addr{addr("198.51.100.1")}})
	w.refused("service-address", SetService{Name: "x", Addresses: []netip.Addr{addr("203.0.113.5"), addr("203.0.113.6")}})
	w.refused("family", SetService{Name: "x", Family: "ipx"})
	w.refused("family", SetService{Name: "x", Family: "ipv4", Addresses: []netip.Addr{addr("203.0.113.5")}})
	w.refused("pool-exhausted", SetService{Name: "x", Family: "dual"})
	w.refused("node-unknown", SetService{Name: "x", Prefer: "node-z"})
	w.refused("placement", SetService{Name: "x", Placement: "everywhere"})
	w.refused("placement", SetService{Name: "x", Placement: eventlog.ActiveActive, Prefer: "node-a"})
	w.refused("check", SetService{Name: "x", Check: &eventlog.Check{Kind: "icmp", Target: "x"}})
	w.refused("check", SetService{Name: "x", Check: &eventlog.Check{Kind: "tcp", Target: "x:1", Interval: time.Millisecond}})
	w.refused("pool-unknown", SetService{Name: "x", Pool: "nope"})
	w.refused("service-unknown", RemoveService{"nope"})

	w.do(SetService{Name: "asked", Addresses: []netip.Addr{addr("198.51.100.2")}})
	if got := w.s.Services["asked"]; got.Pool != "held" {
		t.Errorf("asked address came from %s", got.Pool)
	}
	w.do(SetService{Name: "web-1", Prefer: two.Preferred})
	if got := w.s.Services["web-1"]; got.Addresses[0] != one.Addresses[0] || !got.Pinned || got.Preferred != two.Preferred {
		t.Errorf("after a change of preference: %+v", got)
	}
	w.do(RemoveService{"web-1"}, SetService{Name: "web-3"})
	if got := w.s.Services["web-3"].Addresses[0]; got != one.Addresses[0] {
		t.Errorf("the freed address was not used again: %s", got)
	}
}

func TestNodeRules(t *testing.T) {
	w := peered(t)
	w.refused("too-many-nodes", JoinNode{eventlog.Node{Name: "node-c", Address: addr("192.168.0.3")}})
	w.refused("node-address", JoinNode{eventlog.Node{Name: "node-b", Address: addr("192.168.0.1")}})
	w.refused("pool-contains-node", JoinNode{eventlog.Node{Name: "node-b", Address: addr("203.0.113.3")}})
	beacon := eventlog.Node{Name: "node-b", Address: addr("192.168.0.2"), Beacon: netip.MustParsePrefix("203.0.113.3/32")}
	w.refused("pool-contains-node", JoinNode{beacon})
	beacon.Beacon = netip.MustParsePrefix("192.168.0.1/32")
	w.refused("node-beacon", JoinNode{beacon})
	w.refused("node-unknown", DrainNode{"nope", true})
	w.do(DrainNode{"node-a", true})
	w.refused("other-node-drained", DrainNode{"node-b", true})
	w.do(DrainNode{"node-a", false}, RemoveNode{Name: "node-b"})
	w.refused("last-node", RemoveNode{Name: "node-a"})
	if ports := w.s.Switches["vSwitch1"].Ports; len(ports) != 1 || ports[0].Node != "node-a" {
		t.Errorf("ports of the removed node stay: %v", ports)
	}
	w.refused("epoch", StartEpoch{Epoch: 1})
}

func TestApplyIsAllOrNothing(t *testing.T) {
	w := peered(t)
	w.refused("pool-unknown", Apply{[]Command{SetService{Name: "ok"}, SetService{Name: "bad", Pool: "nope"}}})
	w.refused("nested-apply", Apply{[]Command{Apply{}}})
	w.do(Apply{[]Command{
		SetPool{Name: "next", Ranges: rng(t, "192.0.2.0/24"), Manual: true},
		SetService{Name: "n1", Pool: "next"},
		SetService{Name: "n2", Pool: "next"},
	}})
	if w.s.Services["n1"].Addresses[0] == w.s.Services["n2"].Addresses[0] {
		t.Error("two services of one apply share an address")
	}
}

func TestCheckpointRoundTrip(t *testing.T) {
	w := peered(t)
	w.do(SetService{Name: "web-1"}, DrainNode{"node-a", true})
	b, err := json.Marshal(w.s)
	if err != nil {
		t.Fatal(err)
	}
	var back State
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	again, _ := json.Marshal(back)
	if string(again) != string(b) || !reflect.DeepEqual(back.Taken, w.s.Taken) {
		t.Errorf("a state changed on its way through the checkpoint:\n%s\n%s", b, again)
	}
	if back.Head != w.s.Head || back.Peers[PeerKey{"vSwitch1", addr("10.126.77.125")}].SelfASN != 64513 {
		t.Errorf("lost: %+v", back)
	}
}

func TestUnknownAndBrokenEvents(t *testing.T) {
	w := peered(t)
	before := w.s
	w.append(eventlog.Draft{Type: "future.thing", Stream: "x", Data: json.RawMessage(`{"a":1}`)})
	w.append(eventlog.Draft{Type: eventlog.TypePoolSet, Stream: "pool/x", Data: json.RawMessage(`{"ranges":"?"}`)})
	if w.s.Head.Seq != before.Head.Seq+2 || w.s.Skipped != 1 || len(w.s.Pools) != len(before.Pools) {
		t.Errorf("head %d, skipped %d, pools %d", w.s.Head.Seq, w.s.Skipped, len(w.s.Pools))
	}
}

// anyCommand draws commands that are often refused and often not.
func anyCommand(r *rapid.T) Command {
	name := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}).Draw(r, "name")
	node := rapid.SampledFrom([]string{"node-a", "node-b", "node-c"}).Draw(r, "node")
	n := rapid.IntRange(0, 15).Draw(r, "n")
	switch rapid.IntRange(0, 7).Draw(r, "kind") {
	case 0:
		first := rapid.IntRange(0, 250).Draw(r, "first")
		rg, _ := eventlog.ParseRange(fmt.Sprintf("203.0.113.%d-203.0.113.%d", first, min(255, first+n)))
		return SetPool{Name: name, Ranges: []eventlog.Range{rg}}
	case 1:
		return RemovePool{name}
	case 2:
		return SetService{Name: name}
	case 3:
		return SetService{Name: name, Prefer: node}
	case 4:
		return SetService{Name: name, Addresses: []netip.Addr{addr(fmt.Sprintf("203.0.113.%d", n))}}
	case 5:
		return RemoveService{name}
	case 6:
		return DrainNode{node, n%2 == 0}
	default:
		return SetPeer{Switch: "vSwitch1", Address: addr(fmt.Sprintf("203.0.113.%d", 200+n)), PeerASN: int64(n), SelfASN: 64512}
	}
}

// The rules hold after every sequence of commands, folding one by one equals
// folding all at once, and what a planner foresees is what the log leads to.
func TestDecideFoldKeepsTheRules(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := pair(t)
		start := w.s
		planner := NewPlanner(start)
		var all []eventlog.Envelope
		for range rapid.IntRange(1, 40).Draw(r, "steps") {
			c := anyCommand(r)
			drafts, err := Decide(w.s, c)
			foreseen, perr := planner.Decide(c)
			if (err == nil) != (perr == nil) || len(drafts) != len(foreseen) {
				r.Fatalf("%s: decide %v, planner %v", c.Verb(), err, perr)
			}
			envs := seal(t, w.s.Head, drafts...)
			all = append(all, envs...)
			w.s = Fold(w.s, envs...)
			checkRules(r, w.s)
		}
		checkEqual(r, Fold(start, all...), w.s)
		p := planner.State()
		p.Head = w.s.Head
		checkEqual(r, p, w.s)
	})
}

func checkRules(r *rapid.T, s State) {
	seen := map[netip.Addr]string{}
	for name, v := range s.Services {
		for _, a := range v.Addresses {
			if o, dup := seen[a]; dup {
				r.Fatalf("%s is on %s and %s", a, o, name)
			}
			seen[a] = name
			f := newFolder(s)
			if p, ok := f.poolWith(a); !ok || p != v.Pool {
				r.Fatalf("%s of %s lies in %q, not in %q", a, name, p, v.Pool)
			}
		}
	}
	if !reflect.DeepEqual(seen, s.Taken) && len(seen)+len(s.Taken) > 0 {
		r.Fatalf("taken %v, in use %v", s.Taken, seen)
	}
	if s.Drained["node-a"] && s.Drained["node-b"] {
		r.Fatal("both nodes are drained")
	}
}

func checkEqual(r *rapid.T, a, b State) {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	if string(x) != string(y) {
		r.Fatalf("states differ:\n%s\n%s", x, y)
	}
}
