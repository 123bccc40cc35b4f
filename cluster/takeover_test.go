package cluster

import (
	"context"
	"errors"
	"strings"
	"testing"

	"dyad/cluster/api"
	"dyad/cluster/config"
	"dyad/cluster/quorum"
	"dyad/cluster/steward"
	"dyad/eventlog"
	"dyad/projections"
)

// said is a steward that says one thing and takes no word.
type said struct{ status steward.Status }

func (s said) Status() steward.Status                      { return s.status }
func (s said) Takeover(context.Context, quorum.Word) error { return errors.New("not asked for") }
func (s said) Leave(context.Context) error                 { return nil }

// A node that was down can't know whether the other one went on without it: the
// loss must be accepted in words, unless a witness knows.
func TestTakeoverWithoutProof(t *testing.T) {
	pair := quorum.Record{Mode: quorum.Pair, Epoch: 3}
	ask := api.TakeoverRequest{Peer: "node-b", Reason: "test", DryRun: true}
	with := func(change func(*api.TakeoverRequest)) api.TakeoverRequest { r := ask; change(&r); return r }
	accept := with(func(r *api.TakeoverRequest) { r.AcceptLoss = true })
	for name, c := range map[string]struct {
		record  quorum.Record
		mode    quorum.Mode
		witness string
		ask     api.TakeoverRequest
		code    string
		note    string
	}{
		"proven":                      {pair, quorum.Suspended, "", ask, "", "nothing acknowledged is lost"},
		"unproven":                    {pair, quorum.Stale, "", ask, "unproven", ""},
		"unproven, accepted":          {pair, quorum.Stale, "", accept, "", "if node-b went on alone"},
		"unproven, the witness knows": {pair, quorum.Stale, "file:///w", ask, "", "if node-b went on alone"},
		"unproven, witness passed by": {pair, quorum.Stale, "file:///w", with(func(r *api.TakeoverRequest) { r.WithoutWitness = true }), "unproven", ""},
		"passed over":                 {quorum.Record{Mode: quorum.Stale, Epoch: 4}, quorum.Stale, "", ask, "would-lose", ""},
		"passed over, accepted":       {quorum.Record{Mode: quorum.Stale, Epoch: 4}, quorum.Stale, "", accept, "", "is lost to the cluster"},
		"and a witness says no":       {quorum.Record{Mode: quorum.Stale, Epoch: 4}, quorum.Stale, "file:///w", accept, "would-lose", ""},
		"and it is passed by":         {quorum.Record{Mode: quorum.Stale, Epoch: 4}, quorum.Stale, "file:///w", with(func(r *api.TakeoverRequest) { r.AcceptLoss, r.WithoutWitness = true, true }), "", "must stay off"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &Agent{p: Parts{Config: config.Config{Node: "node-a"}}}
			a.beacons = newBeacons(a)
			a.with.Quorum = said{steward.Status{Record: c.record, Mode: c.mode}}
			a.snap.Store(&Snapshot{State: projections.State{
				Nodes:   map[string]eventlog.Node{"node-a": {Name: "node-a"}, "node-b": {Name: "node-b"}},
				Witness: eventlog.Witness{URL: c.witness},
			}})
			res, err := a.Takeover(t.Context(), api.Caller{}, c.ask)
			var e *api.Error
			switch errors.As(err, &e); {
			case c.code == "" && err != nil, c.code != "" && (e == nil || e.Code != c.code || !strings.Contains(e.Fix, "--accept-loss")):
				t.Errorf("error %v, want code %q", err, c.code)
			case c.code == "" && !strings.Contains(strings.Join(res.Notes, "\n"), c.note):
				t.Errorf("notes %q, want %q", res.Notes, c.note)
			}
		})
	}
}
