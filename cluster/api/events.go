package api

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"dyad/eventlog"
	"dyad/projections/audit"
)

// followWriteBound is how long a reader of the stream may not read before it is
// given up.
const followWriteBound = 30 * time.Second

// streamType is the media type of a stream: one JSON value on each line.
const streamType = "application/x-ndjson"

// event is how [eventlog.Public] looks in the OpenAPI document: an envelope
// with its hash. A Public encodes itself, which no schema can see.
type event struct {
	eventlog.Envelope
	Hash string `json:"hash"`
}

// failure is the last line of a stream that ended because of an error.
type failure struct {
	Error *Error `json:"error"`
}

func describeEvents(r huma.Registry) {
	r.RegisterTypeAlias(reflect.TypeFor[eventlog.Public](), reflect.TypeFor[event]())
}

func routeEvents(a huma.API, b Backend) {
	items(a, operation("GET", "events", PathEvents, "The newest events that match, oldest first"),
		func(ctx context.Context, in *eventsInput) ([]eventlog.Public, error) {
			events, err := b.Events(ctx, in.query())
			out := make([]eventlog.Public, 0, len(events))
			for _, e := range events {
				out = append(out, eventlog.Public(e))
			}
			return out, err
		})
	op := operation("GET", "follow-events", PathEventsFollow, "Events that match, as they come")
	op.Description = "One event on each line, from ?after on, until the client goes. A stream that fails ends with a line {\"error\": …}."
	op.Responses = map[string]*huma.Response{"200": {
		Description: "Events, one on each line",
		Content:     map[string]*huma.MediaType{streamType: {Schema: a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[event](), true, "")}},
	}}
	huma.Register(a, op, func(_ context.Context, in *eventsInput) (*huma.StreamResponse, error) {
		q := in.query()
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			r, w := humago.Unwrap(hc)
			ctx, cancel := context.WithCancel(r.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel()
			wg.Go(func() { watchCaller(ctx, cancel) })
			// A server that stops ends its streams first; commands may finish.
			defer context.AfterFunc(stoppingOf(ctx), cancel)()
			stream(ctx, w, b, q)
		}}, nil
	})
}

// stillEvery is how often the caller of a stream is looked at while no event
// comes.
const stillEvery = 5 * time.Second

// watchCaller ends a stream whose caller may no longer ask.
func watchCaller(ctx context.Context, end func()) {
	tick := time.NewTicker(stillEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if stillMay(ctx) != nil {
				end()
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// stream writes events until ctx ends, the reader is gone, or the log fails.
func stream(ctx context.Context, w http.ResponseWriter, b Backend, q audit.Query) {
	rc := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	line := func(v any) bool {
		// Without deadlines (a test's recorder) writing just isn't bounded.
		_ = rc.SetWriteDeadline(time.Now().Add(followWriteBound))
		return enc.Encode(v) == nil && rc.Flush() == nil
	}
	w.Header().Set("Content-Type", streamType)
	// The write deadline stays with the connection; no other request may inherit it.
	w.Header().Set("Connection", "close")
	w.WriteHeader(http.StatusOK)
	if rc.Flush() != nil {
		return
	}
	for e, err := range b.FollowEvents(ctx, q) {
		if err != nil {
			if ctx.Err() == nil {
				line(failure{AsError(err)})
			}
			return
		}
		if err := stillMay(ctx); err != nil {
			line(failure{AsError(err)})
			return
		}
		if !line(eventlog.Public(e)) {
			return
		}
	}
}
