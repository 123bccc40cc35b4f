package node

import (
	"testing"

	"dyad/cluster/etcdnode"
	"dyad/cluster/quorum"
	"dyad/eventlog"
	"dyad/projections"
)

func TestWhoseMembers(t *testing.T) {
	nodes := map[string]eventlog.Node{"a": {Name: "a"}, "b": {Name: "b"}}
	pair := projections.State{Mode: "PAIR", Writers: []string{"a", "b"}, Nodes: nodes}
	named, three := pair, pair
	named.Voter = eventlog.Node{Name: "v"}
	three.Mode, three.Writers, three.Voter = "WITNESSED", []string{"a", "b", "v"}, named.Voter
	removed, undeclared := three, pair
	removed.Voter = eventlog.Node{}
	undeclared.Nodes = map[string]eventlog.Node{"a": {Name: "a"}}
	both := []etcdnode.Member{{Name: "a"}, {Name: "b"}}
	with := func(m etcdnode.Member) []etcdnode.Member { return append(both[:2:2], m) }
	for name, c := range map[string]struct {
		s       projections.State
		members []etcdnode.Member
		want    quorum.ThirdSight
	}{
		"a pair":                        {pair, both, quorum.ThirdSight{}},
		"a vote, not declared yet":      {undeclared, both, quorum.ThirdSight{Votes: true}},
		"admitted, not started":         {named, with(etcdnode.Member{Learner: true}), quorum.ThirdSight{Named: true, Learning: true}},
		"a learner":                     {named, with(etcdnode.Member{Name: "v", Learner: true}), quorum.ThirdSight{Named: true, Learning: true}},
		"a learner that was removed":    {pair, with(etcdnode.Member{Name: "v", Learner: true}), quorum.ThirdSight{Learning: true, Unwanted: true}},
		"a voter":                       {three, with(etcdnode.Member{Name: "v"}), quorum.ThirdSight{Named: true, Votes: true}},
		"a voter, a node has no disk":   {three, []etcdnode.Member{{Name: "a"}, {Name: "b", Learner: true}, {Name: "v"}}, quorum.ThirdSight{Named: true, Votes: true, Learning: true}},
		"a voter that was removed":      {removed, with(etcdnode.Member{Name: "v"}), quorum.ThirdSight{Votes: true, Unwanted: true}},
		"the voter's member is removed": {removed, both, quorum.ThirdSight{}},
	} {
		if got := thirdOf(c.s, c.members); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
