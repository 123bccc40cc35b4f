package eventlog

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"
)

// Removed is the payload of every *.removed event: the identity is enough, as
// the envelope's Prev holds what stood before.
type Removed struct {
	Name    string     `json:"name,omitempty"`
	Switch  string     `json:"switch,omitempty"`
	Address netip.Addr `json:"address,omitzero"`
}

// EpochPayload is the payload of epoch.started: the set of writers changed.
type EpochPayload struct {
	Epoch   Epoch    `json:"epoch"`
	Mode    string   `json:"mode"`
	Writers []string `json:"writers"`
	Cluster string   `json:"cluster,omitempty"`
}

// NodeRef is the payload of node.drained and node.undrained.
type NodeRef struct {
	Name string `json:"name"`
}

// AgentPayload is the payload of agent.started and agent.stopped.
type AgentPayload struct {
	Version string `json:"version,omitempty"`
	PID     int    `json:"pid,omitempty"`
	Planned bool   `json:"planned,omitempty"`
}

// RejectedPayload is the payload of command.rejected.
type RejectedPayload struct {
	Command string `json:"command"`
	Code    string `json:"code"`
	What    string `json:"what"`
	Why     string `json:"why"`
}

// SessionPayload is the payload of session.up and session.down.
type SessionPayload struct {
	Peer netip.Addr `json:"peer"`
	// HoldTime is the negotiated hold time in seconds.
	HoldTime uint16 `json:"hold_time_s,omitempty"`
	Why      string `json:"why,omitempty"`
}

// VerdictPayload is the payload of node.verdict.
type VerdictPayload struct {
	Node    string `json:"node"`
	Verdict string `json:"verdict"`
	Was     string `json:"was"`
	Sensor  string `json:"sensor"`
	// Silence is how long the node had not been heard, if known.
	Silence time.Duration `json:"silence_ns,omitempty"`
	// Kernel is what the node's kernel does while its agent is silent: answers or
	// silent; empty if it was not asked.
	Kernel string `json:"kernel,omitempty"`
	// Paths are the ways on which the node is heard, sorted.
	Paths []string `json:"paths,omitempty"`
}

// NextHopPayload is the payload of nexthop.taken and nexthop.given: this node
// told a segment that another node's address is at its own MAC, or back at its
// owner's.
type NextHopPayload struct {
	Node      string     `json:"node"` // whose address it is
	Address   netip.Addr `json:"address"`
	Interface string     `json:"interface"`
}

// PulsePayload is the payload of pulse.down and pulse.up.
type PulsePayload struct {
	Why      string `json:"why,omitempty"`
	Restarts int    `json:"restarts,omitempty"`
}

// StancePayload is the payload of stance.changed: the preference at which this
// node announces.
type StancePayload struct {
	Stance string `json:"stance"`
	Was    string `json:"was"`
	Code   string `json:"code"`
}

// RoutesPayload is the payload of routes.announced: one changed wish, handed
// to the speaker.
type RoutesPayload struct {
	Announced int    `json:"announced"`
	Withdrawn int    `json:"withdrawn"`
	Changed   int    `json:"changed"`
	Rung      string `json:"rung,omitempty"`
	// Took is the time from the decision to the last byte handed to the speaker.
	Took time.Duration `json:"took_ns"`
}

// HealthPayload is the payload of service.health.
type HealthPayload struct {
	Service string `json:"service"`
	Healthy bool   `json:"healthy"`
	Why     string `json:"why,omitempty"`
}

// StorePayload is the payload of store.down and store.up.
type StorePayload struct {
	Why      string `json:"why,omitempty"`
	Restarts int    `json:"restarts,omitempty"`
}

// DrillPayload is the payload of drill.started and drill.ended.
type DrillPayload struct {
	Drill  string         `json:"drill"`
	Node   string         `json:"node,omitempty"`
	Result map[string]any `json:"result,omitempty"`
}

// NewDraft builds a draft of the given type with its payloads encoded. prev may
// be nil.
func NewDraft(t Type, stream string, data, prev any) (Draft, error) {
	d := Draft{Type: t, Version: 1, Stream: stream}
	var err error
	if d.Data, err = json.Marshal(data); err != nil {
		return Draft{}, fmt.Errorf("encode %s: %w", t, err)
	}
	if prev != nil {
		if d.Prev, err = json.Marshal(prev); err != nil {
			return Draft{}, fmt.Errorf("encode what was before %s: %w", t, err)
		}
	}
	return d, nil
}

// Payload decodes the data of a draft.
func Payload[T any](d Draft) (T, error) {
	var v T
	if err := json.Unmarshal(d.Data, &v); err != nil {
		return v, fmt.Errorf("%w: payload of %s in %s: %w", ErrCorrupt, d.Type, d.Stream, err)
	}
	return v, nil
}
