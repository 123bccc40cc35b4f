package projections

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"dyad/eventlog"
	"pgregory.net/rapid"
)

// sameAgain turns every intent back into a command and decides that on the state
// the intent was decided on.
func sameAgain(t interface {
	Fatalf(string, ...any)
}, s State, drafts []eventlog.Draft,
) {
	for _, d := range drafts {
		c, err := CommandOf(d)
		if err != nil {
			t.Fatalf("%s: %v", d.Type, err)
		}
		again, err := Decide(s, c)
		if err != nil {
			t.Fatalf("%s came back as %s and is refused: %v", d.Type, c.Verb(), err)
		}
		if len(again) != 1 || again[0].Type != d.Type || again[0].Stream != d.Stream || !bytes.Equal(again[0].Data, d.Data) {
			t.Fatalf("%s came back as %s, which leads to %v; want %s", d.Type, c.Verb(), again, d.Data)
		}
	}
}

func TestEveryIntentComesBack(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := pair(t)
		for range rapid.IntRange(1, 30).Draw(r, "steps") {
			drafts, err := Decide(w.s, anyCommand(r))
			if err != nil {
				continue
			}
			sameAgain(r, w.s, drafts)
			w.append(drafts...)
		}
	})
}

// The types that random commands don't reach, and every type at least once.
func TestIntentsComeBack(t *testing.T) {
	w := pair(t)
	seen := map[eventlog.Type]bool{}
	rg, err := eventlog.ParseRange("203.0.113.0/25")
	if err != nil {
		t.Fatal(err)
	}
	hold := int64(0)
	check := &eventlog.Check{Kind: "tcp", Target: "127.0.0.1:80"}
	for _, c := range []Command{
		DeclareSwitch{Switch: eventlog.Switch{Name: "vSwitch9", ID: "x", Compute: true, Source: "config", Ports: []eventlog.Port{{Node: "node-a", Interface: "eth9"}}}},
		SetPeer{Switch: "vSwitch9", Address: addr("198.51.100.9"), PeerASN: 64512, SelfASN: 4200000000, HoldTime: &hold},
		SetPool{Name: "p", Ranges: []eventlog.Range{rg}, Switch: "vSwitch9", Manual: true},
		SetService{Name: "s", Pool: "p", Placement: eventlog.ActiveActive, Check: check},
		SetService{Name: "u", Pool: "p", Prefer: "node-b", Addresses: nil},
		SetService{Name: "u", Pool: "p"},
		DrainNode{"node-a", true},
		DrainNode{"node-a", false},
		RemoveService{"s"},
		RemoveService{"u"},
		RemovePool{"p"},
		RemovePeer{Switch: "vSwitch9", Address: addr("198.51.100.9")},
		RemoveSwitch{"vSwitch9"},
		RemoveNode{Name: "node-b"},
		JoinNode{eventlog.Node{Name: "node-b", Address: addr("192.0.2.77")}},
	} {
		drafts, err := Decide(w.s, c)
		if err != nil || len(drafts) == 0 {
			t.Fatalf("%s: %d events, %v", c.Verb(), len(drafts), err)
		}
		sameAgain(t, w.s, drafts)
		for _, d := range drafts {
			seen[d.Type] = true
		}
		w.append(drafts...)
	}
	for _, typ := range eventlog.Types() {
		if typ.Class() != eventlog.Intent || seen[typ] {
			continue
		}
		if _, err := CommandOf(eventlog.Draft{Type: typ, Data: json.RawMessage(`{}`)}); err == nil || !strings.Contains(err.Error(), "belongs to the history") {
			t.Errorf("%s was not tried, and does not say that it can't come back: %v", typ, err)
		}
	}
}

func TestWhatCantComeBackSaysWhy(t *testing.T) {
	for typ, why := range map[eventlog.Type]string{
		eventlog.TypeEpochStarted: "belongs to the history",
		eventlog.TypeLogTrimmed:   "belongs to the history",
		eventlog.TypeSessionUp:    "is a fact",
		"weather.changed":         "does not know",
		eventlog.TypePeerSet:      "payload",
	} {
		if _, err := CommandOf(eventlog.Draft{Type: typ, Data: json.RawMessage(`[]`)}); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", typ, err, why)
		}
	}
}

func TestTrimRules(t *testing.T) {
	w := pair(t)
	w.do(StartEpoch{Epoch: 50, Mode: "PAIR", Writers: []string{"node-a", "node-b"}})
	sealed := func(a, b eventlog.Seq) map[string]eventlog.Seq {
		return map[string]eventlog.Seq{"node-a": a, "node-b": b}
	}
	up := eventlog.Head{Seq: 2, Hash: "x", Epoch: 1}
	w.refused("trim-beyond-end", TrimLog{UpTo: w.s.Head, Sealed: sealed(99, 99)})
	w.refused("trim-not-sealed", TrimLog{UpTo: up, Sealed: sealed(2, 1)})
	w.refused("trim-not-sealed", TrimLog{UpTo: up, Sealed: map[string]eventlog.Seq{"node-a": 2}})
	w.do(TrimLog{UpTo: up, Sealed: sealed(2, 3)})
	if w.s.Floor != up {
		t.Errorf("the floor is %v", w.s.Floor)
	}
	if d, err := Decide(w.s, TrimLog{UpTo: up}); err != nil || len(d) > 0 {
		t.Errorf("again: %v %v", d, err)
	}
	b, err := json.Marshal(w.s)
	if err != nil {
		t.Fatal(err)
	}
	var s State
	if err := json.Unmarshal(b, &s); err != nil || s.Floor != up {
		t.Errorf("from a checkpoint the floor is %v (%v)", s.Floor, err)
	}
}
