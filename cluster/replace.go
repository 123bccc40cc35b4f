package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"dyad/cluster/api"
	"dyad/eventlog"
	"dyad/projections"
)

// ReplaceNode implements [api.Backend]. The removal, what is handed on, and the
// token stand in one append. Repeated, it makes another token, and hands on what
// there is.
func (a *Agent) ReplaceNode(ctx context.Context, who api.Caller, r api.ReplaceNodeRequest) (api.ReplaceNodeResult, error) {
	self := a.p.Config.Node
	s := a.Snapshot()
	res := api.ReplaceNodeResult{Node: r.Node, With: cmp.Or(r.With, r.Node), Epoch: s.State.Head.Epoch, API: s.State.Nodes[self].API, DryRun: r.DryRun}
	refused := func(code, fix, why string, args ...any) error {
		return &api.Error{Class: api.ClassRefused, Code: code, What: "node " + r.Node, Why: fmt.Sprintf(why, args...), Fix: fix}
	}
	switch {
	case r.Node == self:
		return res, refused("remove-self", "run it on the other node", "a node can't replace itself")
	case s.View.Nodes[r.Node] == projections.Alive:
		return res, refused("peer-alive", "dyad node drain "+r.Node+", stop dyad there, and repeat it; or dyad node remove "+r.Node,
			"it is alive and heard by this node")
	}
	replace := projections.ReplaceNode{Name: res.Node, With: res.With, Self: self, Now: a.p.Now()}
	if _, err := projections.Decide(s.State, replace); err != nil {
		return res, err
	}
	cmd := projections.Apply{Commands: []projections.Command{
		replace, projections.CreateToken{Fingerprint: r.Token, TTL: r.TTL, Now: a.p.Now()},
	}}
	drafts, err := projections.Decide(s.State, cmd)
	if err != nil {
		return res, err
	}
	if ok, why := a.writable(s); !ok {
		e := api.AsError(notWritable("node replace", why))
		if !slices.Contains(s.State.Writers, r.Node) {
			return res, e
		}
		e.Fix = fmt.Sprintf("dyad takeover --confirm %s --reason TEXT, then repeat the command", r.Node)
		return res, e
	}
	if r.DryRun {
		for _, d := range drafts {
			res.Events = append(res.Events, eventlog.Public{Draft: d, Epoch: res.Epoch})
			res.Removed = res.Removed || d.Type == eventlog.TypeNodeRemoved
		}
		return res, nil
	}
	ctx, cancel := context.WithTimeout(ctx, takeoverBound)
	defer cancel()
	meta := projections.Meta{Actor: who.Actor, Source: a.source("api", ""), Reason: r.Reason, Correlation: a.p.NewID()}
	o := a.appender.submit(ctx, cmd, meta)
	if o.err != nil {
		return res, a.failed(replace, meta, o.err)
	}
	res.Seq = o.seq
	for _, e := range o.events {
		res.Events, res.Epoch = append(res.Events, eventlog.Public(e)), e.Epoch
		res.Removed = res.Removed || e.Type == eventlog.TypeNodeRemoved
	}
	return res, nil
}
