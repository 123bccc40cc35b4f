package projections

import (
	"fmt"
	"slices"
	"strings"

	"dyad/eventlog"
)

// MaxNodes is how many nodes a cluster has.
const MaxNodes = 2

// declareSwitch merges ports by node, so each node declares its own.
func (f *folder) declareSwitch(c DeclareSwitch) ([]eventlog.Draft, error) {
	now := c.Switch
	if err := checkName("switch", now.Name); err != nil {
		return nil, err
	}
	old, existed := f.s.Switches[now.Name]
	if !now.Compute && existed {
		if peers := f.s.PeersOn(now.Name); len(peers) > 0 {
			return nil, refuse("switch-in-use", "switch "+now.Name,
				fmt.Sprintf("dyad peer remove %s --switch %s", peers[0].Address, now.Name),
				"it has peers, which need it enabled for compute")
		}
	}
	if now.ID == "" {
		now.ID = old.ID
	}
	if now.Source == "" {
		now.Source = old.Source
	}
	ports := slices.Clone(now.Ports)
	for _, p := range old.Ports {
		if !slices.ContainsFunc(ports, func(q eventlog.Port) bool { return q.Node == p.Node }) {
			ports = append(ports, p)
		}
	}
	slices.SortStableFunc(ports, comparePorts)
	now.Ports = ports
	return change(eventlog.TypeSwitchDeclared, "switch/"+now.Name, now, old, existed)
}

func (f *folder) removeSwitch(c RemoveSwitch) ([]eventlog.Draft, error) {
	old, ok := f.s.Switches[c.Name]
	if !ok {
		return nil, f.unknownSwitch(c.Name)
	}
	if peers := f.s.PeersOn(c.Name); len(peers) > 0 {
		return nil, refuse("switch-in-use", "switch "+c.Name,
			fmt.Sprintf("dyad peer remove %s --switch %s", peers[0].Address, c.Name), "it has %d peers", len(peers))
	}
	for _, p := range sorted(f.s.Pools) {
		if p.Switch == c.Name {
			return nil, refuse("switch-in-use", "switch "+c.Name, "dyad pool remove "+p.Name, "pool %s is tied to it", p.Name)
		}
	}
	return change(eventlog.TypeSwitchRemoved, "switch/"+c.Name, eventlog.Removed{Name: c.Name}, old, true)
}

func (f *folder) joinNode(c JoinNode) ([]eventlog.Draft, error) {
	n := c.Node
	if err := checkName("node", n.Name); err != nil {
		return nil, err
	}
	old, existed := f.s.Nodes[n.Name]
	if n.Name == f.s.Voter.Name {
		return nil, refuse("node-name", "node "+n.Name, "give the node another name", "the third voter has it")
	}
	if !existed && len(f.s.Nodes) >= MaxNodes {
		return nil, refuse("too-many-nodes", "node "+n.Name, "dyad node remove NAME, then join again",
			"a cluster has two nodes, and there are: %s", strings.Join(f.s.NodeNames(), ", "))
	}
	if owner, ok := f.nodeWith(n.Address); ok && owner != n.Name {
		return nil, refuse("node-address", "node "+n.Name, "give each node its own address",
			"%s is an address of %s", n.Address, owner)
	}
	if owner, ok := f.nodeWith(n.Beacon.Addr()); n.Beacon.IsValid() && ok && owner != n.Name {
		return nil, refuse("node-beacon", "node "+n.Name, "give each node a beacon of its own", "%s is an address of %s", n.Beacon, owner)
	}
	for _, p := range sorted(f.s.Pools) {
		for _, r := range p.Ranges {
			if n.Beacon.IsValid() && r.Contains(n.Beacon.Addr()) {
				return nil, refuse("pool-contains-node", "node "+n.Name, "another beacon.prefix: in the configuration, outside of all pools",
					"its beacon %s lies in pool %s", n.Beacon, p.Name)
			}
			if r.Contains(n.Address) {
				return nil, refuse("pool-contains-node", "node "+n.Name, "dyad pool set "+p.Name+" with ranges that leave it out",
					"its address %s lies in pool %s", n.Address, p.Name)
			}
		}
	}
	return change(eventlog.TypeNodeJoined, "node/"+n.Name, n, old, existed)
}

func (f *folder) removeNode(c RemoveNode) ([]eventlog.Draft, error) {
	old, ok := f.s.Nodes[c.Name]
	if !ok {
		return nil, f.unknownNode(c.Name)
	}
	if len(f.s.Nodes) == 1 {
		return nil, refuse("last-node", "node "+c.Name, "stop dyad there instead", "it is the only node")
	}
	if v := f.s.Voter.Name; v != "" {
		return nil, refuse("voter-first", "node "+c.Name, "dyad node remove "+v+", then this node",
			"%s holds a third vote, which is only for two nodes", v)
	}
	gone := eventlog.Removed{Name: c.Name}
	if !c.Now.IsZero() {
		gone.Before = c.Now.Add(revokeAhead)
	}
	return change(eventlog.TypeNodeRemoved, "node/"+c.Name, gone, old, true)
}

func (f *folder) unknownNode(name string) error {
	return refuse("node-unknown", fmt.Sprintf("node %q", name), "dyad node list",
		"there is no such node; there are: %s", strings.Join(f.s.NodeNames(), ", "))
}

func (f *folder) drainNode(c DrainNode) ([]eventlog.Draft, error) {
	if _, ok := f.s.Nodes[c.Node]; !ok {
		return nil, f.unknownNode(c.Node)
	}
	if f.s.Drained[c.Node] == c.On {
		return nil, nil
	}
	t := eventlog.TypeNodeUndrained
	if c.On {
		t = eventlog.TypeNodeDrained
		for _, other := range f.s.NodeNames() {
			if other != c.Node && f.s.Drained[other] {
				return nil, refuse("other-node-drained", "node "+c.Node, "dyad node undrain "+other,
					"%s is drained, and one node must carry the traffic", other)
			}
		}
	}
	return change(t, "node/"+c.Node, eventlog.NodeRef{Name: c.Node}, nil, false)
}

func (f *folder) failBack(c FailBack) ([]eventlog.Draft, error) {
	if _, ok := f.s.Nodes[c.Node]; !ok {
		return nil, f.unknownNode(c.Node)
	}
	if f.s.Drained[c.Node] {
		return nil, refuse("node-drained", "node "+c.Node, "dyad node undrain "+c.Node, "it is drained, and gets no share until that ends")
	}
	return change(eventlog.TypeNodeFailback, "node/"+c.Node, eventlog.NodeRef{Name: c.Node}, nil, false)
}

func (f *folder) startEpoch(c StartEpoch) ([]eventlog.Draft, error) {
	if c.Epoch <= f.s.Head.Epoch {
		return nil, refuse("epoch", fmt.Sprintf("epoch %d", c.Epoch), fmt.Sprintf("use %d", f.s.Head.Epoch+1),
			"the log is at epoch %d", f.s.Head.Epoch)
	}
	return change(eventlog.TypeEpochStarted, "epoch", eventlog.EpochPayload{
		Epoch: c.Epoch, Mode: c.Mode, Writers: c.Writers, Cluster: c.Cluster,
	}, nil, false)
}
