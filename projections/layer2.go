package projections

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"dyad/eventlog"
)

// layer2 says what this node is to an address on a switch without peers. One node
// at a time answers for it: the preferred one while both are well, the survivor
// otherwise.
func layer2(a Announcement, s State, v View, sw attachment, sv eventlog.Service) Announcement {
	a.Protocol = ARP
	if !a.Prefix.Addr().Is4() {
		a.Protocol = NDP
	}
	r, no := withheld(v, sw, sv)
	switch {
	case no:
		a.Reason = r
		return a
	case sw.iface == "":
		a.Reason = Reason{"no-interface", fmt.Sprintf("%s has neither a BGP peer nor a port of %s; try: dyad peer add ROUTER --switch %s …, or its interface under switches: in the configuration",
			sw.name, v.Self, sw.name)}
		return a
	}
	a.Interface = sw.iface
	owner := ownerOf(sw, sv, a.Prefix.Addr())
	a.Claim, a.Reason = claimOf(s, v, sw, owner)
	a.Claim.Preferred = owner == v.Self
	switch a.Claim.Mode {
	case ClaimOwn:
		a.Announced, a.Rung = true, P1
	case ClaimTake:
		a.Announced, a.Rung = true, P0
	}
	return a
}

// ownerOf is the node that answers for an address while both are well: the
// service's preferred node if it has a port there, or one that both nodes choose
// alike.
func ownerOf(sw attachment, sv eventlog.Service, a netip.Addr) string {
	if len(sw.nodes) == 0 || slices.Contains(sw.nodes, sv.Preferred) {
		return sv.Preferred
	}
	b := a.AsSlice()
	return sw.nodes[int(b[len(b)-1])%len(sw.nodes)]
}

// claimOf weighs the other node's verdict and stance. A suspicion moves nothing: a
// move costs connections, and the suspicion is confirmed or over within
// milliseconds.
//
// Who took over and waits for the other node to prove itself is the spare, like
// that other one: so whoever has the address keeps it.
//
// Invariant: while two nodes hear each other at most one claim is firm.
func claimOf(s State, v View, sw attachment, owner string) (Layer2Claim, Reason) {
	spare := Layer2Claim{Mode: ClaimSpare}
	if v.Stance == StanceStepDown {
		return spare, v.Reason
	}
	own := owner == v.Self
	i := slices.IndexFunc(sw.nodes, func(n string) bool { return n != v.Self })
	if i < 0 {
		return Layer2Claim{Mode: ClaimOwn, Firm: true}, Reason{"only-node", "no other node has a port on " + sw.name}
	}
	other := sw.nodes[i]
	told, said := v.Stances[other]
	switch verdict := v.Nodes[other]; verdict {
	case Left, Isolated:
		return Layer2Claim{Mode: ClaimTake, Firm: true}, v.Reason
	case ProcessDown, DeadData, DeadMember:
		// It may be this node that is cut off: then the owner keeps it.
		return Layer2Claim{Mode: ClaimTake, Firm: own}, v.Reason
	case Alive, Suspect, Gray:
		if !said {
			return spare, Reason{"peer-unknown", other + " has not said yet what it does; taken if nobody answers for it"}
		}
		if r, ok := yields(other, told); ok {
			return Layer2Claim{Mode: ClaimTake, Firm: true}, r
		}
		return shared(v, verdict, other, told, owner)
	}
	if len(s.Nodes) == 1 {
		return Layer2Claim{Mode: ClaimOwn, Firm: true}, Reason{"alone", "no other node is known"}
	}
	return spare, Reason{"peer-unknown", other + " was not heard since the start; taken if nobody answers for it"}
}

func yields(other string, told Stance) (Reason, bool) {
	if told == StanceStepDown || told == StanceSilent {
		return Reason{"peer-steps-down", other + " steps down"}, true
	}
	return Reason{}, false
}

// shared is for two nodes that both can have it.
func shared(v View, verdict Verdict, other string, told Stance, owner string) (Layer2Claim, Reason) {
	own := owner == v.Self
	switch {
	case told == StanceTakeover:
		return Layer2Claim{Mode: ClaimSpare}, Reason{"peer-has-it", other + " took over, and gives it back once this node has proved itself"}
	case own:
		return Layer2Claim{Mode: ClaimOwn, Firm: true}, Reason{"preferred", v.Self + " is its owner"}
	case v.Stance == StanceTakeover: // the owner is back, and has not proved itself
		return Layer2Claim{Mode: ClaimSpare, Quick: verdict == Gray}, v.Reason
	}
	return Layer2Claim{Mode: ClaimSpare, Quick: verdict == Gray}, Reason{"standby", owner + " is its owner"}
}

// Segment is an interface of this node on a switch without peers, and the other
// nodes' own addresses there.
type Segment struct {
	Switch    string
	Interface string
	// Own are this node's addresses on it, Others those of the other nodes.
	Own, Others []netip.Addr
}

// Segments lists the interfaces of v.Self on which it answers for addresses
// itself, sorted by interface.
func Segments(s State, v View) []Segment {
	var out []Segment
	for _, sw := range sortedSwitches(s) {
		if !sw.Compute || len(s.PeersOn(sw.Name)) > 0 {
			continue
		}
		seg := Segment{Switch: sw.Name}
		for _, p := range sw.Ports {
			for _, a := range p.Addresses {
				switch p.Node {
				case v.Self:
					seg.Own = append(seg.Own, a.Addr())
				default:
					seg.Others = append(seg.Others, a.Addr())
				}
			}
			if p.Node == v.Self && seg.Interface == "" {
				seg.Interface = p.Interface
			}
		}
		if seg.Interface != "" {
			out = append(out, seg)
		}
	}
	slices.SortFunc(out, func(a, b Segment) int {
		return cmp.Or(cmp.Compare(a.Interface, b.Interface), cmp.Compare(a.Switch, b.Switch))
	})
	return out
}
