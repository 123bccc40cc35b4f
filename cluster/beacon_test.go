package cluster

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dyad/cluster/api"
	"dyad/cluster/config"
	"dyad/projections"
	"dyad/speaker"
)

// reflector is a router that sends every route to whom it did not learn it from,
// and keeps what it heard of a dead node.
type reflector struct {
	mu      sync.Mutex
	routes  map[string]speaker.Route // by node
	changes int
}

// beaconAt is the router as one node's speaker reaches it.
type beaconAt struct {
	r    *reflector
	node string
	cut  bool
}

func (n *beaconAt) Test(_ context.Context, r speaker.Route) error {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	if !n.cut {
		n.r.routes[n.node] = r
		n.r.changes++
	}
	return nil
}

func (n *beaconAt) Untest(context.Context, netip.Addr, netip.Prefix) error {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	delete(n.r.routes, n.node)
	return nil
}

func (n *beaconAt) Heard(_ netip.Addr, p netip.Prefix) (speaker.Heard, error) {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	for node, r := range n.r.routes {
		if node != n.node && r.Prefix == p {
			return speaker.Heard{There: true, Communities: r.Attributes.Communities}, nil
		}
	}
	return speaker.Heard{}, nil
}

func (n *beaconAt) sever() {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	n.cut = true
}

func (r *reflector) told() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changes
}

func (n *node) beaconAlive() bool { alive, _ := n.agent.PeerBeacon(); return alive }

// Two nodes that hear each other only through the router know that both live; a
// node that dies then is not held for alive by what the router keeps of it.
func TestTheBeaconTellsTheLivingFromTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reflector{routes: map[string]speaker.Route{}}
		w := newWorld(t)
		defer w.end()
		a, b := w.nodes["node-a"], w.nodes["node-b"]
		at := map[string]*beaconAt{}
		for i, n := range []*node{a, b} {
			at[n.name] = &beaconAt{r: r, node: n.name}
			n.tester = at[n.name]
			n.cfg.Beacon = config.Beacon{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(250 + i)}), 32)}
			n.start()
		}
		w.within(time.Minute, "both nodes are well", func() bool { return a.well() && b.well() && len(a.agent.State().Nodes) == 2 })
		a.must(projections.SetPeer{Switch: "vSwitch1", Address: router, PeerASN: 64512, SelfASN: 64513})
		w.within(5*time.Second, "both beacons are announced", func() bool { return r.told() >= 2 })
		time.Sleep(2 * time.Second)
		quiet := r.told()
		time.Sleep(time.Minute)
		if n := r.told() - quiet; n != 0 || a.beaconAlive() || b.beaconAlive() {
			t.Errorf("%d updates while all is well", n)
		}

		cond := func(n *node) bool {
			return slices.ContainsFunc(n.agent.Status(context.Background()).Conditions, func(c api.Condition) bool {
				return c.Code == "beacon-alive" && strings.Contains(c.Text, w.other(n).name+" is alive, and PAIR at epoch 1")
			})
		}
		w.net.Cut(netip.AddrPortFrom(a.cfg.Address, 7946), netip.AddrPortFrom(b.cfg.Address, 7946))
		w.within(3*time.Second, "each knows by the router that the other lives", func() bool { return cond(a) && cond(b) })
		for range 50 {
			time.Sleep(100 * time.Millisecond)
			if !cond(a) || !cond(b) {
				t.Fatal("the answers are too old in between")
			}
		}
		_, err := a.agent.Takeover(context.Background(), api.Caller{}, api.TakeoverRequest{Peer: "node-b", Reason: "test"})
		wantClass(t, "a takeover from a node that lives", err, api.ClassRefused, "peer-alive")

		at["node-b"].sever() // the router keeps what it had
		took := w.within(BeaconFresh+time.Second, "node-a stops believing what the router keeps", func() bool { return !a.beaconAlive() })
		t.Logf("after %s", took)
		time.Sleep(10 * time.Second)
		if a.beaconAlive() || cond(a) {
			t.Error("what the router keeps of a dead node counts again")
		}
		w.net.Heal(netip.AddrPortFrom(a.cfg.Address, 7946), netip.AddrPortFrom(b.cfg.Address, 7946))
	})
}
