package node

import (
	"net"
	"net/netip"
	"slices"

	"github.com/google/uuid"

	"dyad/cluster/config"
	"dyad/cluster/etcdnode"
	"dyad/cluster/quorum"
	"dyad/eventlog"
	"dyad/projections"
)

// hostPrefixes lists the addresses of this host's interfaces, loopback and
// link-local ones left out: no pool may contain them.
func hostPrefixes() []netip.Prefix {
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var out []netip.Prefix
	for _, i := range ifaces {
		if i.Flags&net.FlagLoopback == 0 {
			out = append(out, prefixesOf(i)...)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

func prefixesOf(i net.Interface) []netip.Prefix {
	addrs, err := i.Addrs()
	if err != nil {
		return nil
	}
	var out []netip.Prefix
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		out = append(out, p)
	}
	return out
}

// declarations are what a node says of itself when it starts.
//
// Invariant: a node that the external store's log does not have any more says
// nothing, and only the first one, once, begins a log that is empty.
func declarations(c config.Config, version string, n etcdnode.State) func(projections.State) []projections.Command {
	return func(s projections.State) []projections.Command {
		var cmds []projections.Command
		_, known := s.Nodes[c.Node]
		first := n.Mode == quorum.Solo
		if n.External != "" {
			first = n.Mode == quorum.External && n.Epoch == 0
			if !known && !first && n.Mode != quorum.Joining {
				return nil
			}
		}
		if first && s.Head.Epoch == 0 {
			start := projections.StartEpoch{Epoch: 1, Mode: string(n.Mode), Writers: []string{c.Node}, Cluster: n.Cluster}
			if n.External != "" {
				start.Writers = []string{}
			}
			cmds = append(cmds, start)
		}
		cmds = append(cmds, projections.JoinNode{Node: ownNode(c, version)})
		for _, name := range switchNames(c) {
			cmds = append(cmds, projections.DeclareSwitch{Switch: declare(c, name, s.Switches[name])})
		}
		return cmds
	}
}

func switchNames(c config.Config) []string {
	var out []string
	for _, s := range c.Switches {
		if !slices.Contains(out, s.Name) {
			out = append(out, s.Name)
		}
	}
	return out
}

// declare builds this node's declaration of a switch. The configured roles count
// only while the switch is new: what an operator set by command stays.
func declare(c config.Config, name string, known eventlog.Switch) eventlog.Switch {
	sw := eventlog.Switch{
		Name: name, ID: known.ID, Source: "config",
		Compute: known.Compute, Storage: known.Storage, Management: known.Management,
	}
	if sw.ID == "" {
		sw.ID = uuid.NewSHA1(uuid.NameSpaceOID, []byte("dyad/switch/"+name)).String()
	}
	for _, s := range c.Switches {
		if s.Name != name {
			continue
		}
		if known.Name == "" {
			sw.Compute, sw.Storage = sw.Compute || s.Compute, sw.Storage || s.Storage
			sw.Management = sw.Management || s.Management
		}
		port := eventlog.Port{Node: c.Node, Interface: s.Interface, Alias: s.Alias}
		if i, err := net.InterfaceByName(s.Interface); err == nil {
			port.Addresses = prefixesOf(*i)
		}
		sw.Ports = append(sw.Ports, port)
	}
	return sw
}
