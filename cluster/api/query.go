package api

import (
	"net/url"
	"strconv"
	"time"

	"dyad/eventlog"
	"dyad/projections/audit"
)

// eventsInput is an [audit.Query] in a URL. A list repeats its name.
type eventsInput struct {
	After       uint64    `query:"after" doc:"Events behind that place in the log."`
	Since       time.Time `query:"since" doc:"Observed at or after, RFC 3339."`
	Until       time.Time `query:"until" doc:"Observed before, RFC 3339."`
	Types       []string  `query:"type,explode" nullable:"false" doc:"Event types; one that ends in a dot is a prefix, such as peer."`
	Streams     []string  `query:"stream,explode" nullable:"false" doc:"Streams; one that ends in a slash is a prefix, such as peer/"`
	Actors      []string  `query:"actor,explode" nullable:"false" doc:"Who caused the event."`
	Nodes       []string  `query:"node,explode" nullable:"false" doc:"Where the event comes from."`
	Classes     []string  `query:"class,explode" nullable:"false" enum:"intent,fact"`
	Correlation string    `query:"correlation" doc:"Everything one request or one failure led to."`
	Limit       int       `query:"limit" minimum:"0" maximum:"10000" doc:"The newest events that match; 0 means 200."`
}

func (in *eventsInput) query() audit.Query {
	q := audit.Query{
		Since: in.Since, Until: in.Until, After: eventlog.Seq(in.After), Types: in.Types, Streams: in.Streams,
		Actors: in.Actors, Nodes: in.Nodes, Correlation: in.Correlation, Limit: in.Limit,
	}
	for _, c := range in.Classes {
		q.Classes = append(q.Classes, eventlog.Class(c))
	}
	return q
}

// values writes a query as eventsInput reads it.
func values(q audit.Query) url.Values {
	v := url.Values{}
	list := func(name string, items []string) {
		if len(items) > 0 {
			v[name] = items
		}
	}
	when := func(name string, t time.Time) {
		if !t.IsZero() {
			v.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	if q.After > 0 {
		v.Set("after", strconv.FormatUint(uint64(q.After), 10))
	}
	when("since", q.Since)
	when("until", q.Until)
	list("type", q.Types)
	list("stream", q.Streams)
	list("actor", q.Actors)
	list("node", q.Nodes)
	for _, c := range q.Classes {
		v.Add("class", string(c))
	}
	if q.Correlation != "" {
		v.Set("correlation", q.Correlation)
	}
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return v
}
