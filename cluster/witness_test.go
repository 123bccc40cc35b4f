package cluster

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"dyad/cluster/api"
	"dyad/cluster/quorum"
	"dyad/cluster/witness"
	"dyad/eventlog"
	"dyad/projections"
)

// atWitness is a world's witness, wherever it is said to be.
type atWitness struct {
	m     *witness.Memory
	other *witness.Memory // what lies at file:///mnt/dyad
	token string          // what it was given last
}

func (a *atWitness) at(w eventlog.Witness) *witness.Memory {
	if strings.HasPrefix(w.URL, "file:") {
		return a.other
	}
	return a.m
}

func (*atWitness) Parse(url string) (eventlog.Witness, error) {
	t, err := witness.Parse(url)
	bare, _, _ := strings.Cut(url, "#")
	return eventlog.Witness{URL: bare, Fingerprint: t.Fingerprint}, err
}

func (a *atWitness) Enrol(ctx context.Context, w eventlog.Witness, token string, now quorum.Claim) (quorum.Claim, error) {
	a.token = token
	return quorum.Enrol(ctx, a.at(w).Cluster(now.Cluster), now)
}

func (a *atWitness) Check(ctx context.Context, w eventlog.Witness, cluster string) (api.WitnessStatus, error) {
	r := a.at(w).Cluster(cluster).Check(ctx)
	s := api.WitnessStatus{Kind: r.Kind, Latency: r.Latency}
	if r.Err == nil {
		s.Claim = &r.Claim
	}
	return s, r.Err
}

func (*atWitness) Forget() {}

func (n *node) addWitness(url string) (api.Result, error) { return n.setWitness(url, false) }

func (n *node) setWitness(url string, replace bool) (api.Result, error) {
	return n.agent.AddWitness(context.Background(), api.Caller{Actor: eventlog.Actor{Name: "root", Auth: "unix"}},
		api.WitnessRequest{URL: url, Replace: replace, Token: "secret", Reason: "test", Wait: 5 * time.Second, Interface: "cli"})
}

func wantClass(t *testing.T, what string, err error, class, code string) {
	t.Helper()
	if e := api.AsError(err); e == nil || e.Class != class || e.Code != code {
		t.Errorf("%s: %v, want %s %s", what, err, class, code)
	}
}

func TestAWitnessIsRegisteredBeforeItIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.nodes["node-a"], w.nodes["node-b"]
		a.start()
		b.start()
		defer w.end()
		w.within(30*time.Second, "both are well", func() bool { return a.well() && b.well() })
		const url = "https://w.example:7990"

		_, err := a.do(projections.SetWitness{URL: url})
		wantClass(t, "named without being asked", err, api.ClassUsage, "witness-add")
		_, err = a.do(projections.Apply{Commands: []projections.Command{projections.SetWitness{URL: url}}})
		wantClass(t, "in an apply", err, api.ClassUsage, "witness-add")
		_, err = a.addWitness("http://w")
		wantClass(t, "a bad URL", err, api.ClassUsage, "witness-url")

		w.witness.m.SetDown(quorum.ErrUnavailable)
		_, err = a.addWitness(url)
		wantClass(t, "while it is down", err, api.ClassUnavailable, "witness-silent")
		if s := a.agent.State(); s.Witness.URL != "" {
			t.Fatalf("it is named: %+v", s.Witness)
		}
		w.witness.m.SetDown(nil)
		res, err := a.addWitness(url)
		if err != nil || len(res.Events) != 1 || len(res.Nodes) != 2 || strings.Contains(string(res.Events[0].Data), "secret") || w.witness.token != "secret" {
			t.Fatalf("%+v, %v, token %q", res, err, w.witness.token)
		}
		for _, ws := range b.agent.Witness(context.Background(), true) {
			if !ws.Matches || ws.Claim == nil || ws.Claim.Mode != quorum.Pair || ws.URL != url {
				t.Errorf("%+v", ws)
			}
		}
		if res, err := b.addWitness(url); err != nil || len(res.Events) != 0 {
			t.Errorf("again: %+v, %v", res, err)
		}
		_, err = b.addWitness("file:///mnt/dyad/")
		var refusal *projections.Refusal
		if !errors.As(err, &refusal) || refusal.Code != "witness-set" {
			t.Errorf("another beside it: %v", err)
		}
		later := quorum.Claim{Cluster: "c", Epoch: 9, Mode: quorum.Sole, Holder: "node-b"}
		own := claimOf(a.agent.State())
		if _, err := w.witness.m.Cluster("c").Swap(context.Background(), own, later); err != nil {
			t.Fatal(err)
		}
		if ws := a.agent.Witness(context.Background(), false)[0]; ws.Matches || !strings.Contains(ws.Why, "behind") {
			t.Errorf("%+v", ws)
		}
		for _, lost := range []bool{false, true} {
			_, err = a.do(projections.RemoveWitness{Lost: lost})
			wantClass(t, "another has gone on alone", err, api.ClassRefused, "witness-claim")
		}
		_, err = a.addWitness(url)
		wantClass(t, "another has gone on alone", err, api.ClassRefused, "witness-claim")
		w.witness.m.Wipe()
		if _, err := a.addWitness(url); err != nil {
			t.Error(err)
		}
	})
}

