package projections

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"dyad/eventlog"
)

// The ladder. A normal announcement leaves room above itself, so that the
// survivor of a failure can win over what a router still holds of the dead
// node. On P1 a service's preferred node is a step better than the other one.
var ladder = map[Rung]Attributes{
	P0: {Origin: OriginIGP, Prepend: 0, MED: 0, LocalPref: 300},
	P1: {Origin: OriginIncomplete, Prepend: 1, MED: 100, LocalPref: 200},
	P2: {Origin: OriginIncomplete, Prepend: 2, MED: 200, LocalPref: 50, Communities: []uint32{GracefulShutdown}},
}

// What the preferred node of an active-standby service announces at P1.
const (
	preferredMED       = 50
	preferredLocalPref = 210
)

// Desired says what the node v.Self should tell the network. It lists what is
// withheld too, with the reason, so that every address of every service is
// accounted for.
func Desired(s State, v View) Announcements {
	switches := make([]attachment, 0, len(s.Switches))
	for _, name := range slices.Sorted(maps.Keys(s.Switches)) {
		switches = append(switches, attachmentOf(s, v.Self, name))
	}
	out := make(Announcements, 0, len(s.Services)+8)
	for _, sv := range s.Services {
		for _, a := range sv.Addresses {
			out = appendAddress(out, s, v, switches, sv, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	slices.SortFunc(out, compareAnnouncements)
	return out
}

func compareAnnouncements(a, b Announcement) int {
	return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Switch, b.Switch),
		a.Peer.Compare(b.Peer), cmp.Compare(a.Node, b.Node))
}

// attachment is what Desired needs to know of a switch, seen from one node.
type attachment struct {
	name    string
	compute bool
	port    bool // this node has one, or nobody declared any
	peers   []netip.Addr
	iface   string   // of this node
	nodes   []string // that have a port, sorted
}

func attachmentOf(s State, self, name string) attachment {
	sw := s.Switches[name]
	a := attachment{name: name, compute: sw.Compute, port: len(sw.Ports) == 0}
	for _, p := range sw.Ports {
		a.port = a.port || p.Node == self
		if p.Node == self && a.iface == "" {
			a.iface = p.Interface
		}
		if _, ok := s.Nodes[p.Node]; ok && !slices.Contains(a.nodes, p.Node) {
			a.nodes = append(a.nodes, p.Node)
		}
	}
	slices.Sort(a.nodes)
	for _, p := range s.PeersOn(name) {
		a.peers = append(a.peers, p.Address)
	}
	return a
}

// appendAddress adds one service address on every switch it may be told to.
func appendAddress(out Announcements, s State, v View, switches []attachment, sv eventlog.Service, p netip.Prefix) Announcements {
	before := len(out)
	only := s.Pools[sv.Pool].Switch
	for _, sw := range switches {
		if !sw.compute || only != "" && only != sw.name {
			continue
		}
		base := Announcement{Node: v.Self, Service: sv.Name, Prefix: p, Switch: sw.name, Protocol: BGP}
		if len(sw.peers) == 0 {
			out = append(out, layer2(base, s, v, sw, sv))
			continue
		}
		matched := false
		for _, peer := range sw.peers {
			if peer.Is4() != p.Addr().Is4() {
				continue
			}
			matched = true
			a := base
			a.Peer = peer
			out = append(out, judge(a, v, sw, sv))
		}
		if !matched {
			base.Reason = Reason{"no-peer-of-family", fmt.Sprintf("no %s peer on %s; try: dyad peer add ROUTER --switch %s …",
				family(p.Addr().Is4()), sw.name, sw.name)}
			out = append(out, base)
		}
	}
	if len(out) == before {
		a := Announcement{Node: v.Self, Service: sv.Name, Prefix: p, Switch: only, Protocol: BGP}
		a.Reason = Reason{"no-switch", "no switch is enabled for compute; try: dyad switch set NAME --compute"}
		out = append(out, a)
	}
	return out
}

// judge decides whether and how this node announces one route.
func judge(a Announcement, v View, sw attachment, sv eventlog.Service) Announcement {
	if r, no := withheld(v, sw, sv); no {
		a.Reason = r
		return a
	}
	a.Announced = true
	a.Rung = rungOf(v.Stance)
	a.Attributes = ladder[a.Rung]
	a.Reason = v.Reason
	if a.Rung != P1 {
		return a
	}
	switch {
	case sv.Placement == eventlog.ActiveActive:
		a.Reason = Reason{"active-active", "both nodes carry it alike"}
	case sv.Preferred == v.Self:
		a.Attributes.MED, a.Attributes.LocalPref = preferredMED, preferredLocalPref
		a.Reason = Reason{"preferred", v.Self + " is its preferred node"}
	default:
		a.Reason = Reason{"standby", sv.Preferred + " is its preferred node"}
	}
	return a
}

// withheld says why this node tells nobody about a service on a switch, if so.
func withheld(v View, sw attachment, sv eventlog.Service) (Reason, bool) {
	switch why, sick := v.Unhealthy[sv.Name]; {
	case !sw.port:
		return Reason{"no-port", fmt.Sprintf("%s has no port on %s", v.Self, sw.name)}, true
	case v.Stance == StanceSilent:
		return v.Reason, true
	case sick:
		return Reason{"check-failed", "the local check fails: " + why}, true
	}
	return Reason{}, false
}

func rungOf(s Stance) Rung {
	switch s {
	case StanceTakeover:
		return P0
	case StanceNormal:
		return P1
	}
	return P2
}

// Change is one difference between two sets of announcements: + comes, - goes,
// ~ changes how it is announced.
type Change struct {
	Op       string
	Now, Was Announcement
}

// Diff compares what is announced; the wording of reasons makes no difference.
// The result is sorted like [Announcements].
func Diff(was, now Announcements) []Change {
	var out []Change
	for len(was) > 0 || len(now) > 0 {
		switch {
		case len(now) == 0 || len(was) > 0 && compareAnnouncements(was[0], now[0]) < 0:
			if was[0].Announced {
				out = append(out, Change{Op: "-", Was: was[0], Now: was[0]})
			}
			was = was[1:]
		case len(was) == 0 || compareAnnouncements(was[0], now[0]) > 0:
			if now[0].Announced {
				out = append(out, Change{Op: "+", Now: now[0]})
			}
			now = now[1:]
		default:
			if c, ok := differ(was[0], now[0]); ok {
				out = append(out, c)
			}
			was, now = was[1:], now[1:]
		}
	}
	return out
}

func differ(was, now Announcement) (Change, bool) {
	switch {
	case was.Announced && !now.Announced:
		return Change{Op: "-", Was: was, Now: now}, true
	case !was.Announced && now.Announced:
		return Change{Op: "+", Was: was, Now: now}, true
	case !now.Announced:
		return Change{}, false
	}
	same := was.Rung == now.Rung && was.Claim == now.Claim && was.Protocol == now.Protocol && was.Service == now.Service &&
		was.Attributes.Equal(now.Attributes)
	return Change{Op: "~", Was: was, Now: now}, !same
}

// Equal compares all attributes.
func (a Attributes) Equal(b Attributes) bool {
	return a.Origin == b.Origin && a.Prepend == b.Prepend && a.MED == b.MED && a.LocalPref == b.LocalPref &&
		slices.Equal(a.Communities, b.Communities)
}
