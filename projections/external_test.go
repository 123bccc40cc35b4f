package projections

import (
	"errors"
	"net/netip"
	"testing"

	"dyad/eventlog"
)

// Where the log lies in an external store every node writes it: none may be behind
// when old events go. No witness decides anything.
func TestExternalStore(t *testing.T) {
	p := NewPlanner(State{})
	for _, c := range []Command{
		StartEpoch{Epoch: 1, Mode: ModeExternal, Writers: []string{}, Cluster: "c"},
		JoinNode{Node: eventlog.Node{Name: "b", Address: netip.MustParseAddr("10.0.0.2")}},
		JoinNode{Node: eventlog.Node{Name: "a", Address: netip.MustParseAddr("10.0.0.1")}},
	} {
		if _, err := p.Decide(c); err != nil {
			t.Fatal(err)
		}
	}
	s := p.State()
	s.Head.Seq = 10
	upTo := eventlog.Head{Seq: 5}
	for code, c := range map[string]Command{
		"trim-not-sealed": TrimLog{UpTo: upTo, Sealed: map[string]eventlog.Seq{"a": 5, "b": 4}},
		"external-store":  SetWitness{URL: "https://w:7990"},
	} {
		_, err := Decide(s, c)
		var r *Refusal
		if !errors.As(err, &r) || r.Code != code || r.Fix == "" {
			t.Errorf("%v, want %s", err, code)
		}
	}
	if _, err := Decide(s, TrimLog{UpTo: upTo, Sealed: map[string]eventlog.Seq{"a": 5, "b": 5}}); err != nil {
		t.Error(err)
	}
}
