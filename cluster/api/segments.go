package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"dyad/eventlog"
)

// Segment is a sealed file of old events on a node's disk.
type Segment struct {
	First  eventlog.Seq  `json:"first"`
	Last   eventlog.Seq  `json:"last"`
	Prev   eventlog.Head `json:"prev"` // the log before First
	End    eventlog.Head `json:"end"`  // the log that ends with Last
	Bytes  int64         `json:"bytes"`
	SHA256 string        `json:"sha256"`
	Damage string        `json:"damage,omitempty"` // why it can't be used
}

// StoreSize is how full the store is, in bytes.
type StoreSize struct {
	Total int64 `json:"total"`  // the file
	InUse int64 `json:"in_use"` // of it; the rest is free for new events
	Quota int64 `json:"quota"`  // the store takes nothing when Total reaches it
	// NoSpace: it did. Leader: this member leads.
	NoSpace bool `json:"no_space,omitempty"`
	Leader  bool `json:"leader,omitempty"`
}

// Percent is how much of the quota the file takes, 0–100 and above.
func (s StoreSize) Percent() int {
	if s.Quota <= 0 {
		return 0
	}
	return int(s.Total * 100 / s.Quota)
}

// Verification is what checking the log found.
type Verification struct {
	Node string `json:"node"`
	// From and To are the first and the last event that were checked, Events
	// how many, and Segments in how many sealed files beside the store.
	From     eventlog.Seq  `json:"from"`
	To       eventlog.Seq  `json:"to"`
	Events   int           `json:"events"`
	Segments int           `json:"segments"`
	Head     eventlog.Head `json:"head"`
	// Damage is everything that is wrong, with what to do; empty if all is well.
	Damage []string `json:"damage"`
	// Others compares with the other node.
	Others []Comparison `json:"others"`
}

// Comparison is what another node has in the same place.
type Comparison struct {
	Node string `json:"node"`
	// Head is that node's; Same tells that both have the same event where the
	// shorter of the two logs ends, and the same sealed files.
	Head  eventlog.Head `json:"head"`
	Same  bool          `json:"same"`
	Error string        `json:"error,omitempty"`
}

// verifyLine is a line of the stream: how far it is, and at the end the result.
type verifyLine struct {
	Done   eventlog.Seq  `json:"done,omitempty"`
	Of     eventlog.Seq  `json:"of,omitempty"`
	Result *Verification `json:"result,omitempty"`
	Error  *Error        `json:"error,omitempty"`
}

const (
	// segmentType is the media type of a segment: a text file.
	segmentType = "text/plain; charset=utf-8"
	// maxSegment bounds a segment on the wire, in bytes.
	maxSegment = 64 << 20
	// segmentBound is how long sending one may take.
	segmentBound = time.Minute
	// progressEvery bounds how often a long answer tells how far it is.
	progressEvery = 200 * time.Millisecond
)

type (
	segmentInput struct {
		First uint64 `path:"first" minimum:"1" doc:"The event it begins with."`
		UpTo  uint64 `query:"up_to" doc:"If none is sealed there: make one of events up to and with this one."`
	}
	verifyInput struct {
		FromStart bool `query:"from_start" doc:"Read every event of every sealed segment too."`
	}
)

