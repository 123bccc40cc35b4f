package projections

import (
	"fmt"
	"net/netip"
	"time"

	"dyad/eventlog"
)

// Command is something an operator, a file or an adapter wants. The commands
// are: [SetPeer], [RemovePeer], [SetPool], [RemovePool], [SetService],
// [RemoveService], [DeclareSwitch], [RemoveSwitch], [JoinNode], [RemoveNode],
// [ReplaceNode], [DrainNode], [JoinVoter], [RemoveVoter], [SetWitness], [RemoveWitness], [StartEpoch], [RaiseEpoch],
// [TrimLog], [CreateToken], [UseToken], [RevokeToken],
// [RevokeCertificate] and [Apply].
type Command interface {
	// Verb is the command as an operator knows it: "peer set".
	Verb() string
}

// Meta is who wants a command, and why. It goes into every event of it.
type Meta struct {
	Actor       eventlog.Actor
	Source      eventlog.Source
	Reason      string
	Correlation string
	Causation   string // ID of the event that led to it
	Key         string // idempotency key
}

type (
	// SetPeer adds a BGP peer or changes one. Numbers are wide so that values
	// out of range can be refused with their text. HoldTime nil means 90 s.
	SetPeer struct {
		Switch   string     `json:"switch"`
		Address  netip.Addr `json:"address"`
		PeerASN  int64      `json:"peer_asn"`
		SelfASN  int64      `json:"self_asn"`
		HoldTime *int64     `json:"hold_time_s,omitempty"`
		// New refuses to change a peer that exists.
		New bool `json:"new,omitempty"`
	}
	// RemovePeer removes a peer.
	RemovePeer struct {
		Switch  string     `json:"switch"`
		Address netip.Addr `json:"address"`
	}
	// SetPool adds a pool or changes one. A change may not orphan an address
	// in use.
	SetPool struct {
		Name   string           `json:"name"`
		Ranges []eventlog.Range `json:"ranges"`
		Switch string           `json:"switch,omitempty"`
		Manual bool             `json:"manual,omitempty"`
		New    bool             `json:"new,omitempty"`
	}
	// RemovePool removes a pool nobody uses.
	RemovePool struct {
		Name string `json:"name"`
	}
	// SetService adds a service or changes one. Addresses stay as they are
	// unless the pool or an explicit address asks for others.
	SetService struct {
		Name      string             `json:"name"`
		Pool      string             `json:"pool,omitempty"` // empty: any pool that is not manual
		Addresses []netip.Addr       `json:"addresses,omitempty"`
		Family    string             `json:"family,omitempty"` // ipv4 (default where the pool has it), ipv6, dual
		Placement eventlog.Placement `json:"placement,omitempty"`
		Prefer    string             `json:"prefer,omitempty"` // node; empty: balanced
		Check     *eventlog.Check    `json:"check,omitempty"`
		New       bool               `json:"new,omitempty"`
	}
	// MoveServices makes another node the preferred one of services, and pins it.
	MoveServices struct {
		Services []string `json:"services,omitempty"`
		All      bool     `json:"all,omitempty"` // every service in active-standby; Services is empty
		To       string   `json:"to,omitempty"`  // node; empty: of two nodes, the one that is not preferred now
	}
	// RemoveService removes a service and frees its addresses.
	RemoveService struct {
		Name string `json:"name"`
	}
	// DeclareSwitch adds a switch, or changes its roles and ports. Ports are
	// merged by node: a node declares its own and leaves the other's alone.
	DeclareSwitch struct {
		Switch eventlog.Switch `json:"switch"`
	}
	// RemoveSwitch removes a switch without peers.
	RemoveSwitch struct {
		Name string `json:"name"`
	}
	// JoinNode adds a node, or updates its addresses.
	JoinNode struct {
		Node eventlog.Node `json:"node"`
	}
	// RemoveNode removes a node. Its certificates issued until Now are worth
	// nothing from then on.
	RemoveNode struct {
		Name string    `json:"name"`
		Now  time.Time `json:"-"`
	}
	// ReplaceNode removes a node, if that has not been done, and hands what was
	// declared for it to the machine that comes in its place: its ports, and the
	// services that prefer it. With may be the same name. Self is the node that
	// writes the log alone from then on.
	ReplaceNode struct {
		Name string
		With string
		Self string
		Now  time.Time
	}
	// DrainNode makes a node step down (On) or come back.
	DrainNode struct {
		Node string `json:"node"`
		On   bool   `json:"on"`
	}
	// FailBack lets a node that was down and is well again have its share, where it
	// would have to wait for a word or for the time of day.
	FailBack struct {
		Node string `json:"node"`
	}
	// StartEpoch records a change of the set of writers.
	StartEpoch struct {
		Epoch   eventlog.Epoch `json:"epoch"`
		Mode    string         `json:"mode"`
		Writers []string       `json:"writers"`
		Cluster string         `json:"cluster,omitempty"`
	}
	// SetWitness names the place where the cluster's claim lies. Whoever asks for
	// it has registered the claim there.
	SetWitness struct {
		URL         string `json:"url"`
		Fingerprint string `json:"fingerprint,omitempty"`
		// Replace puts it in the place of the one that the cluster has.
		Replace bool `json:"replace,omitempty"`
		// Epoch is the log's when the claim was registered; 0 is any.
		Epoch eventlog.Epoch `json:"-"`
	}
	// RemoveWitness goes on without a witness. In a pair it raises the epoch.
	RemoveWitness struct {
		// Lost: the caller vouches that it never answers again.
		Lost  bool           `json:"lost,omitempty"`
		Epoch eventlog.Epoch `json:"-"` // as in SetWitness
	}
	// RaiseEpoch starts an epoch of the same pair, once both nodes have taken
	// Witness over. It is dyad's own: no operator sends it.
	RaiseEpoch struct {
		To      eventlog.Epoch   `json:"to"`
		Witness eventlog.Witness `json:"witness"`
	}
	// TrimLog records that the log drops its events up to one that every node
	// has sealed. It is dyad's own: no operator sends it.
	TrimLog struct {
		UpTo   eventlog.Head           `json:"up_to"`
		Sealed map[string]eventlog.Seq `json:"sealed"`
	}
	// CreateToken makes a join token known by its public key; the secret stays
	// with whoever drew it. Now is the agent's clock: see [At].
	CreateToken struct {
		// Fingerprint is the SHA-256 of the public key, in hex.
		Fingerprint string `json:"fingerprint"`
		// TTL is how long it is good for; MinTokenTTL–MaxTokenTTL.
		TTL time.Duration `json:"ttl_ns"`
		// Purpose is PurposeJoin; empty means that.
		Purpose string    `json:"purpose,omitempty"`
		Now     time.Time `json:"-"`
	}
	// UseToken spends a token. The same node with the same key may do it again,
	// so that a join that broke off can be repeated.
	UseToken struct {
		ID   string
		Node string
		Key  string // fingerprint of the node's public key
		Now  time.Time
	}
	// RevokeToken makes a token worthless, used or not.
	RevokeToken struct {
		ID string `json:"id"`
	}
	// RevokeCertificate makes certificates of users worthless: one by its
	// fingerprint, or all of a name that were issued until now.
	RevokeCertificate struct {
		Name        string    `json:"name,omitempty"`
		Fingerprint string    `json:"fingerprint,omitempty"`
		Now         time.Time `json:"-"`
	}
	// Apply does several commands as one: all or none.
	Apply struct {
		Commands []Command `json:"commands"`
	}
)

