package cluster

import (
	"context"
	"sync"
	"time"

	"dyad/cluster/api"
	"dyad/eventlog"
	"dyad/failover"
)

// Bounds of what refused callers can write.
const (
	// deniedEvery is how often one caller's attempts at one thing become a fact:
	// the first at once, the others together at the end.
	deniedEvery = time.Minute
	// maxDenied bounds how many such pairs are told apart within it; all others
	// share one.
	maxDenied = 64
)

// denials turns attempts into facts, at a bounded rate: whoever tries for ever
// must not fill the journal.
type denials struct {
	a *Agent

	mu   sync.Mutex
	open map[denial]*tally
}

type denial struct {
	actor eventlog.Actor
	what  string
}

// tally counts the attempts after the first, which is a fact already.
type tally struct {
	who         api.Caller
	d           api.Denial
	since       time.Time
	first, last time.Time
	n           int
}

func newDenials(a *Agent) *denials { return &denials{a: a, open: map[denial]*tally{}} }

// Denied implements [api.Backend].
func (a *Agent) Denied(_ context.Context, who api.Caller, d api.Denial) { a.denials.add(who, d) }

// needGood is what whoever shows a revoked certificate lacks.
const needGood api.Role = "certificate that is not revoked"

// Revoked records that somebody showed a certificate that was revoked.
func (a *Agent) Revoked(who api.Caller) {
	a.denials.add(who, api.Denial{What: "connect", Need: needGood})
}

func denialReason(d api.Denial) string {
	if d.Need == needGood {
		return "the certificate was revoked, or its node was removed"
	}
	return "the caller's role does not allow it"
}

func (x *denials) add(who api.Caller, d api.Denial) {
	now := x.a.p.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	key := denial{who.Actor, d.What}
	t, known := x.open[key]
	if !known && len(x.open) >= maxDenied {
		key = denial{}
		if t, known = x.open[key]; !known {
			who = api.Caller{Actor: eventlog.Actor{Name: "others"}}
			d.What = "several things"
		}
	}
	if !known {
		x.open[key] = &tally{who: who, d: d, since: now}
		x.a.factBy(who, denialReason(d), deniedFact(x.a, who, d))
		return
	}
	if t.n++; t.n == 1 {
		t.first = now
	}
	t.last = now
}

func deniedFact(a *Agent, who api.Caller, d api.Denial) failover.Fact {
	return failover.Fact{
		Type: eventlog.TypeAccessDenied, Stream: "access/" + a.p.Config.Node + "/" + who.Actor.Auth + "/" + who.Actor.Name,
		Data: eventlog.DeniedPayload{What: d.What, Need: string(d.Need), Have: string(who.Role)},
	}
}

// run writes what was counted.
func (x *denials) run(ctx context.Context) {
	t := time.NewTicker(deniedEvery / 4)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			x.flush(x.a.p.Now().Add(-deniedEvery))
		case <-ctx.Done():
			return
		}
	}
}

// flush records the tallies that were opened before t.
func (x *denials) flush(before time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for key, t := range x.open {
		if t.since.After(before) {
			continue
		}
		delete(x.open, key)
		if t.n == 0 {
			continue
		}
		f := deniedFact(x.a, t.who, t.d)
		f.At, f.Reason = t.last, denialReason(t.d)
		d := x.a.rec.draftOf(f)
		d.Actor, d.Source = t.who.Actor, x.a.source("api", "")
		if t.n > 1 {
			d.Repeats = &eventlog.Repeats{Count: t.n, First: t.first, Last: t.last}
		}
		x.a.rec.draft(d)
	}
}
