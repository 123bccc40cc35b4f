package projections

import (
	"testing"

	"dyad/eventlog"
)

// A move changes who is preferred, pins it, and nothing else.
func TestServicesMove(t *testing.T) {
	w := peered(t)
	w.do(SetService{Name: "one", Prefer: "node-a"}, SetService{Name: "two", Prefer: "node-b"},
		SetService{Name: "both", Placement: eventlog.ActiveActive})
	where := func(want map[string]string) {
		t.Helper()
		for name, node := range want {
			if s := w.s.Services[name]; s.Preferred != node || s.Pinned != (node != "") {
				t.Errorf("%s: preferred %q, pinned %v, want %q", name, s.Preferred, s.Pinned, node)
			}
		}
	}
	was := w.s.Services["one"].Addresses[0]
	w.do(MoveServices{Services: []string{"one", "two"}})
	where(map[string]string{"one": "node-b", "two": "node-a", "both": ""})
	if now := w.s.Services["one"].Addresses[0]; now != was {
		t.Errorf("its address went from %s to %s", was, now)
	}
	w.do(MoveServices{All: true, To: "node-a"})
	where(map[string]string{"one": "node-a", "two": "node-a", "both": ""})

	w.refused("service-unknown", MoveServices{Services: []string{"one", "nope"}})
	w.refused("placement", MoveServices{Services: []string{"both"}})
	w.refused("node-unknown", MoveServices{Services: []string{"one"}, To: "node-z"})
	w.refused("node-missing", MoveServices{All: true})
	w.refused("services", MoveServices{})
	w.refused("services", MoveServices{All: true, Services: []string{"one"}, To: "node-b"})
	w.do(DrainNode{Node: "node-b", On: true})
	w.refused("node-drained", MoveServices{Services: []string{"one"}})
	where(map[string]string{"one": "node-a", "two": "node-a"})
}
