package projections

import (
	"fmt"

	"dyad/eventlog"
)

// CommandOf turns an intent back into the command that would lead to it. It is
// how orphaned changes are applied again: through the rules, on the state of
// today. Numbers and addresses are those of the event, so that what was chosen
// then (an allocated address) is asked for now; a preferred node that was only
// balanced is balanced anew.
//
// Some can't come back: facts (what one node saw is not a wish), the change of
// writers and the trim (they belong to the history they stood in), and what this
// release can't read. The error says which, in words for an operator.
//
// Invariant: on the state that an intent was decided on, Decide(CommandOf(d))
// gives d's type, stream and data again.
func CommandOf(d eventlog.Draft) (Command, error) {
	switch d.Type {
	case eventlog.TypeNodeJoined:
		return back(d, func(n eventlog.Node) Command { return JoinNode{Node: n} })
	case eventlog.TypeNodeRemoved:
		return back(d, func(r eventlog.Removed) Command { return RemoveNode{Name: r.Name} })
	case eventlog.TypeNodeDrained:
		return back(d, func(n eventlog.NodeRef) Command { return DrainNode{Node: n.Name, On: true} })
	case eventlog.TypeNodeUndrained:
		return back(d, func(n eventlog.NodeRef) Command { return DrainNode{Node: n.Name} })
	case eventlog.TypeSwitchDeclared:
		return back(d, func(s eventlog.Switch) Command { return DeclareSwitch{Switch: s} })
	case eventlog.TypeSwitchRemoved:
		return back(d, func(r eventlog.Removed) Command { return RemoveSwitch{Name: r.Name} })
	case eventlog.TypePeerSet:
		return back(d, setPeerOf)
	case eventlog.TypePeerRemoved:
		return back(d, func(r eventlog.Removed) Command { return RemovePeer{Switch: r.Switch, Address: r.Address} })
	case eventlog.TypePoolSet:
		return back(d, func(p eventlog.Pool) Command {
			return SetPool{Name: p.Name, Ranges: p.Ranges, Switch: p.Switch, Manual: p.Manual}
		})
	case eventlog.TypePoolRemoved:
		return back(d, func(r eventlog.Removed) Command { return RemovePool{Name: r.Name} })
	case eventlog.TypeServiceSet:
		return back(d, setServiceOf)
	case eventlog.TypeServiceRemoved:
		return back(d, func(r eventlog.Removed) Command { return RemoveService{Name: r.Name} })
	case eventlog.TypeEpochStarted, eventlog.TypeLogTrimmed,
		eventlog.TypeNodeFailback,                           // it was for the node's return then
		eventlog.TypeVoterJoined, eventlog.TypeVoterRemoved, // a member of the store stands behind it: dyad join --voter-only
		eventlog.TypeWitnessSet, eventlog.TypeWitnessRemoved, // a claim stands behind it: dyad witness add
		eventlog.TypeCertificateRevoked,                                              // it goes by the time of then
		eventlog.TypeTokenCreated, eventlog.TypeTokenUsed, eventlog.TypeTokenRevoked: // its time is over
		return nil, fmt.Errorf("%s belongs to the history it stood in", d.Type)
	}
	if d.Type.Known() {
		return nil, fmt.Errorf("%s is a fact: it tells what %s saw, and asks for nothing", d.Type, d.Source.Node)
	}
	return nil, fmt.Errorf("this release does not know %s", d.Type)
}

func back[T any](d eventlog.Draft, f func(T) Command) (Command, error) {
	p, err := eventlog.Payload[T](d)
	if err != nil {
		return nil, err
	}
	return f(p), nil
}

func setPeerOf(p eventlog.Peer) Command {
	hold := int64(p.HoldTime)
	return SetPeer{Switch: p.Switch, Address: p.Address, PeerASN: int64(p.PeerASN), SelfASN: int64(p.SelfASN), HoldTime: &hold}
}

func setServiceOf(s eventlog.Service) Command {
	c := SetService{Name: s.Name, Pool: s.Pool, Addresses: s.Addresses, Placement: s.Placement, Check: s.Check}
	if s.Pinned {
		c.Prefer = s.Preferred
	}
	return c
}
