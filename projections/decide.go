package projections

import (
	"bytes"
	"fmt"

	"dyad/eventlog"
)

// Decide checks a command against the rules and returns the events it leads
// to: none if everything already is as asked. The error is a *[Refusal], or a
// *[Refusal] inside the position of an [Apply]. The drafts carry type, stream
// and payloads; identity, actor and time are stamped by whoever appends them.
func Decide(s State, c Command) ([]eventlog.Draft, error) {
	return NewPlanner(s).Decide(c)
}

// Planner decides several commands in a row, each against what the ones before
// it would lead to, so that they can be appended together.
type Planner struct{ f *folder }

// NewPlanner starts at s.
func NewPlanner(s State) *Planner { return &Planner{newFolder(s)} }

// State is the state after everything decided so far. Its Head is that of the
// state the planner started with.
func (p *Planner) State() State { return p.f.s }

// Decide decides the next command. A refused command changes nothing.
func (p *Planner) Decide(c Command) ([]eventlog.Draft, error) {
	if a, ok := c.(Apply); ok {
		return p.apply(a)
	}
	drafts, err := p.f.decide(c)
	if err != nil {
		return nil, err
	}
	head := p.f.s.Head
	for _, d := range drafts {
		p.f.apply(d)
	}
	p.f.s.Head = head
	return drafts, nil
}

// apply decides all or none: it works on a copy and keeps it if all went well.
func (p *Planner) apply(a Apply) ([]eventlog.Draft, error) {
	trial := NewPlanner(p.f.s)
	var all []eventlog.Draft
	for i, c := range a.Commands {
		if _, nested := c.(Apply); nested {
			return nil, refuse("nested-apply", "apply", "list the commands in one apply", "an apply can't contain another")
		}
		drafts, err := trial.Decide(c)
		if err != nil {
			if r, ok := err.(*Refusal); ok {
				r.What = fmt.Sprintf("item %d (%s)", i+1, r.What)
			}
			return nil, err
		}
		all = append(all, drafts...)
	}
	if len(all) > eventlog.MaxBatch {
		return nil, refuse("batch-size", "apply", "split the file",
			"it leads to %d events, and one change holds at most %d", len(all), eventlog.MaxBatch)
	}
	p.f = trial.f
	return all, nil
}

func (f *folder) decide(c Command) ([]eventlog.Draft, error) {
	switch c := c.(type) {
	case SetPeer:
		return f.setPeer(c)
	case RemovePeer:
		return f.removePeer(c)
	case SetPool:
		return f.setPool(c)
	case RemovePool:
		return f.removePool(c)
	case SetService:
		return f.setService(c)
	case MoveServices:
		return f.moveServices(c)
	case RemoveService:
		return f.removeService(c)
	case DeclareSwitch:
		return f.declareSwitch(c)
	case RemoveSwitch:
		return f.removeSwitch(c)
	case JoinNode:
		return f.joinNode(c)
	case RemoveNode:
		return f.removeNode(c)
	case ReplaceNode:
		return f.replaceNode(c)
	case DrainNode:
		return f.drainNode(c)
	case FailBack:
		return f.failBack(c)
	case JoinVoter:
		return f.joinVoter(c)
	case RemoveVoter:
		return f.removeVoter(c)
	case SetWitness:
		return f.setWitness(c)
	case RemoveWitness:
		return f.removeWitness(c)
	case StartEpoch:
		return f.startEpoch(c)
	case RaiseEpoch:
		return f.raiseEpoch(c)
	case TrimLog:
		return f.trimLog(c)
	case CreateToken:
		return f.createToken(c)
	case UseToken:
		return f.useToken(c)
	case RevokeToken:
		return f.revokeToken(c)
	case RevokeCertificate:
		return f.revokeCertificate(c)
	}
	return nil, refuse("unknown-command", fmt.Sprintf("%T", c), "upgrade dyad on this node", "this release does not know the command")
}

// change drafts an event that sets something, or nothing if it already is so:
// equal means equal in the stored form.
func change(t eventlog.Type, stream string, now, before any, existed bool) ([]eventlog.Draft, error) {
	if !existed {
		before = nil
	}
	d, err := eventlog.NewDraft(t, stream, now, before)
	if err != nil {
		return nil, err
	}
	if existed && bytes.Equal(d.Data, d.Prev) {
		return nil, nil
	}
	return []eventlog.Draft{d}, nil
}

// maxName bounds the length of a name, in bytes.
const maxName = 63

// checkName wants what DNS, Kubernetes and shells all take without quoting.
// Switches keep the appliance's habit of capitals.
func checkName(noun, name string) error {
	ok := name != "" && len(name) <= maxName
	for i, r := range name {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		inner := i > 0 && i < len(name)-1 && (r == '-' || r == '_' || r == '.' || noun == "service" && r == '/')
		ok = ok && (alnum || inner)
	}
	if ok {
		return nil
	}
	return refuse("name", noun+" "+fmt.Sprintf("%q", name), "use letters, digits, - _ . inside, such as web-1",
		"a name has 1 to %d characters and begins and ends with a letter or digit", maxName)
}
