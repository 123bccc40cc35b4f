package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dyad/cluster/api"
	"dyad/eventlog"
	"dyad/failover"
	"dyad/projections"
)

// Times of a command.
const (
	// appendBound is how long a command waits for the log.
	appendBound = 10 * time.Second
	// convergePoll is how often the other node is asked whether it has applied.
	convergePoll = 20 * time.Millisecond
)

// Execute implements [api.Backend].
func (a *Agent) Execute(ctx context.Context, who api.Caller, r api.Request) (api.Result, error) {
	cmd, err := api.DecodeCommand(r.Verb, r.Args)
	if err != nil {
		return api.Result{}, err
	}
	if namesWitness(cmd) {
		return api.Result{}, &api.Error{
			Class: api.ClassUsage, Code: "witness-add", What: cmd.Verb(),
			Why: "a witness is told before the log names another one, or none", Fix: "dyad witness add URL, or dyad witness remove",
		}
	}
	if gone, ok := cmd.(projections.RemoveWitness); ok {
		return unmoved(func() (api.Result, error) { return a.removeWitness(ctx, who, gone, r) })
	}
	return a.execute(ctx, who, projections.At(cmd, a.p.Now()), r)
}

// namesWitness tells whether a command would change the witness without asking
// it. The removal alone is one that asks.
func namesWitness(c projections.Command) bool {
	if all, ok := c.(projections.Apply); ok {
		return slices.ContainsFunc(all.Commands, func(c projections.Command) bool {
			_, gone := c.(projections.RemoveWitness)
			return gone || namesWitness(c)
		})
	}
	_, ok := c.(projections.SetWitness)
	return ok
}

// execute carries out a command that was read and may be done.
func (a *Agent) execute(ctx context.Context, who api.Caller, cmd projections.Command, r api.Request) (api.Result, error) {
	if r.DryRun {
		return a.dryRun(cmd)
	}
	if ok, why := a.mayWrite(a.Snapshot()); !ok {
		return api.Result{}, notWritable(cmd.Verb(), why)
	}
	meta := projections.Meta{
		Actor: who.Actor, Source: a.source(r.Interface, r.Client), Reason: r.Reason,
		Correlation: a.p.NewID(), Causation: r.Causation, Key: r.Key,
	}
	if who.Address.IsValid() {
		meta.Source.Address = who.Address
	}
	bounded, cancel := context.WithTimeout(ctx, appendBound)
	defer cancel()
	o := a.appender.submit(bounded, cmd, meta)
	if o.err != nil {
		return api.Result{}, a.failed(cmd, meta, o.err)
	}
	res := api.Result{Seq: o.seq, Events: []eventlog.Public{}}
	for _, e := range o.events {
		res.Events = append(res.Events, eventlog.Public(e))
	}
	if r.Wait > 0 {
		res.Nodes = a.converge(ctx, res, r.Wait)
	}
	return res, nil
}

func (a *Agent) storeUp() bool { return a.with.Store == nil || a.with.Store.PID() != 0 }

// mayWrite tells whether changes are taken now; if not, why and what to do.
func (a *Agent) mayWrite(s *Snapshot) (bool, string) {
	if ok, why := a.writable(s); !ok {
		return false, why
	}
	full, why := a.ret.full()
	return !full, why
}

func notWritable(what, why string) error {
	return &api.Error{
		Class: "unavailable", Code: "log-not-writable", What: what, Why: why,
		Fix: "dyad status, then repeat the command; announcements go on meanwhile",
	}
}

// failed records a refusal and words an error for the caller.
func (a *Agent) failed(cmd projections.Command, m projections.Meta, err error) error {
	var refusal *projections.Refusal
	if errors.As(err, &refusal) {
		d := a.rec.draftOf(failover.Fact{
			Type: eventlog.TypeCommandRejected, Stream: "command/" + strings.ReplaceAll(cmd.Verb(), " ", "-"), At: a.p.Now(),
			Reason: m.Reason,
			Data:   eventlog.RejectedPayload{Command: cmd.Verb(), Code: refusal.Code, What: refusal.What, Why: refusal.Why},
		})
		d.Actor, d.Source, d.Correlation, d.Outcome = m.Actor, m.Source, m.Correlation, "refused"
		a.rec.draft(d)
		return refusal
	}
	if errors.Is(err, eventlog.ErrUnavailable) || errors.Is(err, eventlog.ErrConflict) || errors.Is(err, eventlog.ErrEpoch) {
		return notWritable(cmd.Verb(), err.Error())
	}
	return err
}

