package projections

import (
	"testing"

	"dyad/eventlog"
)

// layer2World is a pair on a switch without peers, with a service that prefers
// node-a and one that prefers none.
func layer2World(t *testing.T) State {
	t.Helper()
	w := peered(t)
	w.do(RemovePeer{"vSwitch1", addr("10.126.77.125")}, SetService{Name: "a", Prefer: "node-a"},
		SetService{Name: "both", Placement: eventlog.ActiveActive})
	return w.s
}

func seen(self string, stance Stance, verdict Verdict, told Stance) View {
	other := map[string]string{"node-a": "node-b", "node-b": "node-a"}[self]
	v := View{Self: self, Stance: stance, Reason: Reason{"x", "a reason"}, Nodes: map[string]Verdict{other: verdict}}
	if told != "" {
		v.Stances = map[string]Stance{other: told}
	}
	return v
}

func TestOneOwnerForAnAddress(t *testing.T) {
	s := layer2World(t)
	for _, tc := range []struct {
		name      string
		v         View
		mode      ClaimMode
		firm      bool
		quick     bool
		announced bool
	}{
		{"well, owner", seen("node-a", StanceNormal, Alive, StanceNormal), ClaimOwn, true, false, true},
		{"well, other", seen("node-b", StanceNormal, Alive, StanceNormal), ClaimSpare, false, false, false},
		{"a suspicion moves nothing", seen("node-b", StanceTakeover, Suspect, StanceNormal), ClaimSpare, false, false, false},
		{"nor does it for the owner", seen("node-a", StanceTakeover, Suspect, StanceNormal), ClaimOwn, true, false, true},
		{"in doubt it is watched", seen("node-b", StanceTakeover, Gray, StanceNormal), ClaimSpare, false, true, false},
		{"dead", seen("node-b", StanceTakeover, DeadData, StanceNormal), ClaimTake, false, false, true},
		{"dead, for the owner", seen("node-a", StanceTakeover, DeadMember, StanceNormal), ClaimTake, true, false, true},
		{"its process is gone", seen("node-b", StanceTakeover, ProcessDown, StanceNormal), ClaimTake, false, false, true},
		{"stopped as planned", seen("node-b", StanceTakeover, Left, StanceStepDown), ClaimTake, true, false, true},
		{"steps down", seen("node-b", StanceTakeover, Alive, StanceStepDown), ClaimTake, true, false, true},
		{"this one steps down", seen("node-a", StanceStepDown, Alive, StanceNormal), ClaimSpare, false, false, false},
		{"back, and not proved", seen("node-b", StanceTakeover, Alive, StanceNormal), ClaimSpare, false, false, false},
		{"the owner waits for its share", seen("node-a", StanceNormal, Alive, StanceTakeover), ClaimSpare, false, false, false},
		{"never heard", seen("node-a", StanceNormal, Unknown, ""), ClaimSpare, false, false, false},
		{"heard, and has said nothing", seen("node-a", StanceNormal, Alive, ""), ClaimSpare, false, false, false},
	} {
		a := one(t, s, tc.v, "a")
		if a.Claim.Mode != tc.mode || a.Claim.Firm != tc.firm || a.Claim.Quick != tc.quick || a.Announced != tc.announced ||
			a.Protocol != ARP || a.Interface != "eth1" || a.Reason.Text == "" || a.Claim.Preferred != (tc.v.Self == "node-a") {
			t.Errorf("%s: %+v", tc.name, a)
		}
	}
}

// Whatever two nodes hold of each other, as long as they hear each other they are
// not both firm; and whoever prefers none is owned by exactly one.
func TestNeverTwoFirmClaims(t *testing.T) {
	s := layer2World(t)
	stances := []Stance{StanceNormal, StanceTakeover, StanceStepDown}
	for _, sa := range stances {
		for _, sb := range stances {
			for _, va := range []Verdict{Alive, Suspect, Gray} {
				for _, vb := range []Verdict{Alive, Suspect, Gray} {
					for _, service := range []string{"a", "both"} {
						x := one(t, s, seen("node-a", sa, va, sb), service)
						y := one(t, s, seen("node-b", sb, vb, sa), service)
						if x.Claim.Firm && y.Claim.Firm {
							t.Errorf("%s: node-a at %s holds node-b for %s, node-b at %s holds node-a for %s: both are firm", service, sa, va, sb, vb)
						}
						if sa == StanceNormal && sb == StanceNormal && x.Announced == y.Announced {
							t.Errorf("%s: owned by both or none", service)
						}
					}
				}
			}
		}
	}
}

func TestSegments(t *testing.T) {
	s := layer2World(t)
	got := Segments(s, View{Self: "node-a"})
	if len(got) != 1 || got[0].Interface != "eth1" || len(got[0].Own) == 0 || len(got[0].Others) == 0 {
		t.Errorf("%+v", got)
	}
	if got := Segments(peered(t).s, View{Self: "node-a"}); len(got) != 0 {
		t.Errorf("with a peer: %+v", got)
	}
}
