package api

import (
	"encoding/json"
	"net/netip"
	"time"

	"dyad/eventlog"
	"dyad/projections"
	"dyad/speaker"
)

// Request is a command on the wire.
type Request struct {
	// Verb is the command's name, such as "peer set" (projections.Command).
	Verb string          `json:"verb"`
	Args json.RawMessage `json:"args"`
	// Reason is why, in the operator's words; it goes into every event.
	Reason string `json:"reason,omitempty"`
	// Causation is the ID of the event that led to the command, if one did.
	Causation string `json:"causation,omitempty"`
	// Key makes a repetition harmless (idempotency key).
	Key    string `json:"key,omitempty"`
	DryRun bool   `json:"dry_run,omitempty"`
	// Interface and Client describe the caller: cli, hcs, apply; dyad/1.0.
	Interface string `json:"interface,omitempty"`
	Client    string `json:"client,omitempty"`
	// Wait bounds waiting for all nodes to apply the events; 0 does not wait.
	Wait time.Duration `json:"wait_ns,omitempty"`
}

// Result answers a Request.
type Result struct {
	// Events are what the command led to; none if nothing had to change.
	Events []eventlog.Public `json:"events"`
	Seq    eventlog.Seq      `json:"seq"`
	// Nodes tells for every node whether it has applied the events, and what
	// it announces for what the command touched.
	Nodes []NodeResult `json:"nodes,omitempty"`
	// Diff is what would change; only set by a dry run.
	Diff   []DiffLine `json:"diff,omitempty"`
	DryRun bool       `json:"dry_run,omitempty"`
}

// NodeResult is one node's part of a Result.
type NodeResult struct {
	Node      string       `json:"node"`
	Applied   eventlog.Seq `json:"applied"`
	Converged bool         `json:"converged"`
	// Announces lists what the node announces for the touched services.
	Announces []projections.Announcement `json:"announces,omitempty"`
	Error     string                     `json:"error,omitempty"`
}

// DiffLine is one announcement that would come (+), go (-) or change (~).
type DiffLine struct {
	Op   string                    `json:"op"`
	Item projections.Announcement  `json:"item"`
	Was  *projections.Announcement `json:"was,omitempty"`
}

// Error is the body of every answer that is not 2xx.
type Error struct {
	// Class decides the exit code: usage, denied, refused, unavailable, failed,
	// not-converged.
	Class string `json:"class"`
	Code  string `json:"code"`
	What  string `json:"what"`
	Why   string `json:"why"`
	Fix   string `json:"fix,omitempty"`
}

func (e *Error) Error() string {
	s := e.What + ": " + e.Why
	if e.Fix != "" {
		s += "\n  try: " + e.Fix
	}
	return s
}

// Severity of a condition.
type Severity string

// The severities.
const (
	OK       Severity = "ok"
	Info     Severity = "info"
	Warning  Severity = "warning"
	Critical Severity = "critical"
)

// Condition is one line of a node's health.
type Condition struct {
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	Text     string   `json:"text"` // names the fixing command
	// Affects says what depends on it.
	Affects string    `json:"affects"`
	Since   time.Time `json:"since,omitzero"`
}

// Status is what one node says of itself.
type Status struct {
	Node    string `json:"node"`
	Version string `json:"version"`
	Boot    string `json:"boot"`
	PID     int    `json:"pid"`
	// StorePID is the process of the embedded etcd; 0 if it is down.
	StorePID int `json:"store_pid"`
	// External is where the log lies if not in an embedded etcd: the endpoints.
	External []string  `json:"external_store,omitempty"`
	Started  time.Time `json:"started"`
	Cluster  string    `json:"cluster"`
	Mode     string    `json:"mode"`
	Writable bool      `json:"writable"`
	Why      string    `json:"why,omitempty"` // why not writable, and what to do
	// AsOf is when this node last saw the log move or answer: what it shows is
	// no newer.
	AsOf    time.Time     `json:"as_of,omitzero"`
	Head    eventlog.Head `json:"head"`
	Pending int           `json:"pending_facts"` // in the journal, not yet in the log
	// Sealed is the last event up to which this node has sealed segments on its
	// disk, Floor the last one that left the store.
	Sealed eventlog.Head `json:"sealed"`
	Floor  eventlog.Head `json:"floor"`
	// Size is how full the store is; nil while that is not known.
	Size       *StoreSize          `json:"store_size,omitempty"`
	View       projections.View    `json:"view"`
	Sessions   []speaker.Session   `json:"sessions"`
	Counts     map[string]int      `json:"counts"` // peers, pools, services, announced, withheld
	Conditions []Condition         `json:"conditions"`
	Nodes      []eventlog.Node     `json:"nodes"`
	Speaker    map[string]any      `json:"speaker,omitempty"`
	Timeline   map[string]Timeline `json:"timeline,omitempty"`
	// Now is this node's clock when it answered.
	Now time.Time `json:"now,omitzero"`
}

// Timeline holds the instants of the newest takeover on this node, for drills:
// what was seen and done when, by the node's clock.
type Timeline struct {
	Detected  time.Time `json:"detected,omitzero"`
	Decided   time.Time `json:"decided,omitzero"`
	Announced time.Time `json:"announced,omitzero"`
	// NextHop is when the first frame that takes over a next hop was sent.
	NextHop time.Time `json:"next_hop,omitzero"`
}

// NodeStatus is a Status, or why there is none.
type NodeStatus struct {
	Node   string  `json:"node"`
	Error  string  `json:"error,omitempty"`
	Status *Status `json:"status,omitempty"`
}

// SwitchView is a switch with what stands on it, as get/list show it.
type SwitchView struct {
	eventlog.Switch
	Peers []netip.Addr `json:"peers"`
	Pools []string     `json:"pools"`
	// Protocol is bgp with peers, layer2 without.
	Protocol string `json:"protocol"`
}

// PoolView is a pool with its use.
type PoolView struct {
	eventlog.Pool
	Size  string `json:"size"` // decimal; an IPv6 pool may exceed 64 bits
	Used  int    `json:"used"`
	Users int    `json:"users"`
}

// Explanation answers "what is with this address".
type Explanation struct {
	Address netip.Addr `json:"address"`
	Service string     `json:"service,omitempty"`
	Pool    string     `json:"pool,omitempty"`
	// Lines are the reasons, from the rule that applies first.
	Lines         []string                   `json:"lines"`
	Announcements []projections.Announcement `json:"announcements,omitempty"`
	Events        []eventlog.Public          `json:"events,omitempty"`
}