// Verbs of the commands.
func (SetPeer) Verb() string       { return "peer set" }
func (RemovePeer) Verb() string    { return "peer remove" }
func (SetPool) Verb() string       { return "pool set" }
func (RemovePool) Verb() string    { return "pool remove" }
func (SetService) Verb() string    { return "service set" }
func (RemoveService) Verb() string { return "service remove" }
func (MoveServices) Verb() string  { return "service move" }
func (DeclareSwitch) Verb() string { return "switch set" }
func (RemoveSwitch) Verb() string  { return "switch remove" }
func (JoinNode) Verb() string      { return "node join" }
func (RemoveNode) Verb() string    { return "node remove" }
func (ReplaceNode) Verb() string   { return "node replace" }
func (SetWitness) Verb() string    { return "witness set" }
func (RemoveWitness) Verb() string { return "witness remove" }
func (StartEpoch) Verb() string    { return "epoch start" }
func (RaiseEpoch) Verb() string    { return "epoch raise" }
func (TrimLog) Verb() string       { return "log trim" }
func (CreateToken) Verb() string   { return "token create" }
func (UseToken) Verb() string      { return "token use" }
func (RevokeToken) Verb() string   { return "token revoke" }
func (Apply) Verb() string         { return "apply" }

func (FailBack) Verb() string { return "node failback" }

// Verb is a line of its own: it is longer than the others.
func (RevokeCertificate) Verb() string { return "cert revoke" }

// At gives the commands in c that depend on the time the time now. Whoever takes
// commands from outside calls it, so that no caller chooses the time.
func At(c Command, now time.Time) Command {
	switch v := c.(type) {
	case CreateToken:
		v.Now = now.UTC()
		return v
	case RevokeCertificate:
		v.Now = now.UTC()
		return v
	case RemoveNode:
		v.Now = now.UTC()
		return v
	case Apply:
		out := make([]Command, 0, len(v.Commands))
		for _, sub := range v.Commands {
			out = append(out, At(sub, now))
		}
		return Apply{Commands: out}
	}
	return c
}

// Verb tells the two directions apart.
func (c DrainNode) Verb() string {
	if c.On {
		return "node drain"
	}
	return "node undrain"
}

// Refusal is a rule's answer to a command: what was refused, why, and the
// command or value that fixes it.
type Refusal struct {
	Code string `json:"code"` // stable, such as asn-range
	What string `json:"what"`
	Why  string `json:"why"`
	Fix  string `json:"fix"`
}

func (r *Refusal) Error() string {
	s := fmt.Sprintf("%s: %s", r.What, r.Why)
	if r.Fix != "" {
		s += "\n  try: " + r.Fix
	}
	return s
}

func refuse(code, what, fix, why string, args ...any) error {
	return &Refusal{Code: code, What: what, Why: fmt.Sprintf(why, args...), Fix: fix}
}
