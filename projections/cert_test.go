package projections

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"dyad/eventlog"
)

// revokedAfter folds what commands lead to.
func revokedAfter(t *testing.T, s State, cmds ...Command) State {
	t.Helper()
	p := NewPlanner(s)
	for _, c := range cmds {
		if _, err := p.Decide(c); err != nil {
			t.Fatalf("%s: %v", c.Verb(), err)
		}
	}
	return p.State()
}

func TestWhatIsRevokedIsRefused(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	one, other := strings.Repeat("0a", 32), strings.Repeat("0b", 32)
	s := State{Nodes: map[string]eventlog.Node{"node-a": {Name: "node-a"}, "node-b": {Name: "node-b"}}}
	for what, c := range map[string]Command{
		"revoke-what":        RevokeCertificate{Now: now},
		"revoke-time":        RevokeCertificate{Name: "alice"},
		"revoke-node":        RevokeCertificate{Name: "node-a", Now: now},
		"revoke-fingerprint": RevokeCertificate{Fingerprint: strings.ToUpper(one), Now: now},
		"name":               RevokeCertificate{Name: "no name", Now: now},
	} {
		if _, err := Decide(s, c); refusalCode(err) != what {
			t.Errorf("%s: %v", what, err)
		}
	}
	s = revokedAfter(t, s, RevokeCertificate{Name: "alice", Now: now}, RevokeCertificate{Fingerprint: one, Now: now})
	if d, err := Decide(s, RevokeCertificate{Fingerprint: one, Now: now}); err != nil || len(d) != 0 {
		t.Errorf("again: %v %v", d, err)
	}
	after := s.IssuedAfter(kindUser, "alice")
	for _, c := range []struct {
		kind, name, print string
		issued            time.Time
		refused           bool
	}{
		{kindUser, "alice", other, now, true},
		{kindUser, "alice", other, now.Add(20 * time.Minute), true}, // by a node whose clock is ahead
		{kindUser, "alice", other, after, false},
		{kindUser, "bob", other, now, false},
		{kindUser, "bob", one, now, true},
		{kindNode, "node-a", one, now, false}, // it is no way to lock a node out
	} {
		if why := s.Refuses(c.kind, c.name, c.print, c.issued); (why != "") != c.refused {
			t.Errorf("%+v: %q", c, why)
		}
	}
	b, err := json.Marshal(s)
	var back State
	if err != nil || json.Unmarshal(b, &back) != nil || back.Refuses(kindUser, "bob", one, now) == "" || len(back.Revoked) != 2 {
		t.Errorf("a checkpoint keeps %+v, %v", back.Revoked, err)
	}
	if s = revokedAfter(t, s, RevokeCertificate{Name: "carol", Now: now.Add(revokeKeep + time.Hour)}); len(s.Revoked) != 1 {
		t.Errorf("after everything has ended by itself: %+v", s.Revoked)
	}
}

// A removed node is refused until one of its name is let in again, and then for
// what was issued before.
func TestARemovedNodeIsRefused(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	print := strings.Repeat("0a", 32)
	nodes := map[string]eventlog.Node{"node-a": {Name: "node-a"}, "node-b": {Name: "node-b"}}
	s := revokedAfter(t, State{Nodes: nodes}, RemoveNode{Name: "node-b", Now: now},
		CreateToken{Fingerprint: print, TTL: time.Hour, Now: now})
	later := now.Add(48 * time.Hour) // it has renewed itself
	if s.Refuses(kindNode, "node-b", "", now) == "" || s.Refuses(kindNode, "node-b", "", later) == "" || s.Refuses(kindNode, "node-a", "", now) != "" {
		t.Errorf("%+v", s.Revoked)
	}
	s = revokedAfter(t, s, UseToken{ID: TokenID(print), Node: "node-b", Key: "k", Now: now})
	issued := s.IssuedAfter(kindNode, "node-b")
	if s.Refuses(kindNode, "node-b", "", now) == "" || issued.IsZero() || s.Refuses(kindNode, "node-b", "", issued) != "" {
		t.Errorf("%+v", s.Revoked)
	}
}
