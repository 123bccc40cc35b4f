package api

import (
	"context"
	"iter"
	"net/netip"

	"dyad/eventlog"
	"dyad/projections"
	"dyad/projections/audit"
)

// Caller is who asks, as the transport established it.
type Caller struct {
	Actor   eventlog.Actor
	Address netip.Addr // zero on the unix socket
	Role    Role
	// Token is the ID of the join token the caller holds; such a caller may join
	// and do nothing else.
	Token string
}

// Backend is what the API serves. The agent implements it. Errors that are
// *Error keep their class; *projections.Refusal becomes class refused;
// eventlog.ErrUnavailable becomes unavailable; anything else failed.
type Backend interface {
	// Status is this node's own.
	Status(ctx context.Context) Status
	// ClusterStatus is every node's: one node's error never hides another's.
	ClusterStatus(ctx context.Context) []NodeStatus
	// State is the newest folded state.
	State() projections.State
	// Execute decides a command, appends its events, and waits as asked.
	Execute(ctx context.Context, who Caller, r Request) (Result, error)
	// Announcements are this node's (cluster false) or every node's.
	Announcements(ctx context.Context, cluster bool) []NodeAnnouncements
	// Events answers a query over the log, oldest first. The facts that still
	// wait in this node's journal are not part of it.
	Events(ctx context.Context, q audit.Query) ([]eventlog.Envelope, error)
	// FollowEvents delivers what matches q, from q.After on, until ctx ends.
	FollowEvents(ctx context.Context, q audit.Query) iter.Seq2[eventlog.Envelope, error]
	// Explain says why an address is announced or not.
	Explain(ctx context.Context, a netip.Addr) (Explanation, error)
	// RecordFact puts a drill's fact into this node's journal.
	RecordFact(ctx context.Context, who Caller, f FactRequest) error
	// Witness is what this node sees at the cluster's witness (cluster false) or
	// what every node sees there.
	Witness(ctx context.Context, cluster bool) []WitnessStatus
	// AddWitness registers the cluster's claim at a witness and names it in the log.
	AddWitness(ctx context.Context, who Caller, r WitnessRequest) (Result, error)
	QuorumBackend
	IdentityBackend
	DoctorBackend
	// Segments are the sealed segments on this node's disk, oldest first.
	Segments() []Segment
	// Segment is the segment that begins with event first; if none is sealed
	// there and upTo is not 0, one made of the log, that ends with upTo or before.
	Segment(ctx context.Context, first, upTo eventlog.Seq) ([]byte, error)
	// Verify checks this node's log and compares it with the other's. Damage is
	// in the answer, not in the error.
	Verify(ctx context.Context, fromStart bool, progress func(done, of eventlog.Seq)) (Verification, error)
}

// NodeAnnouncements are one node's announcements, or why they are not known.
type NodeAnnouncements struct {
	Node  string                     `json:"node"`
	Error string                     `json:"error,omitempty"`
	Items []projections.Announcement `json:"items"`
}

// FactRequest asks to record a fact; types drill.started and drill.ended only.
type FactRequest struct {
	Type        eventlog.Type         `json:"type"`
	Correlation string                `json:"correlation,omitempty"`
	Reason      string                `json:"reason,omitempty"`
	Data        eventlog.DrillPayload `json:"data"`
}

// Routes, all below /v1. GET unless noted; lists answer {"items": […]}.
const (
	PathStatus        = "/v1/status"        // ?scope=node|cluster (default cluster) → {items: []NodeStatus}
	PathCommand       = "/v1/command"       // POST Request → Result
	PathSwitches      = "/v1/switches"      // []SwitchView
	PathPeers         = "/v1/peers"         // []eventlog.Peer
	PathPools         = "/v1/pools"         // []PoolView
	PathServices      = "/v1/services"      // []eventlog.Service
	PathNodes         = "/v1/nodes"         // []eventlog.Node
	PathAnnouncements = "/v1/announcements" // ?scope → []NodeAnnouncements
	PathEvents        = "/v1/events"        // ?after,since,until,type,stream,actor,node,class,correlation,limit → []eventlog.Public
	PathEventsFollow  = "/v1/events/follow" // the same query → application/x-ndjson of eventlog.Public
	PathExplain       = "/v1/explain"       // /{address} → Explanation
	PathFacts         = "/v1/facts"         // POST FactRequest
	PathSegments      = "/v1/segments"      // []Segment; /{first}?up_to → the segment's bytes
	PathVerify        = "/v1/verify"        // ?from_start → application/x-ndjson: progress, then a Verification
)
