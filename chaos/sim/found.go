package sim

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"dyad/eventlog"
	"dyad/projections"
)

// founding is the log of a new pair with one router and three services: one that
// prefers each node, and one that both carry.
var founding = sync.OnceValues(func() ([]eventlog.Envelope, projections.State) {
	var log []eventlog.Envelope
	var s projections.State
	for _, c := range commands() {
		drafts, err := projections.Decide(s, c)
		if err != nil {
			panic(fmt.Sprintf("the rules refuse the cluster of the simulation: %s: %v", c.Verb(), err))
		}
		for _, d := range drafts {
			at, err := eventlog.EpochAfter(s.Head.Epoch, d)
			if err != nil {
				panic(err) // the epochs above rise
			}
			e, err := eventlog.Seal(s.Head, at, 1, epoch, d)
			if err != nil {
				panic(err) // what the rules decide can be sealed
			}
			log = append(log, e)
			s = projections.Fold(s, e)
		}
	}
	return log, s
})

func commands() []projections.Command {
	hold := int64(holdTime / time.Second)
	out := []projections.Command{projections.StartEpoch{Epoch: 1, Mode: "SOLO", Writers: []string{names[0]}, Cluster: cluster}}
	for i, name := range names {
		port := netip.PrefixFrom(hops[i], 24)
		out = append(out,
			projections.JoinNode{Node: eventlog.Node{
				Name: name, Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), Addresses: []netip.Prefix{port},
			}},
			projections.DeclareSwitch{Switch: eventlog.Switch{
				Name: "vSwitch1", ID: "u1", Compute: true,
				Ports: []eventlog.Port{{Node: name, Interface: "eth1", Alias: "Port3", Addresses: []netip.Prefix{port}}},
			}})
	}
	pool, err := eventlog.ParseRange("203.0.113.0/28")
	if err != nil {
		panic(err)
	}
	return append(out,
		projections.SetPeer{Switch: "vSwitch1", Address: routerAddr, PeerASN: 64512, SelfASN: 64513, HoldTime: &hold},
		projections.SetPool{Name: "web", Ranges: []eventlog.Range{pool}},
		projections.SetService{Name: "first", Prefer: names[0]},
		projections.SetService{Name: "second", Prefer: names[1]},
		projections.SetService{Name: "third", Placement: eventlog.ActiveActive},
		projections.StartEpoch{Epoch: 2, Mode: "PAIR", Writers: names[:]})
}
