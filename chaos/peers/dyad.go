package peers

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"dyad/chaos"
	"dyad/chaos/lab"
	"dyad/chaos/netlab"
	"dyad/eventlog"
	"dyad/projections"
	"dyad/projections/audit"
	"dyad/speaker"
)

// Site is a lab of dyad with one kind of router, which several systems share.
type Site struct {
	kind, dir, binary string
	say               func(string, ...any)
	lab               *lab.Lab
	// services are probed; many is how many more there are, in manyPool.
	services  []netip.Addr
	many      int
	bystander netip.Addr
	macs      map[string]net.HardwareAddr
	release   func() // of the dead node's lock; nil if no node is dead
	dead      string
}

// NewSite describes a lab of dyad; the first system on it brings it up.
func NewSite(kind, dir, binary string, say func(string, ...any)) *Site {
	return &Site{kind: kind, dir: filepath.Join(dir, "dyad-"+kind), binary: binary, say: say, macs: map[string]net.HardwareAddr{}}
}

// NewManySite describes a lab of dyad with FRR as router and n services on node-b,
// of which 16 are probed.
func NewManySite(n int, dir, binary string, say func(string, ...any)) *Site {
	s := NewSite(netlab.KindFRR, dir, binary, say)
	s.many, s.dir = n, fmt.Sprintf("%s-%d", s.dir, n)
	return s
}

// Lab is the lab, once it is up.
func (s *Site) Lab() *lab.Lab { return s.lab }

// dyad is a lab of dyad, with or without what lets it take a next hop.
type dyad struct {
	*Site
	pinned bool
}

// Dyad is dyad as it is delivered, profile fast. With pinned, the router's neighbor
// entries for the nodes are permanent, so that no next hop can be taken from it:
// only the preference of the routes moves traffic.
func Dyad(s *Site, pinned bool) System { return &dyad{s, pinned} }

func (d *dyad) Name() string {
	name := "dyad-nexthop-" + d.kind
	if d.pinned {
		name = "dyad-preference-" + d.kind
	}
	if d.many > 0 {
		name += fmt.Sprintf("-%d", d.many)
	}
	return name
}

func (d *dyad) Up(ctx context.Context) error {
	if d.lab != nil {
		return nil
	}
	l, err := lab.Up(ctx, lab.Options{Dir: d.dir, Router: d.kind, Binary: d.binary, Say: d.say})
	if err != nil {
		return err
	}
	d.lab = l
	if err := l.Prepare(ctx); err != nil {
		return err
	}
	for _, n := range lab.NodeNames() {
		if d.macs[n], err = netlab.HardwareAddr(l.NS(n), netlab.PortRouter); err != nil {
			return err
		}
	}
	if err := d.find(ctx); err != nil {
		return err
	}
	return d.addMany(ctx)
}

// find looks up the two services that a lab is prepared with.
func (s *Site) find(ctx context.Context) error {
	node, err := s.lab.Node(netlab.NodeA)
	if err != nil {
		return err
	}
	services, err := node.Client().Services(ctx)
	if err != nil {
		return err
	}
	for _, x := range services {
		switch {
		case len(x.Addresses) == 0:
		case x.Preferred == netlab.NodeB:
			s.services = x.Addresses[:1]
		default:
			s.bystander = x.Addresses[0]
		}
	}
	if len(s.services) == 0 || !s.bystander.IsValid() {
		return fmt.Errorf("the lab has no service on each node: %v", services)
	}
	return nil
}

// Arm pins the router's neighbor entries, or lets go of them.
func (d *dyad) Arm(context.Context) error {
	set := netlab.Unpin
	if d.pinned {
		set = netlab.Pin
	}
	for _, n := range lab.NodeNames() {
		if err := set(d.lab.NS(netlab.Router), netlab.BridgeNodes, d.lab.Plan.NodePeer[n], d.macs[n]); err != nil {
			return err
		}
	}
	return nil
}

func (d *dyad) Place() Place {
	return Place{
		Client: d.lab.NS(netlab.Client), Services: d.services, Bystander: d.bystander, Port: d.lab.Plan.EchoPort,
	}
}