func routeSegments(a huma.API, b Backend) {
	items(a, operation("GET", "segments", PathSegments, "The sealed segments on this node's disk"),
		func(context.Context, *nothing) ([]Segment, error) { return b.Segments(), nil })
	op := operation("GET", "segment", PathSegments+"/{first}", "A segment, as it lies on the disk")
	op.Responses = map[string]*huma.Response{"200": {
		Description: "A header, events in stored form, and a line with the hash", Content: map[string]*huma.MediaType{segmentType: {}},
	}}
	huma.Register(a, op, func(ctx context.Context, in *segmentInput) (*huma.StreamResponse, error) {
		body, err := b.Segment(ctx, eventlog.Seq(in.First), eventlog.Seq(in.UpTo))
		if err != nil {
			return nil, AsError(err)
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			_, w := humago.Unwrap(hc)
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(segmentBound)) // a recorder has none
			w.Header().Set("Content-Type", segmentType)
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			w.Header().Set("Connection", "close") // the deadline is this answer's alone
			_, _ = w.Write(body)                  // the other side may be gone; it checks what it got
		}}, nil
	})
	verify := operation("GET", "verify", PathVerify, "Check the log of this node, and compare it with the other's")
	verify.Description = "Lines {\"done\": …, \"of\": …} tell how far it is; the last line is {\"result\": …} or {\"error\": …}."
	verify.Responses = map[string]*huma.Response{"200": {
		Description: "Progress, and then the result",
		Content:     map[string]*huma.MediaType{streamType: {Schema: a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[verifyLine](), true, "")}},
	}}
	huma.Register(a, verify, func(_ context.Context, in *verifyInput) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			r, w := humago.Unwrap(hc)
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			defer context.AfterFunc(stoppingOf(ctx), cancel)()
			streamVerify(ctx, w, b, in.FromStart)
		}}, nil
	})
}

func streamVerify(ctx context.Context, w http.ResponseWriter, b Backend, fromStart bool) {
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", streamType)
	w.Header().Set("Connection", "close")
	w.WriteHeader(http.StatusOK)
	enc := json.NewEncoder(w)
	send := func(l verifyLine) {
		_ = rc.SetWriteDeadline(time.Now().Add(followWriteBound)) // a recorder has none
		_, _ = enc.Encode(l), rc.Flush()                          // the reader may be gone
	}
	var last time.Time
	v, err := b.Verify(ctx, fromStart, func(done, of eventlog.Seq) {
		if now := time.Now(); now.Sub(last) >= progressEvery {
			last = now
			send(verifyLine{Done: done, Of: of})
		}
	})
	if err != nil {
		send(verifyLine{Error: AsError(err)})
		return
	}
	v.Damage, v.Others = full(v.Damage), full(v.Others)
	send(verifyLine{Result: &v})
}

// Segments lists the sealed segments on that node's disk, oldest first.
func (c *Client) Segments(ctx context.Context) ([]Segment, error) {
	return getList[Segment](ctx, c, PathSegments, nil)
}

// Segment gets the segment that begins with event first. If none is sealed
// there and upTo is not 0, the agent makes one of its log, with events up to
// that one at most. The bytes are not checked here.
func (c *Client) Segment(ctx context.Context, first, upTo eventlog.Seq) ([]byte, error) {
	q := url.Values{}
	if upTo > 0 {
		q.Set("up_to", strconv.FormatUint(uint64(upTo), 10))
	}
	ctx, cancel := context.WithTimeout(ctx, max(c.o.Timeout, segmentBound))
	defer cancel()
	resp, err := c.send(ctx, http.MethodGet, fmt.Sprintf("%s/%d", PathSegments, first), q, nil, "")
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // it was read to its end, or is given up
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxSegment+1))
	if err != nil {
		return nil, c.broken(err)
	}
	if len(b) > maxSegment {
		return nil, badAnswer(fmt.Sprintf("a segment is larger than %d MiB", maxSegment>>20))
	}
	return b, nil
}

// Verify asks the agent to check its log. progress is called now and then. It
// takes as long as it takes: only ctx bounds it.
func (c *Client) Verify(ctx context.Context, fromStart bool, progress func(done, of eventlog.Seq)) (Verification, error) {
	q := url.Values{}
	if fromStart {
		q.Set("from_start", "true")
	}
	resp, err := c.send(ctx, http.MethodGet, PathVerify, q, nil, "")
	if err != nil {
		return Verification{}, err
	}
	defer func() { _ = resp.Body.Close() }() // it was read to its end, or is given up
	dec := json.NewDecoder(resp.Body)
	for {
		var l verifyLine
		if err := dec.Decode(&l); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return Verification{}, c.broken(err)
		}
		switch {
		case l.Error != nil:
			return Verification{}, l.Error
		case l.Result != nil:
			return *l.Result, nil
		case progress != nil:
			progress(l.Done, l.Of)
		}
	}
}
