package cluster

import (
	"strings"
	"testing"

	"dyad/eventlog"
	"dyad/failover"
	"dyad/projections"
)

func TestAForkIsSaid(t *testing.T) {
	at := func(mode string, epoch eventlog.Epoch, v projections.Verdict) []string {
		return logForked(diagnosis{self: "node-a", snap: &Snapshot{
			State: projections.State{
				Mode: "SOLE", Writers: []string{"node-a"}, Head: eventlog.Head{Epoch: 3},
				Nodes: map[string]eventlog.Node{"node-a": {Name: "node-a"}, "node-b": {Name: "node-b"}},
			},
			View:    projections.View{Self: "node-a", Nodes: map[string]projections.Verdict{"node-b": v}},
			Reports: map[string]failover.Report{"node-b": {Mode: mode, Epoch: epoch}},
		}})
	}
	if got := at("SOLE", 3, projections.Alive); len(got) != 1 || !strings.Contains(got[0], "dyad takeover") {
		t.Errorf("a fork says %q", got)
	}
	for name, got := range map[string][]string{
		"a node that comes back": at("STALE", 3, projections.Alive), "an older one": at("SOLE", 2, projections.Alive),
		"a dead one": at("SOLE", 3, projections.DeadMember),
	} {
		if len(got) > 0 {
			t.Errorf("%s says %q", name, got)
		}
	}
}
