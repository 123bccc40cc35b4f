package cluster

import (
	"context"
	"errors"
	"iter"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dyad/cluster/api"
	"dyad/eventlog"
	"dyad/projections"
	"dyad/projections/audit"
)

// remoteBound bounds one question to another node, silentBound to one that is
// held for dead: it is asked all the same, as the verdict may be wrong.
const (
	remoteBound = 2 * time.Second
	silentBound = 300 * time.Millisecond
)

var _ api.Backend = (*Agent)(nil)

// State implements [api.Backend].
func (a *Agent) State() projections.State { return a.Snapshot().State }

// Status implements [api.Backend].
func (a *Agent) Status(context.Context) api.Status {
	s := a.Snapshot()
	st := api.Status{
		Now:  a.p.Now(),
		Node: a.p.Config.Node, Version: a.p.Version, Boot: a.p.Boot, PID: a.p.PID, Started: a.started,
		Cluster: s.State.Cluster, Mode: string(a.mode(s)), Head: s.State.Head, Pending: a.p.Journal.Len(),
		View: s.View, Sessions: a.p.Speaker.Sessions(), Timeline: s.Timeline,
		Counts: map[string]int{
			"peers": len(s.State.Peers), "pools": len(s.State.Pools), "services": len(s.State.Services),
			"switches": len(s.State.Switches), "nodes": len(s.State.Nodes),
		},
	}
	for _, n := range s.State.NodeNames() {
		st.Nodes = append(st.Nodes, s.State.Nodes[n])
	}
	for _, an := range a.standing(s.Announcements) {
		if an.Announced {
			st.Counts["announced"]++
		} else {
			st.Counts["withheld"]++
		}
	}
	up := true
	if a.with.Store != nil {
		st.StorePID = a.with.Store.PID()
		up = st.StorePID != 0
	}
	st.External = a.p.Config.Store.Endpoints
	st.AsOf = s.At
	st.Writable, st.Why = a.mayWrite(s)
	a.ret.status(&st)
	st.Conditions = diagnose(a.diagnosis(s, st, up))
	return st
}

func (a *Agent) diagnosis(s *Snapshot, st api.Status, up bool) diagnosis {
	d := diagnosis{
		now: a.p.Now(), self: a.p.Config.Node, snap: s, sessions: st.Sessions, journal: a.rec.whyFailing(),
		pending: st.Pending, storeUp: up, refused: a.refused.Load(), started: a.started,
		writeable: st.Writable, why: st.Why, beacon: a.beaconOf(s),
	}
	if a.with.Pulse != nil {
		p := a.with.Pulse.Status()
		d.pulse = &p
	}
	if a.p.Layer2 != nil {
		d.holdings, d.trouble = a.p.Layer2.Holdings(), a.p.Layer2.Trouble()
	}
	if a.with.Store != nil {
		d.restarts = a.with.Store.Restarts()
	}
	if a.p.Identity != nil {
		d.certificates = a.p.Identity.View().Certificates
	}
	a.ret.diagnosis(&d)
	if a.p.Addresses != nil {
		for _, f := range a.p.Addresses.Foreign() {
			d.foreign = append(d.foreign, f.String())
		}
	}
	return d
}

// others asks every other node at once.
func others[T any](ctx context.Context, a *Agent, ask func(context.Context, eventlog.Node) (T, error)) map[string]answer[T] {
	return othersWithin(ctx, a, remoteBound, ask)
}

// othersWithin does so with another bound for a node that is not held for dead.
func othersWithin[T any](ctx context.Context, a *Agent, within time.Duration, ask func(context.Context, eventlog.Node) (T, error)) map[string]answer[T] {
	snap := a.Snapshot()
	s := snap.State
	names := a.peerNames(s)
	out := make(map[string]answer[T], len(names))
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, name := range names {
		wg.Go(func() {
			bound := within
			if v := snap.View.Nodes[name]; v.Silent() {
				bound = silentBound
			}
			ctx, cancel := context.WithTimeout(ctx, bound)
			defer cancel()
			v, err := ask(ctx, s.Nodes[name])
			mu.Lock()
			defer mu.Unlock()
			out[name] = answer[T]{v, err}
		})
	}
	wg.Wait()
	return out
}

// brief is an error in one line: it goes into a table, where the fix of a
// question between nodes would not help anybody.
func brief(err error) string {
	var e *api.Error
	if errors.As(err, &e) {
		return e.What + ": " + e.Why
	}
	return err.Error()
}

type answer[T any] struct {
	v   T
	err error
}

// ClusterStatus implements [api.Backend].
func (a *Agent) ClusterStatus(ctx context.Context) []api.NodeStatus {
	own := a.Status(ctx)
	out := []api.NodeStatus{{Node: own.Node, Status: &own}}
	if v := a.State().Voter; v.Name != "" {
		out = append(out, a.voterStatus(ctx, v))
	}
	for name, ans := range others(ctx, a, a.p.Peer.Status) {
		ns := api.NodeStatus{Node: name}
		if ans.err != nil {
			ns.Error = brief(ans.err)
		} else {
			ns.Status = &ans.v
		}
		out = append(out, ns)
	}
	slices.SortFunc(out, func(x, y api.NodeStatus) int { return compareNames(x.Node, y.Node) })
	return out
}

