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
	// Before is for a node: its certificates issued until then are worth nothing.
	Before time.Time `json:"before,omitzero"`
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

// AddressPayload is the payload of address.taken and address.given: this node
// answers for service addresses on an interface without BGP, or does so no more;
// and of address.conflict and address.cleared: another host claims them, or no
// longer does.
type AddressPayload struct {
	Addresses []netip.Addr `json:"addresses"`
	Switch    string       `json:"switch"`
	Interface string       `json:"interface"`
	// MAC is of who claims them, if anybody does.
	MAC string `json:"mac,omitempty"`
	Why string `json:"why,omitempty"`
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

// ModePayload is the payload of log.mode: what a node may do with the log.
type ModePayload struct {
	Mode  string `json:"mode"`
	Was   string `json:"was,omitempty"`
	Epoch Epoch  `json:"epoch"`
	// Writable: this node takes intents.
	Writable bool   `json:"writable"`
	Why      string `json:"why,omitempty"`
}

// FencePayload is the payload of node.fenced: the fence was asked to switch a
// node off.
type FencePayload struct {
	Node string `json:"node"`
	// Off: it was read back as off.
	Off bool   `json:"off"`
	Why string `json:"why,omitempty"` // why not
}

// DrillPayload is the payload of drill.started and drill.ended.
type DrillPayload struct {
	Drill  string         `json:"drill"`
	Node   string         `json:"node,omitempty"`
	Result map[string]any `json:"result,omitempty"`
}

// RouterProbePayload is the payload of router.probe-started and
// router.probe-ended: a test route was announced to a router by both nodes.
type RouterProbePayload struct {
	Peer   netip.Addr   `json:"peer"`
	Prefix netip.Prefix `json:"prefix"`
	// Result is ok, warning, problem or unknown, and Why says it in words; empty
	// at the start.
	Result string       `json:"result,omitempty"`
	Why    string       `json:"why,omitempty"`
	Steps  []ProbedStep `json:"steps,omitempty"`
}

// ProbedStep is what a router made of one difference.
type ProbedStep struct {
	Step string `json:"step"` // origin, as-path, med, local-pref, all
	// Mover is the node that announced better; Moved tells that the router then
	// chose it, Took after how long the change was heard back.
	Mover string        `json:"mover,omitempty"`
	Moved bool          `json:"moved"`
	Took  time.Duration `json:"took_ns,omitempty"`
}

// TrimPayload is the payload of log.trimmed: from here on the store keeps only
// what follows UpTo; the rest is in sealed segments.
type TrimPayload struct {
	UpTo Head `json:"up_to"`
	// Sealed says up to where each node had sealed segments on its disk.
	Sealed map[string]Seq `json:"sealed"`
}

// OrphanedPayload is the payload of log.orphaned: events that stood in one
// node's store alone when the cluster went on without it. A long run comes in
// several such events, each with its part.
type OrphanedPayload struct {
	// From and Last are the first and the last sequence here; the log has other
	// events there.
	From Seq `json:"from"`
	Last Seq `json:"last,omitempty"`
	// Count is how many events are here.
	Count int `json:"count,omitempty"`
	// Node had them, in that boot of its agent; Archive is where its store lies now.
	Node    string `json:"node,omitempty"`
	Boot    string `json:"boot,omitempty"`
	Archive string `json:"archive,omitempty"`
	// Part of Parts, from 1.
	Part  int `json:"part,omitempty"`
	Parts int `json:"parts,omitempty"`
	// Events are the events exactly as they were stored (see [Encode]).
	Events []string `json:"events"`
}

// Orphan builds the payload for a run of events, oldest first.
func Orphan(node, boot, archive string, run []Envelope) (OrphanedPayload, error) {
	p := OrphanedPayload{Node: node, Boot: boot, Archive: archive, Count: len(run), Events: make([]string, 0, len(run))}
	for _, e := range run {
		b, err := Encode(e)
		if err != nil {
			return p, err
		}
		p.Events = append(p.Events, string(b))
	}
	if len(run) > 0 {
		p.From, p.Last = run[0].Seq, run[len(run)-1].Seq
	}
	return p, nil
}

// Envelopes decodes the events, and checks the hash of each.
func (p OrphanedPayload) Envelopes() ([]Envelope, error) {
	out := make([]Envelope, 0, len(p.Events))
	for i, s := range p.Events {
		e, err := Decode([]byte(s))
		if err != nil {
			return nil, fmt.Errorf("orphan %d of %d: %w", i+1, len(p.Events), err)
		}
		out = append(out, e)
	}
	return out, nil
}

// TokenPayload is the payload of token.created: a join token, known by the
// fingerprint of its public key. Its secret is never in an event.
type TokenPayload struct {
	// ID is the beginning of Fingerprint, short enough to type.
	ID string `json:"id"`
	// Fingerprint is the SHA-256 of the public key, in hex.
	Fingerprint string `json:"fingerprint"`
	// Purpose is what the token is good for: join.
	Purpose string    `json:"purpose"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

// TokenUse is the payload of token.used: a node joined with it.
type TokenUse struct {
	ID   string `json:"id"`
	Node string `json:"node"`
	// Key is the fingerprint of the joining node's public key: only that key
	// may repeat a join that broke off.
	Key string `json:"key"`
}

// TokenRef is the payload of token.revoked.
type TokenRef struct {
	ID string `json:"id"`
}

// DeniedPayload is the payload of access.denied; the envelope's actor is who
// tried.
type DeniedPayload struct {
	What string `json:"what"` // the command's verb, or the route
	Need string `json:"need"` // the role it takes
	Have string `json:"have"` // the role the actor has
}

// CertificatePayload is the payload of certificate.issued.
type CertificatePayload struct {
	Name string `json:"name"`
	Kind string `json:"kind"` // node, user
	Role string `json:"role,omitempty"`
	// Fingerprint is the SHA-256 of the certificate, in hex.
	Fingerprint string    `json:"fingerprint"`
	Expires     time.Time `json:"expires"`
}

// RevokedPayload is the payload of certificate.revoked: one certificate of a user,
// by its fingerprint, or all of one name that were issued until Before.
type RevokedPayload struct {
	Name        string    `json:"name,omitempty"`
	Kind        string    `json:"kind"` // user
	Fingerprint string    `json:"fingerprint,omitempty"`
	At          time.Time `json:"at"`
	Before      time.Time `json:"before,omitzero"`
	// Until is when the last of them has ended by itself.
	Until time.Time `json:"until"`
}

// KeyRef is the payload of gossip.key-rotated: the new key's fingerprint.
type KeyRef struct {
	Fingerprint string `json:"fingerprint"`
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
