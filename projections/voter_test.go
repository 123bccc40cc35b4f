package projections

import (
	"encoding/json"
	"errors"
	"net/netip"
	"testing"

	"dyad/eventlog"
)

// A third voter is for a pair without a witness, one at a time, and is no node.
func TestThirdVoter(t *testing.T) {
	at := netip.MustParseAddr
	voter := JoinVoter{eventlog.Node{Name: "v", Address: at("10.0.0.3"), API: "10.0.0.3:7944"}}
	another := JoinVoter{eventlog.Node{Name: "w", Address: at("10.0.0.4")}}
	node := func(name, a string) Command { return JoinNode{Node: eventlog.Node{Name: name, Address: at(a)}} }
	p := NewPlanner(State{})
	for i, tc := range []struct {
		c      Command
		events int
		code   string
	}{
		{StartEpoch{Epoch: 1, Mode: "SOLO", Writers: []string{"a"}, Cluster: "c"}, 1, ""},
		{node("a", "10.0.0.1"), 1, ""},
		{voter, 0, "voter-pair"},
		{node("b", "10.0.0.2"), 1, ""},
		{voter, 0, "not-a-pair"},
		{StartEpoch{Epoch: 2, Mode: "PAIR", Writers: []string{"a", "b"}}, 1, ""},
		{SetWitness{URL: "file:///w"}, 1, ""},
		{voter, 0, "witness-set"},
		{RemoveWitness{}, 2, ""}, // and an epoch
		{JoinVoter{eventlog.Node{Name: "a", Address: at("10.0.0.3")}}, 0, "voter-name"},
		{JoinVoter{eventlog.Node{Name: "v", Address: at("10.0.0.1")}}, 0, "voter-address"},
		{JoinVoter{}, 0, "name"},
		{RemoveVoter{"v"}, 0, "voter-unknown"},
		{voter, 1, ""},
		{voter, 0, ""},
		{another, 0, "voter-set"},
		{SetWitness{URL: "file:///w"}, 0, "third-voter"},
		{RemoveNode{Name: "b"}, 0, "voter-first"},
		{node("v", "10.0.0.9"), 0, "node-name"},
		{StartEpoch{Epoch: 4, Mode: "WITNESSED", Writers: []string{"a", "b", "v"}}, 1, ""},
		{voter, 0, ""},
		{RemoveVoter{"v"}, 1, ""},
		{another, 0, "not-a-pair"},
		{RemoveNode{Name: "b"}, 1, ""},
	} {
		if i == 21 {
			s := p.State()
			b, err := json.Marshal(s)
			var back State
			if err := errors.Join(err, json.Unmarshal(b, &back)); err != nil || back.Voter.API != voter.Voter.API {
				t.Errorf("a checkpoint keeps %+v, %v", back.Voter, err)
			}
			if w := s.LogWriters(); len(w) != 2 || len(s.Nodes) != 2 {
				t.Errorf("who keeps old events: %v of %v", w, s.Writers)
			}
		}
		drafts, err := p.Decide(tc.c)
		code := ""
		var r *Refusal
		if errors.As(err, &r) {
			code = r.Code
		}
		if len(drafts) != tc.events || code != tc.code || r != nil && r.Fix == "" {
			t.Errorf("%d: %d events, %v; want %d, %q", i, len(drafts), err, tc.events, tc.code)
		}
	}
}
