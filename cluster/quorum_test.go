package cluster

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"dyad/cluster/quorum"
	"dyad/cluster/steward"
	"dyad/eventlog"
	"dyad/projections"
)

// stewardOf runs the real rules of the two-node log over the log in memory,
// which is written as long as nobody suspends it. Nothing changes the set of
// writers here: no deed is handed in.
func (n *node) stewardOf(a *Agent) (*steward.Steward, func()) {
	peer := "node-a"
	if n.name == "node-a" {
		peer = "node-b"
	}
	st := steward.New(steward.Config{
		Self: n.name, Record: quorum.Record{Mode: quorum.Pair, Epoch: 1}, HoldDown: 3 * time.Second,
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Look: func(ctx context.Context) steward.Reading {
			s := a.Snapshot()
			_, err := n.w.log.Append(ctx, eventlog.Batch{Epoch: s.State.Head.Epoch})
			r := steward.Reading{Heard: s.View.Nodes[peer] == projections.Alive}
			r.Log = quorum.LogSight{Epoch: s.State.Head.Epoch, Mode: quorum.Pair, Self: true, Others: true, Writable: !errors.Is(err, eventlog.ErrUnavailable), Shared: true}
			r.Peer = quorum.PeerSight{Name: peer, Epoch: 1, Mode: quorum.Pair}
			return r
		},
		Save:  func(quorum.Move, quorum.Sight) error { return nil },
		Claim: func() (quorum.Claim, bool, bool) { return quorum.Claim{}, false, false },
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { st.Run(ctx) })
	return st, func() { cancel(); wg.Wait() }
}
