package projections

import (
	"strings"

	"dyad/eventlog"
)

type (
	// JoinVoter names the machine that is to hold the third vote of a pair. Whoever
	// submits it makes it a member of the store.
	JoinVoter struct{ Voter eventlog.Node }
	// RemoveVoter takes it out again.
	RemoveVoter struct{ Name string }
)

// Verb implements Command.
func (JoinVoter) Verb() string { return "voter join" }

// Verb implements Command.
func (RemoveVoter) Verb() string { return "voter remove" }

// joinVoter refuses a third vote beside a witness: each of them decides who goes
// on, and they would not agree.
func (f *folder) joinVoter(c JoinVoter) ([]eventlog.Draft, error) {
	v, old := c.Voter, f.s.Voter
	what := "voter " + v.Name
	if err := checkName("voter", v.Name); err != nil {
		return nil, err
	}
	owner, taken := f.nodeWith(v.Address)
	_, node := f.s.Nodes[v.Name]
	switch {
	case node:
		return nil, refuse("voter-name", what, "give the voter another name: node: in its configuration", "a node has that name")
	case taken:
		return nil, refuse("voter-address", what, "give the voter its own address", "%s is an address of %s", v.Address, owner)
	case old.Name != "" && old.Name != v.Name:
		return nil, refuse("voter-set", what, "dyad node remove "+old.Name+", then join again", "%s holds the third vote", old.Name)
	case f.s.Mode == ModeExternal:
		return nil, refuse("external-store", what, "dyad status", "the log is in an external store, which has voters of its own")
	case len(f.s.Nodes) < MaxNodes:
		return nil, refuse("voter-pair", what, "dyad join on the second node first", "a third vote is for two nodes, and there are: %s", strings.Join(f.s.NodeNames(), ", "))
	case f.s.Witness.URL != "":
		return nil, refuse("witness-set", what, "dyad witness remove, then join again", "the cluster has a witness, %s, and has one or the other", f.s.Witness.URL)
	case old.Name == "" && f.s.Mode != "PAIR":
		return nil, refuse("not-a-pair", what, "dyad status, then join again when both nodes are PAIR", "the log is %s", f.s.Mode)
	}
	return change(eventlog.TypeVoterJoined, "voter/"+v.Name, v, old, old.Name != "")
}

func (f *folder) removeVoter(c RemoveVoter) ([]eventlog.Draft, error) {
	old := f.s.Voter
	if c.Name == "" || c.Name != old.Name {
		return nil, refuse("voter-unknown", "voter "+c.Name, "dyad status", "there is no such voter")
	}
	return change(eventlog.TypeVoterRemoved, "voter/"+c.Name, eventlog.Removed{Name: c.Name}, old, true)
}
