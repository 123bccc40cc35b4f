package node

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"dyad/cluster/etcdnode"
	"dyad/cluster/quorum"
	"dyad/eventlog"
	"dyad/eventlog/etcdlog"
)

const (
	// orphansEvery is how often an archive that could not be read is tried again.
	orphansEvery = 2 * time.Second
	// orphansPage bounds how many events one log.orphaned carries.
	orphansPage = 256
	// readMark lies in an archive whose orphans were handed over.
	readMark = "orphans-read"
)

// keepOrphans hands over what stores that were set aside hold and the log does
// not, once there is a whole log to compare with. Nothing is merged by itself:
// dyad log orphans shows it, and an operator decides.
func (p *process) keepOrphans(ctx context.Context) {
	t := time.NewTicker(orphansEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		if s := p.steward.Status(); s.Record.Mode == quorum.Joining || s.Record.Mode == quorum.Stale || !s.Writable || !p.agent.Snapshot().Synced {
			continue
		}
		if err := p.handOver(ctx); err != nil && ctx.Err() == nil {
			p.opts.Log.Warn("an archived store can't be compared with the log", "event", "log.orphans", "reason", err)
		}
	}
}

func (p *process) handOver(ctx context.Context) error {
	archives, err := etcdnode.Archives(p.cfg.DataDir)
	if err != nil {
		return err
	}
	news := false
	for _, a := range archives {
		mark := filepath.Join(a.Path, readMark)
		if _, err := os.Stat(mark); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := p.orphansOf(ctx, a); err != nil {
			return err
		}
		// Written after the facts: a crash between the two tells twice, and
		// never not at all.
		if err := os.WriteFile(mark, nil, 0o600); err != nil {
			return err
		}
		news = true
	}
	if news {
		_, err = etcdnode.PruneArchives(p.cfg.DataDir)
	}
	return err
}

// orphansOf records what one archive holds and the log does not.
func (p *process) orphansOf(ctx context.Context, a etcdnode.Archived) error {
	found, err := etcdnode.ReadOrphans(a.Path, etcdlog.DefaultPrefix, func(seq eventlog.Seq) (string, bool, error) {
		events, err := p.log.Read(ctx, seq-1, 1)
		if err != nil || len(events) == 0 {
			return "", false, err
		}
		return events[0].Hash, true, nil
	})
	damaged := errors.Is(err, etcdnode.ErrDamaged) || errors.Is(err, eventlog.ErrCorrupt) || errors.Is(err, eventlog.ErrGap)
	switch {
	case errors.Is(err, etcdnode.ErrNoStore):
		return nil // the directory was empty: it held nothing
	case err != nil && !damaged:
		return err
	case damaged:
		p.opts.Log.Error("an archived store is damaged; it is kept", "event", "log.orphans", "reason", err, "archive", a.Path)
	}
	for rest := found.Events; len(rest) > 0; {
		run := rest[:min(len(rest), orphansPage)]
		payload, err := eventlog.Orphan(p.cfg.Node, p.boot, filepath.Base(a.Path), run)
		if err != nil {
			return err
		}
		if err := p.agent.RecordOrphans(ctx, payload, "the log went on without this node; dyad log orphans shows what it held"); err != nil {
			return err
		}
		rest = rest[len(run):]
	}
	return nil
}
