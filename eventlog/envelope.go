package eventlog

import (
	"encoding/json"
	"net/netip"
	"time"
)

// Seq is an event's place in the log, counted from 1 without gaps.
type Seq uint64

// Epoch counts the sets of writers the log has had. It is raised by one
// whenever that set changes, and compared in every append.
type Epoch uint64

// Actor says who caused an event, and how we know.
type Actor struct {
	Name string `json:"name"` // root, node-a, ...
	// Auth is how the name was established: unix (peer credentials of the
	// local socket), cert (a certificate of the cluster's CA), token (a join
	// token), system (dyad itself).
	Auth string `json:"auth"`
}

// Source says where an event came from.
type Source struct {
	Node      string     `json:"node"`
	Address   netip.Addr `json:"address,omitzero"`
	Interface string     `json:"interface,omitempty"` // cli, api, apply, config, hcs, machine
	Client    string     `json:"client,omitempty"`    // program and version
}

// Origin is a fact's place in the journal of the node that recorded it.
// Merging journals is a union by (Node, Boot, N).
type Origin struct {
	Node string `json:"node"`
	Boot string `json:"boot"`
	N    uint64 `json:"n"`
}

// Draft is an event before it has a place in the log.
type Draft struct {
	// ID is a UUIDv7 given at the edge.
	ID      string `json:"id"`
	Type    Type   `json:"type"`
	Version int    `json:"v"` // payload version, from 1
	// Stream groups the events of one object: peer/vSwitch1/192.0.2.1.
	Stream string `json:"stream"`
	Actor  Actor  `json:"actor"`
	Source Source `json:"source"`
	Reason string `json:"reason,omitempty"`
	// Correlation ties together everything one request or one failure led to;
	// Causation is the ID of the event that led to this one.
	Correlation string `json:"correlation,omitempty"`
	Causation   string `json:"causation,omitempty"`
	// Key is the idempotency key. Several drafts of one append may share it;
	// a later append with a key that stands in the log is a duplicate.
	Key string `json:"key,omitempty"`
	// ObservedAt is when a fact was seen, by the clock of Origin.Node.
	ObservedAt time.Time       `json:"observed_at,omitzero"`
	Origin     *Origin         `json:"origin,omitempty"`
	Data       json.RawMessage `json:"data,omitempty"` // after
	Prev       json.RawMessage `json:"prev,omitempty"` // before
	// Outcome is empty for done; refused for a rejected attempt.
	Outcome  string          `json:"outcome,omitempty"`
	Evidence json.RawMessage `json:"evidence,omitempty"`
	// Repeats is set on a fact that stands for several of its stream and type:
	// a journal that waited long coalesces flaps instead of dropping them.
	Repeats *Repeats `json:"repeats,omitempty"`
}

// Repeats says what a coalesced fact stands for. The fact itself is the last of
// them.
type Repeats struct {
	Count int       `json:"count"` // from 2
	First time.Time `json:"first"` // when the first was observed
	Last  time.Time `json:"last"`
}

// Envelope is an event in the log.
//
// Invariant: Seq is PrevSeq+1 of the event before it, PrevHash is that event's
// Hash, and Hash is the SHA-256 of the stored body (see [Encode]).
type Envelope struct {
	Seq       Seq       `json:"seq"`
	Epoch     Epoch     `json:"epoch"`
	StreamRev uint64    `json:"stream_rev"` // from 1 within Stream
	Time      time.Time `json:"time"`       // recorded at, UTC
	Draft
	PrevHash string `json:"prev_hash"` // hex; empty for the first event
	Hash     string `json:"-"`         // hex; stored beside the body

	stored []byte // the exact stored bytes, if the envelope was decoded
}

// Observed is the time the event happened: ObservedAt for a fact, and the time
// it was recorded otherwise.
func (e Envelope) Observed() time.Time {
	if !e.ObservedAt.IsZero() {
		return e.ObservedAt
	}
	return e.Time
}

// Head is the end of the log.
type Head struct {
	Seq   Seq    `json:"seq"`
	Hash  string `json:"hash"`
	Epoch Epoch  `json:"epoch"`
}
