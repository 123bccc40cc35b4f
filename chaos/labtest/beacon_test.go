package labtest

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"dyad/chaos/netlab"
	"dyad/cluster/api"
	"dyad/cluster/config"
	"dyad/cluster/quorum"
)

// Two nodes are parted on every path between them, and each has its router, whose
// word would give the log to both. Their beacons come through it, so nobody gets
// it. A node that then dies is gone, whatever the router still holds of it.
func TestBeaconThroughRouter(t *testing.T) {
	const holdDown = 3 * time.Second
	l := upWith(t, netlab.KindFRR, func(node string, c *config.Config) {
		c.Takeover.Authority, c.Takeover.HoldDown = config.AuthorityToR, config.Duration(holdDown)
		c.Failover.Profile = config.ProfileConservative
		c.Beacon.Prefix = netip.MustParsePrefix(map[string]string{nodeA: "192.0.2.251/32", nodeB: "192.0.2.252/32"}[node])
	})
	clients := map[string]*api.Client{nodeA: client(t, l, nodeA), nodeB: client(t, l, nodeB)}
	status := func(name string) (st api.Status) {
		if list, err := clients[name].Status(t.Context(), api.ScopeNode); err == nil && len(list) == 1 && list[0].Status != nil {
			st = *list[0].Status
		}
		return st
	}
	found := func(name, code string) bool {
		return slices.ContainsFunc(status(name).Conditions, func(c api.Condition) bool { return c.Code == code })
	}
	through := func(name string) bool {
		list, err := clients[name].Doctor(t.Context(), api.ScopeNode)
		return err == nil && slices.ContainsFunc(list[0].Findings, func(f api.Finding) bool { return f.Code == "beacon" && f.Result == api.ResultOK })
	}
	until(t, 20*time.Second, "both beacons through the router", func() bool { return through(nodeA) && through(nodeB) })

	if err := l.Part(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	until(t, 20*time.Second, "both to know that the other one lives", func() bool { return found(nodeA, "beacon-alive") && found(nodeB, "beacon-alive") })
	t.Logf("known after %s", time.Since(began).Round(time.Millisecond))
	for end := time.After(3 * holdDown); end != nil; {
		select {
		case <-end:
			end = nil
		case <-time.After(100 * time.Millisecond):
		}
		for name := range clients {
			if st := status(name); st.Mode != string(quorum.Suspended) && st.Mode != string(quorum.Pair) {
				t.Fatalf("%s is %s while the other node lives: %s", name, st.Mode, st.Why)
			}
		}
	}
	t.Log(status(nodeA).Why)

	if err := l.PowerOff(nodeB); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	until(t, 30*time.Second, nodeA+" to go on alone", func() bool { return status(nodeA).Mode == string(quorum.Sole) })
	t.Logf("alone after %s", time.Since(began).Round(time.Millisecond))
	if err := l.Meet(); err != nil {
		t.Fatal(err)
	}
	if err := l.PowerOn(nodeB, ""); err != nil {
		t.Fatal(err)
	}
	until(t, 60*time.Second, "the pair", func() bool { return l.PairNotReady(t.Context()) == "" })
}
