package audit

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"dyad/eventlog"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// story is a small log: two intents by root, and a fact that node-b saw ten
// minutes before it could be recorded.
func story() []eventlog.Envelope {
	e := func(seq eventlog.Seq, at time.Time, typ eventlog.Type, stream, actor, node string) eventlog.Envelope {
		return eventlog.Envelope{Seq: seq, Time: at, Draft: eventlog.Draft{
			Type: typ, Stream: stream, Actor: eventlog.Actor{Name: actor}, Source: eventlog.Source{Node: node}, Correlation: fmt.Sprintf("c%d", seq%2),
		}}
	}
	late := e(3, noon.Add(2*time.Minute), eventlog.TypeNodeVerdict, "verdict/node-a", "node-b", "node-b")
	late.ObservedAt = noon.Add(-8 * time.Minute)
	return []eventlog.Envelope{
		e(1, noon, eventlog.TypePeerSet, "peer/vSwitch1/192.0.2.1", "root", "node-a"),
		e(2, noon.Add(time.Minute), eventlog.TypePoolSet, "pool/web", "root", "node-a"),
		late,
		e(4, noon.Add(3*time.Minute), eventlog.TypePeerRemoved, "peer/vSwitch1/192.0.2.1", "alice", "node-b"),
	}
}

func TestSelect(t *testing.T) {
	for name, tc := range map[string]struct {
		q    Query
		want []eventlog.Seq
	}{
		"everything":            {Query{}, []eventlog.Seq{1, 2, 3, 4}},
		"since the observation": {Query{Since: noon}, []eventlog.Seq{1, 2, 4}},
		"until, exclusive":      {Query{Until: noon}, []eventlog.Seq{3}},
		"since, inclusive":      {Query{Since: noon.Add(3 * time.Minute)}, []eventlog.Seq{4}},
		"after a place":         {Query{After: 2}, []eventlog.Seq{3, 4}},
		"one type":              {Query{Types: []string{"peer.set"}}, []eventlog.Seq{1}},
		"types by prefix":       {Query{Types: []string{"peer."}}, []eventlog.Seq{1, 4}},
		"no prefix without dot": {Query{Types: []string{"peer"}}, nil},
		"streams by prefix":     {Query{Streams: []string{"peer/"}}, []eventlog.Seq{1, 4}},
		"either of two streams": {Query{Streams: []string{"pool/web", "verdict/node-a"}}, []eventlog.Seq{2, 3}},
		"actor and node":        {Query{Actors: []string{"root"}, Nodes: []string{"node-a"}}, []eventlog.Seq{1, 2}},
		"facts":                 {Query{Classes: []eventlog.Class{eventlog.Fact}}, []eventlog.Seq{3}},
		"intents of node-b":     {Query{Classes: []eventlog.Class{eventlog.Intent}, Nodes: []string{"node-b"}}, []eventlog.Seq{4}},
		"correlation":           {Query{Correlation: "c0"}, []eventlog.Seq{2, 4}},
		"the newest two":        {Query{Limit: 2}, []eventlog.Seq{3, 4}},
	} {
		var got []eventlog.Seq
		for _, e := range tc.q.Select(story()) {
			got = append(got, e.Seq)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestLimitIsBounded(t *testing.T) {
	many := make([]eventlog.Envelope, MaxLimit+10)
	for i := range many {
		many[i].Seq = eventlog.Seq(i + 1)
	}
	if n := len(Query{Limit: MaxLimit * 2}.Select(many)); n != MaxLimit {
		t.Errorf("%d events, want %d", n, MaxLimit)
	}
	if n := len(Query{}.Select(many)); n != DefaultLimit {
		t.Errorf("%d events by default, want %d", n, DefaultLimit)
	}
}
