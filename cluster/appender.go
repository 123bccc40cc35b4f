package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"dyad/cluster/api"
	"dyad/eventlog"
	"dyad/projections"
)

// Bounds of the appender.
const (
	// maxGroup intents share one append.
	maxGroup = 256
	// minGroup share one in a store that takes small transactions only.
	minGroup = 16
	// maxConflicts is how often a group is decided anew because another node's
	// events came first.
	maxConflicts = 20
	conflictWait = 5 * time.Millisecond
	// awaitBound is how long a group waits for writers of the last one.
	awaitBound = 12 * time.Millisecond
	// maxUnfolded groups stand in the log and wait for this node's fold.
	maxUnfolded = 2
)

// intent is one command on its way into the log.
type intent struct {
	ctx    context.Context
	cmd    projections.Command
	meta   projections.Meta
	answer chan outcome // room for one
}

// outcome is what became of an intent.
type outcome struct {
	events []eventlog.Envelope
	seq    eventlog.Seq
	err    error
}

// appender decides the intents of all clients of this node in one order and
// appends them in groups: many clients racing for the log's head would
// otherwise spend their time losing to each other.
//
// A group is answered when this node's fold has it, so that whoever asks next
// sees it. The next group does not wait for that: it is decided on ahead.
type appender struct {
	a        *Agent
	queue    chan *intent
	most     int // intents in a group; less in a store that takes smaller transactions
	writers  int // at the last append
	unfolded chan settled
	// ahead is the state after the last append, which the fold may not have
	// reached yet.
	ahead projections.State
}

// settled is a group that stands in the log: up to seq, with envs.
type settled struct {
	plan *plan
	envs []eventlog.Envelope
	seq  eventlog.Seq
}

func newAppender(a *Agent) *appender {
	return &appender{a: a, queue: make(chan *intent, maxCommands), most: maxGroup, unfolded: make(chan settled, maxUnfolded)}
}

// submit waits for the outcome of a command.
func (p *appender) submit(ctx context.Context, cmd projections.Command, meta projections.Meta) outcome {
	in := &intent{ctx: ctx, cmd: cmd, meta: meta, answer: make(chan outcome, 1)}
	select {
	case p.queue <- in:
	default:
		return outcome{err: &api.Error{
			Class: "unavailable", Code: "busy", What: cmd.Verb(),
			Why: fmt.Sprintf("%d commands wait already", maxCommands), Fix: "repeat it in a moment",
		}}
	}
	select {
	case o := <-in.answer:
		return o
	case <-ctx.Done():
		return outcome{err: fmt.Errorf("%w: %w", eventlog.ErrUnavailable, ctx.Err())}
	}
}

func (p *appender) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(p.unfolded)
	wg.Go(func() {
		for s := range p.unfolded {
			p.a.awaitFolded(ctx, s.seq)
			s.plan.answer(s.envs)
		}
	})
	for {
		select {
		case in := <-p.queue:
			group := p.await(ctx, p.gather(in))
			p.group(ctx, group)
			p.writers = len(group) + len(p.queue)
		case <-ctx.Done():
			for _, in := range p.gather() {
				in.answer <- outcome{err: fmt.Errorf("%w: the agent stops", eventlog.ErrUnavailable)}
			}
			return
		}
	}
}

func (p *appender) gather(first ...*intent) []*intent {
	for len(first) < p.most {
		select {
		case in := <-p.queue:
			first = append(first, in)
		default:
			return first
		}
	}
	return first
}

// await waits a moment for as many writers as there were at the last append: those
// in it, who were answered together and come back together, and those who waited
// for it. One append for all of them costs little more than one for half.
func (p *appender) await(ctx context.Context, group []*intent) []*intent {
	t := time.NewTimer(awaitBound)
	defer t.Stop()
	for len(group) < min(p.writers, p.most) {
		select {
		case in := <-p.queue:
			group = append(group, in)
			continue
		case <-t.C:
		case <-ctx.Done():
		}
		break
	}
	return group
}

// group appends a group, deciding anew whenever the log moved on. One that is
// too large for the store goes in halves.
func (p *appender) group(ctx context.Context, group []*intent) {
	for attempt := 0; ; attempt++ {
		plan := p.decide(group)
		if len(plan.drafts) == 0 {
			p.unfolded <- settled{plan, nil, plan.on.Head.Seq} // everything already is as asked
			return
		}
		envs, err := p.append(ctx, plan)
		if err != nil {
			p.ahead = projections.State{}
		}
		var dup *eventlog.DuplicateError
		switch {
		case err == nil:
			p.ahead = projections.Fold(plan.on, envs...)
			p.unfolded <- settled{plan, envs, p.ahead.Head.Seq}
			return
		case errors.As(err, &dup):
			p.a.keys.add(eventlog.Envelope{Seq: dup.Seq, Draft: eventlog.Draft{Key: dup.Key}})
		case (errors.Is(err, eventlog.ErrConflict) || errors.Is(err, eventlog.ErrEpoch)) && attempt < maxConflicts && ctx.Err() == nil:
			p.catchUp(ctx, attempt)
		case errors.Is(err, eventlog.ErrTooLarge) && len(plan.intents) > 1:
			half := len(plan.intents) / 2
			p.most = max(minGroup, min(p.most, half))
			p.group(ctx, plan.intents[:half])
			p.group(ctx, plan.intents[half:])
			return
		default:
			plan.fail(err)
			return
		}
		group = plan.intents
	}
}

