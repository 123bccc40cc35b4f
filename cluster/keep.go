package cluster

import (
	"context"
	"errors"
	"time"

	"dyad/eventlog"
	"dyad/projections"
)

// Times of the keepers.
const (
	keepRetry = time.Second
	// saveEvery bounds how often the checkpoint is written.
	saveEvery = time.Second
	// bootRetry is the pause between attempts to record this node's own
	// declarations.
	bootRetry = time.Second
)

// keepAddresses puts the newest service addresses on the host, and tries again
// until that worked.
func (a *Agent) keepAddresses(ctx context.Context) {
	for {
		select {
		case want := <-a.addresses.c:
			if a.p.Addresses == nil {
				continue
			}
			if _, _, err := a.p.Addresses.Set(ctx, want); err != nil {
				a.p.Logger.Error("service addresses can't be put on the host", "event", "address.set", "reason", err)
				if pause(ctx, keepRetry) {
					a.addresses.offer(want)
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// keepChecks keeps the checker's services those of the log.
func (a *Agent) keepChecks(ctx context.Context) {
	for {
		select {
		case services := <-a.services.c:
			if a.with.Checker != nil {
				a.with.Checker.Set(ctx, services)
			}
		case <-ctx.Done():
			return
		}
	}
}

// keepCheckpoint writes the newest state, at most once every saveEvery.
func (a *Agent) keepCheckpoint(ctx context.Context) {
	for {
		select {
		case s := <-a.saver.c:
			if err := a.p.Checkpoint.Save(ctx, s); err != nil && ctx.Err() == nil {
				a.p.Logger.Error("the checkpoint can't be written", "event", "checkpoint.write", "reason", err)
			}
			if !pause(ctx, saveEvery) {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// bootstrap records what this node declares about itself: its address, its
// ports. It goes on until the log took it.
func (a *Agent) bootstrap(ctx context.Context) {
	if a.p.Bootstrap == nil {
		return
	}
	if !a.until(ctx, maxWait, func(s *Snapshot) bool { return s.Synced || ctx.Err() != nil }) {
		return
	}
	meta := projections.Meta{
		Actor:  eventlog.Actor{Name: a.p.Config.Node, Auth: "system"},
		Source: a.source("config", "dyad/"+a.p.Version), Reason: "the node's own configuration",
	}
	for ctx.Err() == nil {
		cmds := a.p.Bootstrap(a.Snapshot().State)
		failed := false
		for _, c := range cmds {
			failed = a.declare(ctx, c, meta) || failed
		}
		if !failed || !pause(ctx, bootRetry) {
			return
		}
	}
}

// maxWait is longer than any agent runs.
const maxWait = 100 * 365 * 24 * time.Hour

// declare submits one declaration; it tells whether to try again.
func (a *Agent) declare(ctx context.Context, c projections.Command, meta projections.Meta) bool {
	o := a.appender.submit(ctx, c, meta)
	var refusal *projections.Refusal
	switch {
	case o.err == nil:
		return false
	case errors.As(o.err, &refusal):
		a.p.Logger.Error("the configuration of this node is refused", "event", "config.refused", "reason", refusal)
		a.setConfigRefused(refusal)
		return false
	}
	a.p.Logger.Debug("the log does not take this node's declarations yet", "event", "config.waits", "reason", o.err)
	return true
}