// dryRun decides without appending, and shows what every node would announce.
func (a *Agent) dryRun(cmd projections.Command) (api.Result, error) {
	s := a.Snapshot()
	planner := projections.NewPlanner(s.State)
	drafts, err := planner.Decide(cmd)
	if err != nil {
		return api.Result{}, err
	}
	res := api.Result{DryRun: true, Seq: s.State.Head.Seq, Events: []eventlog.Public{}}
	for _, d := range drafts {
		res.Events = append(res.Events, eventlog.Public{Draft: d, Epoch: s.State.Head.Epoch})
	}
	after := planner.State()
	names := after.NodeNames()
	if len(names) == 0 {
		names = []string{a.p.Config.Node}
	}
	for _, n := range names {
		v := viewOf(s.View, n)
		for _, c := range projections.Diff(projections.Desired(s.State, v), projections.Desired(after, v)) {
			line := api.DiffLine{Op: c.Op, Item: c.Now}
			if c.Op == "~" {
				line.Was = &c.Was
			}
			res.Diff = append(res.Diff, line)
		}
	}
	return res, nil
}

// viewOf is this node's own view, or for another node the view of a node that
// is well: what it would announce in quiet times.
func viewOf(v projections.View, node string) projections.View {
	if node == v.Self {
		return v
	}
	return projections.View{Self: node, Stance: projections.StanceNormal, Reason: projections.Reason{Code: "normal", Text: "assumed well"}}
}

// converge waits until every node that lives has applied the events and handed
// its announcements to its speaker.
func (a *Agent) converge(ctx context.Context, res api.Result, wait time.Duration) []api.NodeResult {
	ctx, cancel := context.WithTimeout(ctx, min(wait, time.Hour))
	defer cancel()
	touched := touchedServices(res.Events)
	own := api.NodeResult{Node: a.p.Config.Node}
	own.Converged = a.awaitLevel(ctx, func(s *Snapshot) bool { return s.State.Head.Seq >= res.Seq && s.Done >= s.Generation })
	s := a.Snapshot()
	own.Applied, own.Announces = s.State.Head.Seq, announcesOf(s.Announcements, touched)
	if !own.Converged {
		own.Error = fmt.Sprintf("not yet: applied %d of %d, speaker at generation %d of %d: %s",
			own.Applied, res.Seq, s.Done, s.Generation, s.SpeakerError)
	}
	out := []api.NodeResult{own}
	for name, ans := range others(context.WithoutCancel(ctx), a, func(_ context.Context, n eventlog.Node) (api.NodeResult, error) {
		return a.convergeRemote(ctx, n, res.Seq, touched), nil
	}) {
		ans.v.Node = name
		out = append(out, ans.v)
	}
	slices.SortFunc(out, func(x, y api.NodeResult) int { return compareNames(x.Node, y.Node) })
	return out
}

func (a *Agent) convergeRemote(ctx context.Context, n eventlog.Node, seq eventlog.Seq, touched map[string]bool) api.NodeResult {
	r := api.NodeResult{Node: n.Name}
	for {
		if v := a.Snapshot().View.Nodes[n.Name]; v.Silent() {
			r.Error = fmt.Sprintf("the node is %s", v)
			return r
		}
		st, err := a.p.Peer.Status(ctx, n)
		if err != nil {
			r.Error = brief(err)
		} else if r.Applied = st.Head.Seq; r.Applied >= seq {
			r.Converged, r.Error = true, ""
			break
		} else {
			r.Error = fmt.Sprintf("not yet: applied %d of %d", r.Applied, seq)
		}
		if !pause(ctx, convergePoll) {
			return r
		}
	}
	if len(touched) == 0 {
		return r
	}
	anns, err := a.p.Peer.Announcements(ctx, n)
	if err != nil {
		r.Error = brief(err)
	}
	r.Announces = announcesOf(anns, touched)
	return r
}

func (a *Agent) awaitLevel(ctx context.Context, level func(*Snapshot) bool) bool {
	return a.until(ctx, maxWait, level)
}

// touchedServices lists the services that events are about. An event on a peer,
// a pool or a switch touches too many to list.
func touchedServices(events []eventlog.Public) map[string]bool {
	out := map[string]bool{}
	for _, e := range events {
		if name, ok := strings.CutPrefix(e.Stream, "service/"); ok {
			out[name] = true
		}
	}
	return out
}

func announcesOf(list []projections.Announcement, touched map[string]bool) []projections.Announcement {
	var out []projections.Announcement
	for _, an := range list {
		if touched[an.Service] {
			out = append(out, an)
		}
	}
	return out
}
