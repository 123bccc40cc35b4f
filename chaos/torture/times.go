package torture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"dyad/cluster/etcdnode"
	"dyad/eventlog"
)

// Filling a log to measure it.
const (
	fillBatch   = 500 // events in one append
	fillPayload = 200 // bytes of each event's data
)

// Times measures takeovers and returns with a log of so many events: it kills
// the leader of a pair, lets the other node take over, and lets the dead one
// come back, n times, with raft's default timers and nobody writing. The rows
// are in ms: from a takeover's first step to the first accepted append, and from
// putting the old store aside to the pair's first append.
func Times(ctx context.Context, o Options, events, n int) (takeover, rejoin []float64, err error) {
	o = o.withDefaults()
	o.Heartbeat, o.Election = etcdnode.DefaultHeartbeat, etcdnode.DefaultElection
	dir := filepath.Join(o.Dir, fmt.Sprintf("times-%d", events))
	p := &pair{o: o, ledger: newLedger(), result: &Result{}}
	defer func() {
		p.close()
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	if err := p.form(ctx, dir); err != nil {
		return nil, nil, err
	}
	if err := p.fill(ctx, events); err != nil {
		return nil, nil, err
	}
	p.result.Rejoin = nil // the first join was with an empty log
	for range n {
		if p.nodes[1].leads(ctx) {
			p.nodes[0], p.nodes[1] = p.nodes[1], p.nodes[0]
		}
		// Both nodes are on one disk, and the return before wrote the whole log
		// there once more.
		unix.Sync()
		if err := p.kill(ctx, 0); err != nil {
			return nil, nil, err
		}
		if err := p.failover(ctx, 1, 0, plan{}); err != nil {
			return nil, nil, err
		}
		o.Say("takeover %.0f ms, rejoin %.0f ms", p.result.Takeover[len(p.result.Takeover)-1], p.result.Rejoin[len(p.result.Rejoin)-1])
	}
	return p.result.Takeover, p.result.Rejoin, nil
}

// fill appends so many events.
func (p *pair) fill(ctx context.Context, events int) error {
	data := make([]byte, 0, fillPayload)
	data = append(data, '"')
	for len(data) < fillPayload-1 {
		data = append(data, 'x')
	}
	data = append(data, '"')
	for i := 0; i < events; i += fillBatch {
		var b eventlog.Batch
		b.Epoch = p.epoch
		for j := i; j < min(i+fillBatch, events); j++ {
			key := fmt.Sprintf("fill-%d", j)
			b.Drafts = append(b.Drafts, eventlog.Draft{
				ID: key, Key: key, Type: eventlog.TypeServiceSet, Stream: fmt.Sprintf("s%d", j%streams), Data: data,
			})
		}
		_, err := p.nodes[0].logs[0].Append(ctx, b)
		if err != nil && !errors.Is(err, eventlog.ErrDuplicate) {
			return fmt.Errorf("fill the log: %w", err)
		}
	}
	return nil
}
