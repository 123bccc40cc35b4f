package node

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"dyad/cluster"
	"dyad/cluster/config"
	"dyad/failover"
	"dyad/failover/beat"
	"dyad/failover/pulse"
	"dyad/projections"
)

// interlink is the name of the path between the nodes themselves.
const interlink = "interlink"

// heart is the pulse as the agent knows it.
type heart struct{ *beat.Supervisor }

// Feed implements cluster.Pulse.
func (h heart) Feed(w failover.Word, armed bool) { h.Supervisor.Feed(beat.FeedOf(w, armed)) }

// Status implements cluster.Pulse.
func (h heart) Status() cluster.PulseStatus {
	s := h.Supervisor.Status()
	out := cluster.PulseStatus{
		Running: s.PID != 0, Why: s.Why, Restarts: s.Restarts, Lacks: s.Lacks, Paths: map[string]cluster.PulsePath{},
	}
	for name, p := range s.Paths {
		out.Paths[name] = cluster.PulsePath{Up: p.Up, Deaf: p.Deaf, Error: p.Error}
	}
	return out
}

// startPulse starts the pulse's process. Without it the membership watches the
// other node alone, so a pulse that can't be started is no reason not to run.
func (p *process) startPulse(context.Context) error {
	if p.cfg.Failover.Profile == config.ProfileOff {
		return nil
	}
	key, err := pulse.DeriveKey(p.id.Shared("pulse"))
	if err != nil {
		return err
	}
	p.beatKey = key
	sup, err := beat.Start(beat.Config{Exe: p.opts.Exe, Args: p.opts.PulseArgs, Log: p.opts.Log, Emit: p.agent.EmitAt})
	if err != nil {
		p.opts.Log.Error("no pulse", "event", "pulse.start", "reason", err)
		return nil
	}
	p.later(sup.Stop)
	p.heart = sup
	with := p.agent.Attached()
	with.Pulse = heart{sup}
	p.agent.Attach(with)
	return nil
}

// keepPulse tells the pulse where the other node is, whenever the log does.
func (p *process) keepPulse(s projections.State) {
	if p.heart == nil {
		return
	}
	profile, err := pulse.FindProfile(p.cfg.Failover.Profile)
	if err == nil {
		err = p.heart.Set(setupOf(s, p.cfg, p.beatKey, profile))
	}
	if err != nil {
		p.opts.Log.Error("the pulse can't be told what to do", "event", "pulse.setup", "reason", err)
	}
}

// setupOf derives what the pulse does from the log. A cluster has two nodes, so
// there is one other.
func setupOf(s projections.State, c config.Config, key []byte, profile pulse.Profile) beat.Setup {
	v := projections.View{Self: c.Node}
	setup := beat.Setup{
		Self: c.Node, Key: key, Interval: profile.Interval, Misses: profile.Misses, Port: c.Ports.Pulse,
	}
	for _, p := range projections.Paths(s, v) {
		if setup.Peer == "" {
			setup.Peer = p.Node
		}
		if p.Node != setup.Peer {
			continue
		}
		path := beat.Path{Name: p.Switch, Interface: p.Interface, Local: p.Local, Remote: p.Remote}
		switch {
		case p.Switch == "":
			path.Name = interlink
			if i, ok := sharedInterface(p.Local, p.Remote); ok {
				setup.Targets = append(setup.Targets, beat.Target{Class: pulse.Kernel, Interface: i, Own: p.Local, Address: p.Remote})
			}
		case !p.Local.Is4():
			path.Name += "/6"
		}
		setup.Paths = append(setup.Paths, path)
	}
	for _, h := range projections.NextHops(s, v) {
		if h.Node == setup.Peer {
			setup.Targets = append(setup.Targets, beat.Target{Class: pulse.Hop, Interface: h.Interface, Own: h.Own, Address: h.Address})
		}
	}
	setup.Targets = append(setup.Targets, kernels(setup)...)
	for _, g := range projections.Gateways(s, v) {
		setup.Targets = append(setup.Targets, beat.Target{Class: pulse.Gateway, Interface: g.Interface, Own: g.Own, Address: g.Address})
	}
	return setup
}

// kernels are the other node's addresses on segments where it is not asked yet, as
// there is no next hop of it: there its kernel is asked too before service addresses
// are taken from it.
func kernels(setup beat.Setup) (out []beat.Target) {
	for _, p := range setup.Paths {
		if p.Interface == "" || slices.ContainsFunc(setup.Targets, func(t beat.Target) bool { return t.Interface == p.Interface }) {
			continue
		}
		out = append(out, beat.Target{Class: pulse.Kernel, Interface: p.Interface, Own: p.Local, Address: p.Remote})
	}
	return out
}

// sharedInterface is the interface that has the own address, if the remote one
// is in its subnet.
func sharedInterface(own, remote netip.Addr) (string, bool) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return "", false
	}
	for _, i := range ifaces {
		if i.Flags&net.FlagLoopback != 0 {
			continue
		}
		for _, p := range prefixesOf(i) {
			if p.Addr() == own && p.Contains(remote) {
				return i.Name, true
			}
		}
	}
	return "", false
}

// pulseKeep is how often the pulse is told anew where everything is: interfaces
// come and go without an event.
// pulseFirst is how soon it is told after a change of the log, and how often the
// first state is looked for after a start.
const (
	pulseKeep  = 5 * time.Second
	pulseFirst = 20 * time.Millisecond
)