func compareNames(x, y string) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// Announcements implements [api.Backend].
func (a *Agent) Announcements(ctx context.Context, cluster bool) []api.NodeAnnouncements {
	out := []api.NodeAnnouncements{{Node: a.p.Config.Node, Items: a.standing(a.Snapshot().Announcements)}}
	if !cluster {
		return out
	}
	for name, ans := range others(ctx, a, a.p.Peer.Announcements) {
		na := api.NodeAnnouncements{Node: name, Items: ans.v}
		if ans.err != nil {
			na.Error = brief(ans.err)
		}
		out = append(out, na)
	}
	slices.SortFunc(out, func(x, y api.NodeAnnouncements) int { return compareNames(x.Node, y.Node) })
	return out
}

// Events implements [api.Backend]. It reads backwards in pages until the query
// has its fill or the log has no more.
func (a *Agent) Events(ctx context.Context, q audit.Query) ([]eventlog.Envelope, error) {
	head := a.Snapshot().State.Head.Seq
	want := q.Limit
	if want <= 0 {
		want = audit.DefaultLimit
	}
	want = min(want, audit.MaxLimit)
	var out []eventlog.Envelope
	for end := head; end > q.After && len(out) < want; {
		from := eventlog.Seq(0)
		if end > eventlog.MaxPage {
			from = end - eventlog.MaxPage
		}
		from = max(from, q.After)
		page, err := a.p.Log.Read(ctx, from, int(end-from))
		if err != nil {
			return nil, err
		}
		rest := q
		rest.Limit = want - len(out)
		out = append(rest.Select(page), out...)
		end = from
	}
	return out, nil
}

// FollowEvents implements [api.Backend].
func (a *Agent) FollowEvents(ctx context.Context, q audit.Query) iter.Seq2[eventlog.Envelope, error] {
	return func(yield func(eventlog.Envelope, error) bool) {
		at := q.After
		for {
			next := a.changed.next()
			head := a.Snapshot().State.Head.Seq
			for at < head {
				page, err := a.p.Log.Read(ctx, at, eventlog.MaxPage)
				if err != nil {
					yield(eventlog.Envelope{}, err)
					return
				}
				if len(page) == 0 {
					break
				}
				for _, e := range page {
					at = e.Seq
					if q.Match(e) && !yield(e, nil) {
						return
					}
				}
			}
			select {
			case <-next:
			case <-ctx.Done():
				return
			}
		}
	}
}

// Explain implements [api.Backend].
func (a *Agent) Explain(ctx context.Context, addr netip.Addr) (api.Explanation, error) {
	s := a.Snapshot()
	x := api.Explanation{Address: addr}
	var own projections.Announcements
	x.Lines, x.Service, x.Pool, own = projections.Explain(s.State, s.View, addr)
	x.Lines = x.Lines[:len(x.Lines)-len(own)]
	for _, an := range a.standing(own) {
		x.Announcements = append(x.Announcements, an)
		x.Lines = append(x.Lines, projections.Describe(an))
	}
	for _, na := range a.Announcements(ctx, true) {
		if na.Node == a.p.Config.Node || x.Service == "" {
			continue
		}
		if na.Error != "" {
			x.Lines = append(x.Lines, na.Node+" does not answer: "+na.Error)
			continue
		}
		for _, an := range na.Items {
			if an.Prefix.Addr() == addr {
				x.Announcements = append(x.Announcements, an)
				x.Lines = append(x.Lines, projections.Describe(an))
			}
		}
	}
	if x.Service == "" {
		return x, nil
	}
	events, err := a.Events(ctx, audit.Query{Streams: []string{"service/" + x.Service}, Limit: 10})
	for _, e := range events {
		x.Events = append(x.Events, eventlog.Public(e))
	}
	return x, err
}

// RecordFact implements [api.Backend].
func (a *Agent) RecordFact(_ context.Context, who api.Caller, f api.FactRequest) error {
	if f.Type != eventlog.TypeDrillStarted && f.Type != eventlog.TypeDrillEnded {
		return &api.Error{
			Class: "usage", Code: "fact-type", What: string(f.Type), Why: "only drills are recorded from outside",
			Fix: "use drill.started or drill.ended",
		}
	}
	d, err := eventlog.NewDraft(f.Type, "drill/"+f.Data.Drill, f.Data, nil)
	if err != nil {
		return err
	}
	d.ID, d.Actor, d.Source = a.p.NewID(), who.Actor, a.source("api", "")
	d.Reason, d.Correlation, d.ObservedAt = f.Reason, f.Correlation, a.p.Now()
	a.rec.draft(d)
	return nil
}