// catchUp waits until this node's fold has reached the head it lost to.
func (p *appender) catchUp(ctx context.Context, attempt int) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if h, err := p.a.p.Log.Head(ctx); err == nil {
		p.a.awaitFolded(ctx, h.Seq)
	}
	if attempt > 2 {
		pause(ctx, rand.N(conflictWait*time.Duration(attempt)))
	}
}

// plan is a decided group.
type plan struct {
	on      projections.State // what it was decided on
	drafts  []eventlog.Draft
	intents []*intent // not yet answered
	spans   [][2]int  // of drafts, for each intent
}

// decide decides every intent against the newest state and the ones before it.
// Those refused, or seen before, are answered here.
func (p *appender) decide(group []*intent) *plan {
	pl := &plan{on: p.newest()}
	planner := projections.NewPlanner(pl.on)
	for _, in := range group {
		if err := in.ctx.Err(); err != nil {
			in.answer <- outcome{err: fmt.Errorf("%w: %w", eventlog.ErrUnavailable, err)}
			continue
		}
		if seq, seen := p.a.keys.find(in.meta.Key); seen {
			in.answer <- p.again(in, seq)
			continue
		}
		drafts, err := planner.Decide(in.cmd)
		if err != nil {
			in.answer <- outcome{err: err}
			continue
		}
		if len(pl.drafts)+len(drafts) > eventlog.MaxBatch {
			in.answer <- outcome{err: fmt.Errorf("%w: too many changes at once, repeat it", eventlog.ErrUnavailable)}
			continue
		}
		from := len(pl.drafts)
		for _, d := range drafts {
			pl.drafts = append(pl.drafts, p.a.stamp(d, in.meta))
		}
		pl.intents, pl.spans = append(pl.intents, in), append(pl.spans, [2]int{from, len(pl.drafts)})
	}
	return pl
}

// newest is the state to decide on: what this node has folded, or what its last
// append led to if that is further.
//
// Invariant: an append compares the hash of the event it was decided behind, so
// a state that leads nowhere, because the log went another way, can only conflict.
func (p *appender) newest() projections.State {
	s := p.a.Snapshot().State
	if p.ahead.Head.Seq > s.Head.Seq {
		return p.ahead
	}
	p.ahead = projections.State{}
	return s
}

// stamp completes a draft with who, why and from where.
func (a *Agent) stamp(d eventlog.Draft, m projections.Meta) eventlog.Draft {
	d.ID, d.Actor, d.Source, d.Reason = a.p.NewID(), m.Actor, m.Source, m.Reason
	d.Correlation, d.Causation, d.Key = m.Correlation, m.Causation, m.Key
	return d
}

func (p *appender) append(ctx context.Context, pl *plan) ([]eventlog.Envelope, error) {
	h := pl.on.Head
	return p.a.p.Log.Append(ctx, eventlog.Batch{Drafts: pl.drafts, ExpectedHead: &h.Seq, ExpectedHash: h.Hash, Epoch: h.Epoch})
}

// again answers a command whose key stands in the log: with the events it led
// to the first time.
func (p *appender) again(in *intent, seq eventlog.Seq) outcome {
	after := eventlog.Seq(0)
	if seq > eventlog.MaxBatch {
		after = seq - eventlog.MaxBatch
	}
	events, err := p.a.p.Log.Read(in.ctx, after, eventlog.MaxPage)
	o := outcome{seq: seq, err: err}
	for _, e := range events {
		if e.Key == in.meta.Key {
			o.events = append(o.events, e)
		}
	}
	return o
}

func (pl *plan) answer(envs []eventlog.Envelope) {
	for i, in := range pl.intents {
		own := envs[pl.spans[i][0]:pl.spans[i][1]]
		seq := pl.on.Head.Seq
		if len(own) > 0 {
			seq = own[len(own)-1].Seq
		}
		in.answer <- outcome{events: own, seq: seq}
	}
}

func (pl *plan) fail(err error) {
	for _, in := range pl.intents {
		in.answer <- outcome{err: err}
	}
}
