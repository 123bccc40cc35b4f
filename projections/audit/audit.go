// Package audit asks the log questions: which events, by time, type, stream,
// actor and node. It is pure; the events come from whoever can read them.
package audit

import (
	"strings"
	"time"

	"dyad/eventlog"
)

// DefaultLimit and MaxLimit bound how many events one query answers.
const (
	DefaultLimit = 200
	MaxLimit     = 10000
)

// Query selects events. Empty fields select everything; the fields are joined
// by and, the values of one field by or.
type Query struct {
	// Since (inclusive) and Until (exclusive) compare the time observed.
	Since, Until time.Time
	// After selects events behind that place in the log.
	After eventlog.Seq
	// Types match exactly, or as a prefix if they end in "." ("peer.").
	Types []string
	// Streams match exactly, or as a prefix if they end in "/" ("peer/").
	Streams []string
	// Actors match the actor's name; Nodes the node an event came from.
	Actors, Nodes []string
	// Classes: intent, fact.
	Classes []eventlog.Class
	// Correlation selects everything one request or failure led to.
	Correlation string
	// Limit keeps the newest events, 1–MaxLimit; 0 is DefaultLimit.
	Limit int
}

// Match tells whether the query selects e. It does not look at Limit.
func (q Query) Match(e eventlog.Envelope) bool {
	at := e.Observed()
	switch {
	case e.Seq <= q.After,
		!q.Since.IsZero() && at.Before(q.Since),
		!q.Until.IsZero() && !at.Before(q.Until),
		!anyOf(q.Types, string(e.Type), "."),
		!anyOf(q.Streams, e.Stream, "/"),
		!anyOf(q.Actors, e.Actor.Name, ""),
		!anyOf(q.Nodes, e.Source.Node, ""),
		q.Correlation != "" && q.Correlation != e.Correlation:
		return false
	}
	if len(q.Classes) == 0 {
		return true
	}
	for _, c := range q.Classes {
		if c == e.Type.Class() {
			return true
		}
	}
	return false
}

// anyOf tells whether v is one of want, or starts with one that ends in sep.
func anyOf(want []string, v, sep string) bool {
	if len(want) == 0 {
		return true
	}
	for _, w := range want {
		if w == v || sep != "" && strings.HasSuffix(w, sep) && strings.HasPrefix(v, w) {
			return true
		}
	}
	return false
}

// Select returns the events that match, oldest first, the newest Limit of them.
func (q Query) Select(events []eventlog.Envelope) []eventlog.Envelope {
	limit := q.Limit
	if limit <= 0 {
		limit = DefaultLimit
	}
	limit = min(limit, MaxLimit)
	var out []eventlog.Envelope
	for i := len(events) - 1; i >= 0 && len(out) < limit; i-- {
		if q.Match(events[i]) {
			out = append(out, events[i])
		}
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out
}