func (d *dyad) NotReady(ctx context.Context) string {
	if why := d.lab.PairNotReady(ctx); why != "" {
		return why
	}
	for _, name := range lab.NodeNames() {
		n, err := d.lab.Node(name)
		if err != nil {
			return err.Error()
		}
		s, err := n.Client().Status(ctx)
		if err != nil {
			return err.Error()
		}
		for _, x := range s.Sessions {
			if x.State != speaker.Established {
				return fmt.Sprintf("%s: session with %s is %s", name, x.Peer, x.State)
			}
		}
	}
	table, err := netlab.Table(d.lab.NS(netlab.Router))
	if err != nil {
		return err.Error()
	}
	to := func(node string) []netip.Addr { return []netip.Addr{d.lab.Plan.NodePeer[node]} }
	if hops := table[netip.PrefixFrom(d.bystander, d.bystander.BitLen())]; !slices.Equal(hops, to(netlab.NodeA)) {
		return fmt.Sprintf("the router forwards %s to %v", d.bystander, hops)
	}
	n := 0
	for _, hops := range table {
		if slices.Equal(hops, to(netlab.NodeB)) {
			n++
		}
	}
	if n != d.many+1 { // the lab's own
		return fmt.Sprintf("the router forwards %d addresses to node-b, not %d", n, d.many+1)
	}
	return ""
}

func (d *dyad) Kill(ctx context.Context, node string) (time.Time, error) {
	n, err := d.lab.Node(node)
	if err != nil {
		return time.Time{}, err
	}
	lockCtx, cancel := context.WithTimeout(ctx, daemonGrace)
	defer cancel()
	if d.release, err = lab.WaitLock(lockCtx, n.HoldPath()); err != nil {
		return time.Time{}, err
	}
	d.dead = node
	agent, err := n.Agent()
	if err != nil || !agent.Alive() {
		return time.Time{}, fmt.Errorf("the agent of %s does not run", node)
	}
	at := time.Now()
	if err := netlab.Silence(n.NS); err != nil {
		return at, err
	}
	return at, agent.KillTree()
}

func (d *dyad) Heal(ctx context.Context) error {
	if d.dead == "" {
		return nil
	}
	err := netlab.Unsilence(d.lab.NS(d.dead))
	d.release()
	d.dead = ""
	if err != nil {
		return err
	}
	why := ""
	err = look(ctx, readyLimit, func() bool { why = d.notRunning(ctx); return why == "" })
	if err != nil {
		return fmt.Errorf("%s: the killed node does not come back: %s: %w", d.Name(), why, err)
	}
	return nil
}

// notRunning says why the nodes don't run yet; the way back of traffic comes later,
// and costs nobody anything.
func (d *dyad) notRunning(ctx context.Context) string {
	for _, name := range lab.NodeNames() {
		n, err := d.lab.Node(name)
		if err != nil {
			return err.Error()
		}
		s, err := n.Client().Status(ctx)
		switch {
		case err != nil:
			return err.Error()
		case !s.Writable:
			return name + ": its log takes no writes: " + s.Why
		case s.View.Nodes[other(name)] != projections.Alive:
			return fmt.Sprintf("%s holds %s for %q", name, other(name), s.View.Nodes[other(name)])
		}
	}
	return ""
}

// Instants are when the survivor did what, at the newest death.
func (d *dyad) Instants(ctx context.Context, survivor string) (chaos.Instants, error) {
	n, err := d.lab.Node(survivor)
	if err != nil {
		return chaos.Instants{}, err
	}
	s, err := n.Client().Status(ctx)
	if err != nil {
		return chaos.Instants{}, err
	}
	t := s.Timeline[other(survivor)]
	in := chaos.Instants{Detected: t.Detected, Decided: t.Decided, Announced: t.Announced, NextHop: t.NextHop}
	if d.pinned { // the frames were sent, and moved nothing
		in.NextHop = time.Time{}
	}
	return in, nil
}

// Count counts the verdicts of both nodes.
func (d *dyad) Count(ctx context.Context) (Count, error) {
	n, err := d.lab.Node(netlab.NodeA)
	if err != nil {
		return Count{}, err
	}
	events, err := n.Client().Events(ctx, audit.Query{Types: []string{string(eventlog.TypeNodeVerdict)}, Limit: audit.MaxLimit})
	if err != nil {
		return Count{}, err
	}
	var c Count
	for _, e := range events {
		v, err := eventlog.Payload[eventlog.VerdictPayload](e.Draft)
		if err != nil {
			return c, err
		}
		c.add(projections.Verdict(v.Verdict))
	}
	return c, nil
}

// Down takes the lab down; another system on it finds nothing left to do.
func (d *dyad) Down(ctx context.Context) error {
	if d.dead != "" {
		d.release()
		d.dead = ""
	}
	_, err := lab.Down(ctx, d.dir, nil)
	return err
}

// add counts a verdict; that a node is alive, or said goodbye, suspects nobody.
func (c *Count) add(v projections.Verdict) {
	switch v {
	case projections.Alive, projections.Left, projections.Unknown:
	case projections.Suspect:
		c.Suspicions++
	case projections.Gray:
		c.Gray++
	default:
		c.Verdicts++
		if c.Kinds == nil {
			c.Kinds = map[string]int{}
		}
		c.Kinds[string(v)]++
	}
}
