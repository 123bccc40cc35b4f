package netlab

import (
	"net/netip"
)

// Names of the namespaces of the lab, without their prefix.
const (
	NodeA  = "node-a"
	NodeB  = "node-b"
	Router = "router"
	Client = "client"
)

// Names of the interfaces of the lab.
const (
	// PortRouter is each node's interface towards the router.
	PortRouter = "port3"
	// PortCluster is each node's interface towards the other node.
	PortCluster = "port5"
	// BridgeNodes is the router's interface towards both nodes.
	BridgeNodes = "br-nodes"
)

// PortTo is the router's interface towards a node, a port of its bridge.
func PortTo(node string) string { return "to-" + node }

// End is one end of a [Link].
type End struct {
	NS        string
	Interface string
	// Bridge is the bridge in NS that the interface is a port of, if any.
	Bridge    string
	Addresses []netip.Prefix
}

// Link is a veth pair.
type Link struct{ A, B End }

// Bridge is a bridge inside a namespace.
type Bridge struct {
	NS, Name  string
	Addresses []netip.Prefix
}

// Route is a static route inside a namespace.
type Route struct {
	NS  string
	Dst netip.Prefix
	Via netip.Addr
}

// Topology is a network as data. Names of namespaces are without the prefix.
type Topology struct {
	// Prefix keeps labs apart: the namespace of node-a is Prefix-node-a.
	Prefix     string
	Namespaces []string
	// Sysctls by namespace, keys with slashes below /proc/sys.
	Sysctls map[string]map[string]string
	Bridges []Bridge
	Links   []Link
	// Addresses are those beside the ones of links and bridges.
	Addresses []Address
	Routes    []Route
}

// Address is one more address of an interface inside a namespace.
type Address struct {
	NS, Interface string
	Prefix        netip.Prefix
}

// Full is the name of a namespace of t in /run/netns.
func (t Topology) Full(ns string) string { return t.Prefix + "-" + ns }

// Plan holds the numbers of the lab. They follow the appliance's documented
// session where it names any.
type Plan struct {
	SwitchName string
	Alias      string // of PortRouter, as the operator knows it
	RouterASN  uint32
	NodeASN    uint32
	// HoldTime is what the router proposes, in seconds.
	HoldTime     uint16
	RouterPeer   netip.Addr // the router's address towards the nodes
	RouterPeer6  netip.Addr
	NodePeer     map[string]netip.Addr // each node's address towards the router
	NodePeer6    map[string]netip.Addr
	ClusterAddr  map[string]netip.Addr // each node's address towards the other
	ClientAddr   netip.Addr
	ClientAddr6  netip.Addr
	RouterClient netip.Addr
	Pool         string // a range for services, reachable through BGP only
	Pool6        string
	// EchoPort is the UDP port of the echo responders.
	EchoPort uint16
}

// DefaultPlan is the lab's own set of numbers.
func DefaultPlan() Plan {
	a := netip.MustParseAddr
	return Plan{
		SwitchName: "vSwitch1", Alias: "Port3",
		RouterASN: 64512, NodeASN: 64513, HoldTime: 90,
		RouterPeer: a("10.126.77.125"), RouterPeer6: a("2001:db8:77::125"),
		NodePeer:    map[string]netip.Addr{NodeA: a("10.126.77.11"), NodeB: a("10.126.77.12")},
		NodePeer6:   map[string]netip.Addr{NodeA: a("2001:db8:77::11"), NodeB: a("2001:db8:77::12")},
		ClusterAddr: map[string]netip.Addr{NodeA: a("10.126.78.1"), NodeB: a("10.126.78.2")},
		ClientAddr:  a("192.0.2.10"), ClientAddr6: a("2001:db8:2::10"), RouterClient: a("192.0.2.1"),
		Pool: "198.51.100.1-198.51.100.254", Pool6: "2001:db8:100::1-2001:db8:100::ff",
		EchoPort: 7007,
	}
}

// Topology of the lab:
//
//	node-a ─port3┐                    ┌─eth0─ client
//	  │port5     ├─br-nodes router br-client
//	node-b ─port3┘
//
// Both bridges are inside the router's namespace, so that the router's own
// interfaces never lose their carrier when a node dies: only that makes it a
// silent death.
func (p Plan) Topology(prefix string) Topology {
	v4 := func(x netip.Addr, bits int) netip.Prefix { return netip.PrefixFrom(x, bits) }
	rc6 := netip.MustParseAddr("2001:db8:2::1")
	any4, any6 := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")
	t := Topology{
		Prefix:     prefix,
		Namespaces: []string{Router, NodeA, NodeB, Client},
		Sysctls: map[string]map[string]string{
			Router: routerSysctls(), NodeA: nodeSysctls(), NodeB: nodeSysctls(), Client: commonSysctls(),
		},
		Bridges: []Bridge{
			{Router, BridgeNodes, []netip.Prefix{v4(p.RouterPeer, 24), v4(p.RouterPeer6, 64)}},
			{Router, "br-client", []netip.Prefix{v4(p.RouterClient, 24), v4(rc6, 64)}},
		},
		Links: []Link{
			{
				A: End{NS: NodeA, Interface: PortCluster, Addresses: []netip.Prefix{v4(p.ClusterAddr[NodeA], 29)}},
				B: End{NS: NodeB, Interface: PortCluster, Addresses: []netip.Prefix{v4(p.ClusterAddr[NodeB], 29)}},
			},
			{
				A: End{NS: Client, Interface: "eth0", Addresses: []netip.Prefix{v4(p.ClientAddr, 24), v4(p.ClientAddr6, 64)}},
				B: End{NS: Router, Interface: "to-client", Bridge: "br-client"},
			},
		},
		Routes: []Route{{Client, any4, p.RouterClient}, {Client, any6, rc6}},
	}
	for _, n := range []string{NodeA, NodeB} {
		t.Links = append(t.Links, Link{
			A: End{NS: n, Interface: PortRouter, Addresses: []netip.Prefix{v4(p.NodePeer[n], 24), v4(p.NodePeer6[n], 64)}},
			B: End{NS: Router, Interface: PortTo(n), Bridge: "br-nodes"},
		})
		t.Routes = append(t.Routes, Route{n, any4, p.RouterPeer}, Route{n, any6, p.RouterPeer6})
	}
	return t
}

func commonSysctls() map[string]string {
	return map[string]string{
		"net/ipv4/conf/all/rp_filter":      "0",
		"net/ipv4/conf/default/rp_filter":  "0",
		"net/ipv6/conf/all/disable_ipv6":   "0",
		"net/ipv6/conf/default/accept_ra":  "0",
		"net/ipv6/conf/default/accept_dad": "0",
		"net/ipv4/icmp_ratelimit":          "0",
	}
}

func nodeSysctls() map[string]string {
	m := commonSysctls()
	m["net/ipv4/ip_forward"] = "1"
	// A service address sits on the loopback: the node must not answer ARP
	// for it on a port, nor use it as the source of its own ARP.
	m["net/ipv4/conf/all/arp_ignore"] = "1"
	m["net/ipv4/conf/all/arp_announce"] = "2"
	return m
}

func routerSysctls() map[string]string {
	m := commonSysctls()
	m["net/ipv4/ip_forward"] = "1"
	m["net/ipv6/conf/all/forwarding"] = "1"
	// Hash over ports too, so that the flows of one client spread over ECMP.
	m["net/ipv4/fib_multipath_hash_policy"] = "1"
	m["net/ipv6/fib_multipath_hash_policy"] = "1"
	return m
}
