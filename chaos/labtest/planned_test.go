package labtest

import (
	"slices"
	"testing"
	"time"

	"dyad/chaos"
	"dyad/chaos/lab"
	"dyad/chaos/netlab"
	"dyad/chaos/probe"
)

// plannedMoves sends traffic from one node to the other in every way an operator
// can, under probes: each move must be seen, and none may lose a packet.
func plannedMoves(t *testing.T, l *lab.Lab) {
	node, err := l.Node(netlab.NodeA)
	if err != nil {
		t.Fatal(err)
	}
	services, err := node.Client().Services(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var targets []probe.Target
	for _, s := range services {
		targets = append(targets, probe.Target{Address: s.Addresses[0], Service: s.Name, Flows: 4})
	}
	p, err := probe.Start(t.Context(), probe.Config{
		Do:      func(f func() error) error { return netlab.Do(l.NS(netlab.Client), f) },
		Targets: targets, Port: l.Plan.EchoPort, Hz: 250,
	})
	if err != nil {
		t.Fatal(err)
	}
	carried := func(service, by string) func() bool {
		i := slices.IndexFunc(targets, func(x probe.Target) bool { return x.Service == service })
		return func() bool {
			n := p.Now()[i]
			return n.InRow > 20 && !slices.ContainsFunc(n.From, func(from string) bool { return from != by })
		}
	}
	until(t, 30*time.Second, "answers from web", carried("web", netlab.NodeA))
	until(t, 30*time.Second, "answers from dns", carried("dns", netlab.NodeB))
	for _, step := range []struct {
		args        []string
		service, by string
	}{
		{[]string{"service", "move", "web"}, "web", netlab.NodeB},
		{[]string{"service", "move", "web", "dns"}, "dns", netlab.NodeA},
		{[]string{"service", "move", "--all", "--to", netlab.NodeB}, "web", netlab.NodeB},
		{[]string{"node", "drain", netlab.NodeB}, "dns", netlab.NodeA},
		{[]string{"node", "undrain", netlab.NodeB}, "dns", netlab.NodeB},
		{[]string{"service", "move", "web", "--to", netlab.NodeA}, "web", netlab.NodeA},
	} {
		if out, err := l.Dyad(t.Context(), netlab.NodeA, step.args...); err != nil {
			t.Fatalf("%v: %v\n%s", step.args, err, out)
		}
		until(t, 30*time.Second, step.service+" on "+step.by, carried(step.service, step.by))
	}
	for _, s := range p.Stop().Streams {
		if away := chaos.Outages(s.Samples); len(away) > 0 {
			t.Errorf("%s, flow %d: lost %v", s.Service, s.Flow, away)
		}
	}
}
