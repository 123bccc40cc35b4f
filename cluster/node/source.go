package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"dyad/cluster/api"
	"dyad/cluster/etcdnode"
	"dyad/eventlog"
	"dyad/eventlog/etcdlog"
	"dyad/eventlog/segment"
)

// source is where a backup gets the log from.
type source struct {
	node, cluster, mode string
	head                eventlog.Head
	// segment gives the segment with event first, that ends with head or before.
	segment func(ctx context.Context, first eventlog.Seq) ([]byte, error)
}

// fromAgent asks the agent.
func fromAgent(ctx context.Context, c *api.Client) (source, error) {
	list, err := c.Status(ctx, api.ScopeNode)
	if err != nil {
		return source{}, err
	}
	if len(list) != 1 || list[0].Status == nil {
		return source{}, errors.New("the agent gave no status\n  try: dyad status")
	}
	st := list[0].Status
	return source{
		node: st.Node, cluster: st.Cluster, mode: st.Mode, head: st.Head,
		segment: func(ctx context.Context, first eventlog.Seq) ([]byte, error) {
			return c.Segment(ctx, first, st.Head.Seq)
		},
	}, nil
}

// fromFiles reads what lies in the data directory, for when nobody serves it: the
// agent is stopped, or its store came up without the other node's.
func fromFiles(dir string) (source, error) {
	st, err := etcdnode.LoadState(dir)
	if err != nil {
		return source{}, err
	}
	if st.External != "" {
		return source{}, errors.New("the log is in an external store, and little of it lies on this disk\n  try: start dyad, or look at the etcd behind store.endpoints, then again")
	}
	sealed, err := segment.Look(filepath.Join(dir, segmentsName))
	if err != nil {
		return source{}, err
	}
	floor, events, err := etcdlog.ReadFile(filepath.Join(dir, storeName, "member", "snap", "db"), dir, "")
	if err != nil {
		return source{}, fmt.Errorf("read the store's file: %w\n  try: systemctl stop dyad, then again", err)
	}
	head := floor
	if len(events) > 0 {
		head = eventlog.HeadOf(events[len(events)-1])
	}
	return source{
		node: st.Node, cluster: st.Cluster, mode: string(st.Mode), head: head,
		segment: func(_ context.Context, first eventlog.Seq) ([]byte, error) {
			if first <= floor.Seq {
				return sealed.File(first)
			}
			prev, run := floor, events[first-floor.Seq-1:]
			if i := int(first - floor.Seq - 1); i > 0 {
				prev = eventlog.HeadOf(events[i-1])
			}
			if n := segment.Cut(run, segment.Events); n > 0 {
				run = run[:n]
			}
			b, _, err := segment.Marshal(st.Cluster, prev, run)
			return b, err
		},
	}, nil
}
