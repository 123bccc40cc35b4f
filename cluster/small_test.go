package cluster

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"dyad/eventlog"
	"dyad/eventlog/memlog"
	"dyad/failover"
	"dyad/projections"
)

// small is a log on a store that takes small transactions only.
type small struct {
	*memlog.Log
	most int
}

func (l small) Append(ctx context.Context, b eventlog.Batch) ([]eventlog.Envelope, error) {
	if len(b.Drafts) > l.most {
		return nil, fmt.Errorf("%w: too many operations", eventlog.ErrTooLarge)
	}
	return l.Log.Append(ctx, b)
}

// What many clients want at once, and facts that have waited, go in as many pieces
// as the store takes. Only one change that is too large by itself is refused.
func TestStoreThatTakesLittleAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.end()
		a := w.nodes["node-a"]
		a.startWith(small{w.log, 5})
		w.within(10*time.Second, "node-a is in sync", func() bool { return len(a.agent.Snapshot().State.Nodes) == 1 && a.agent.Snapshot().Synced })
		for i := range 200 {
			a.agent.rec.fact(failover.Fact{Type: eventlog.TypeStoreUp, Stream: fmt.Sprint("store/", i), At: time.Now(), Data: eventlog.StorePayload{}})
		}
		const clients = 100
		done := make(chan error, clients)
		for i := range clients {
			go func() { done <- a.agent.Submit(t.Context(), pool(i), "test") }()
		}
		for range clients {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		w.within(time.Minute, "all facts are copied", func() bool { return a.disk.Len() == 0 })
		if n := len(a.agent.State().Pools); n != clients {
			t.Errorf("%d pools, want %d", n, clients)
		}
		var all projections.Apply
		for i := range 6 {
			all.Commands = append(all.Commands, pool(clients+i))
		}
		if err := a.agent.Submit(t.Context(), all, "test"); err == nil || len(a.agent.State().Pools) != clients {
			t.Errorf("six changes as one: %v", err)
		}
	})
}

func pool(i int) projections.Command {
	r, err := eventlog.ParseRange(fmt.Sprintf("203.%d.113.0/28", i))
	if err != nil {
		panic(err)
	}
	return projections.SetPool{Name: fmt.Sprint("p", i), Ranges: []eventlog.Range{r}}
}