// A node that has not heard of a change must not learn of a witness later than
// the other one: who is not up to date stops it.
func TestNoWitnessWhileANodeIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.nodes["node-a"], w.nodes["node-b"]
		a.start()
		b.start()
		defer w.end()
		w.within(30*time.Second, "both are well", func() bool { return a.well() && b.well() })
		b.kill()
		defer b.bury()
		_, err := a.addWitness("https://w.example:7990")
		if e := api.AsError(err); e == nil || e.Class != api.ClassUnavailable {
			t.Errorf("%v", err)
		}
		if _, err := w.witness.m.Cluster("c").Get(context.Background()); !errors.Is(err, quorum.ErrUnknown) {
			t.Errorf("it was registered: %v", err)
		}
	})
}

// claimAt is what stands at a witness.
func claimAt(t *testing.T, m *witness.Memory) quorum.Claim {
	t.Helper()
	c, err := m.Cluster("c").Get(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A change of the witness starts an epoch, and at no moment do the old one and
// the new one both have a claim that a node of this epoch may swap.
func TestTheWitnessChangesWithTheEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.nodes["node-a"], w.nodes["node-b"]
		var behind atomic.Bool
		b.kept = func() eventlog.Witness {
			if behind.Load() {
				return eventlog.Witness{}
			}
			return b.agent.State().Witness
		}
		a.start()
		b.start()
		defer w.end()
		w.within(30*time.Second, "both are well", func() bool { return a.well() && b.well() })
		const first, second = "https://w.example:7990", "file:///mnt/dyad"
		epoch := func() eventlog.Epoch { return a.agent.State().Head.Epoch }
		began := epoch()
		if _, err := a.addWitness(first); err != nil || epoch() != began+1 {
			t.Fatalf("added at epoch %d: %v", epoch(), err)
		}
		if c := claimAt(t, w.witness.m); !c.Same(claimOf(a.agent.State())) {
			t.Errorf("%s stands", c)
		}

		// The old one is dead, and node-b has not written the new one down.
		w.witness.m.SetDown(quorum.ErrUnavailable)
		behind.Store(true)
		_, err := a.setWitness(second, true)
		wantClass(t, "one node is behind", err, api.ClassUnavailable, "witness-unsettled")
		if c := claimAt(t, w.witness.other); c.Epoch != began+2 || epoch() != began+1 || a.agent.State().Witness.URL != second {
			t.Errorf("%s stands, and the log is at epoch %d with %s", c, epoch(), a.agent.State().Witness.URL)
		}
		behind.Store(false)
		if _, err := b.setWitness(second, true); err != nil || epoch() != began+2 {
			t.Errorf("the same again: epoch %d, %v", epoch(), err)
		}

		w.witness.other.SetDown(quorum.ErrUnavailable)
		_, err = a.do(projections.RemoveWitness{})
		wantClass(t, "removed while it is down", err, api.ClassUnavailable, "witness-silent")
		w.witness.other.SetDown(nil)
		_, err = a.do(projections.Apply{Commands: []projections.Command{projections.RemoveWitness{}}})
		wantClass(t, "removed in an apply", err, api.ClassUsage, "witness-add")
		res := a.must(projections.RemoveWitness{})
		if c := claimAt(t, w.witness.other); len(res.Events) != 2 || epoch() != began+3 || c.Epoch != began+3 || c.Mode != quorum.Pair {
			t.Errorf("%d events, epoch %d, %s stands", len(res.Events), epoch(), c)
		}

		// Added again, it is ahead of the log again; lost, it is not asked.
		if _, err := a.addWitness(second); err != nil || epoch() != began+4 {
			t.Errorf("epoch %d, %v", epoch(), err)
		}
		w.witness.other.SetDown(quorum.ErrUnavailable)
		if a.must(projections.RemoveWitness{Lost: true}); epoch() != began+5 || a.agent.State().Witness.URL != "" {
			t.Errorf("epoch %d with %q", epoch(), a.agent.State().Witness.URL)
		}

		// Nothing of it while a node is away.
		b.kill()
		defer b.bury()
		_, err = a.addWitness(first)
		if e := api.AsError(err); e == nil || e.Class != api.ClassUnavailable {
			t.Errorf("%v", err)
		}
	})
}
