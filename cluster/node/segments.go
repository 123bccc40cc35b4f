package node

import (
	"context"

	"dyad/cluster/api"
	"dyad/eventlog"
	"dyad/eventlog/segment"
)

// sealed is the store of segments as the agent knows it.
type sealed struct{ s *segment.Store }

func (s sealed) End() eventlog.Head                { return s.s.End() }
func (s sealed) Size() int                         { return segment.Events }
func (s sealed) Cut(run []eventlog.Envelope) int   { return segment.Cut(run, segment.Events) }
func (s sealed) SetAside(first eventlog.Seq) error { return s.s.SetAside(first) }

func (s sealed) File(first eventlog.Seq) ([]byte, error) { return s.s.File(first) }

func (s sealed) List() []api.Segment {
	list := s.s.List()
	out := make([]api.Segment, len(list))
	for i, f := range list {
		out[i] = api.Segment{First: f.First, Last: f.Last, Prev: f.Prev, End: f.End, Bytes: f.Bytes, SHA256: f.SHA256, Damage: f.Damage}
	}
	return out
}

func (s sealed) Marshal(cluster string, prev eventlog.Head, run []eventlog.Envelope) ([]byte, error) {
	b, _, err := segment.Marshal(cluster, prev, run)
	return b, err
}

func (s sealed) Seal(cluster string, run []eventlog.Envelope) error {
	_, err := s.s.Seal(cluster, run)
	return err
}

func (s sealed) Add(b []byte) error {
	_, err := s.s.Add(b)
	return err
}

func (s sealed) Verify(ctx context.Context, progress func(int)) error {
	_, err := s.s.Verify(ctx, progress)
	return err
}
