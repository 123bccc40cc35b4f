package node

import (
	"context"
	"fmt"
	"sync"

	"dyad/eventlog"
)

type tmpJournal struct {
	mu         sync.Mutex
	node, boot string
	n          uint64
	facts      []eventlog.Draft
}

func (d *tmpJournal) Append(_ context.Context, drafts ...eventlog.Draft) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range drafts {
		d.n++
		f.Origin = &eventlog.Origin{Node: d.node, Boot: d.boot, N: d.n}
		f.Key = fmt.Sprintf("fact/%s/%s/%d", d.node, d.boot, d.n)
		d.facts = append(d.facts, f)
	}
	return nil
}

func (d *tmpJournal) Pending(limit int) ([]eventlog.Draft, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]eventlog.Draft(nil), d.facts[:min(limit, len(d.facts))]...), nil
}

func (d *tmpJournal) MarkCopied(_ context.Context, last eventlog.Origin) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.facts) > 0 && d.facts[0].Origin.N <= last.N {
		d.facts = d.facts[1:]
	}
	return nil
}

func (d *tmpJournal) Len() int { d.mu.Lock(); defer d.mu.Unlock(); return len(d.facts) }
