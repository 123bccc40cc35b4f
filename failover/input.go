package failover

import (
	"net/netip"
	"time"

	"dyad/eventlog"
	"dyad/projections"
)

// Input is something a sensor or the agent tells the machine.
type Input interface{ input() }

// Sensor names, as they stand in facts.
const (
	SensorMemberlist = "memberlist"
	SensorReport     = "report" // what the peer says of itself
)

type (
	// Tick lets due deadlines fire; see [Output.WakeAt].
	Tick struct{}
	// PeerAlive: a sensor hears the node (again).
	PeerAlive struct{ Node, Sensor string }
	// PeerSilent: a sensor declares the node dead.
	PeerSilent struct {
		Node, Sensor string
		// Silence is how long the node had not been heard, if the sensor knows.
		Silence  time.Duration
		Evidence map[string]any
	}
	// PeerLeft: the node said goodbye.
	PeerLeft struct{ Node, Sensor string }
	// PeerReport: what the other node says of itself.
	PeerReport struct {
		Node   string
		Report Report
	}
	// Session: one of our own BGP sessions changed. Expected counts come from
	// the folded state through Peers.
	Session struct {
		Peer        netip.Addr
		Established bool
	}
	// Peers: which BGP peers this node should have sessions with.
	Peers struct{ Want []netip.Addr }
	// Synced: this node's fold has caught up with the log (or lost it).
	Synced struct{ OK bool }
	// ServiceHealth: a local check turned.
	ServiceHealth struct {
		Service string
		Healthy bool
		Why     string
	}
	// Services: which services exist, to forget the health of those that don't.
	Services struct{ Names []string }
	// Nodes: which nodes the log says the cluster has, this one included. A
	// node that was removed counts no more, and one never heard is shown as
	// unknown. An empty list says nothing: every node that is heard counts.
	Nodes struct{ Names []string }
	// Drained: the log says which nodes are drained.
	Drained struct{ Nodes map[string]bool }
	// Allowed: how often the log let each node have its share again.
	Allowed struct{ Nodes map[string]uint64 }
	// Log: what this node is in the log, for the other one to know.
	Log struct {
		Epoch eventlog.Epoch
		Mode  string
	}
	// Stopping: this agent was told to stop; step down first.
	Stopping struct{}
	// Silence: announce nothing any more; the last act of a stop.
	Silence struct{}
)

func (Tick) input()          {}
func (PeerAlive) input()     {}
func (PeerSilent) input()    {}
func (PeerLeft) input()      {}
func (PeerReport) input()    {}
func (Session) input()       {}
func (Peers) input()         {}
func (Synced) input()        {}
func (ServiceHealth) input() {}
func (Services) input()      {}
func (Nodes) input()         {}
func (Drained) input()       {}
func (Allowed) input()       {}
func (Log) input()           {}
func (Stopping) input()      {}
func (Silence) input()       {}

// Report is what a node tells the other about itself, in memberlist metadata
// (at most 512 bytes encoded) and in direct messages.
type Report struct {
	// Node is who reports; needed where the message itself does not tell.
	Node string `json:"w,omitempty"`
	// Boot changes at every start of the agent.
	Boot string `json:"b"`
	// Started is when this boot began, in Unix milliseconds by the node's own
	// clock. It orders the boots of one node, and is compared with nothing else.
	Started int64              `json:"t,omitempty"`
	Stance  projections.Stance `json:"s"`
	// Ready: synced, and Established with every wanted peer.
	Ready bool `json:"r"`
	// Stopping: a planned stop has begun.
	Stopping bool           `json:"x,omitempty"`
	Epoch    eventlog.Epoch `json:"e"`
	Mode     string         `json:"m,omitempty"`
	Applied  eventlog.Seq   `json:"a"`
	// API is host:port of the node's API.
	API string `json:"u,omitempty"`
	// N rises with each report of one boot, so that an old one that arrives
	// late changes nothing.
	N uint64 `json:"n"`
}

// Fact is something the machine saw or did, for the journal.
type Fact struct {
	Type     eventlog.Type
	Stream   string
	Data     any
	Evidence map[string]any
	Reason   string
	At       time.Time
}

// Output is what a step led to.
type Output struct {
	View    projections.View
	Changed bool // View differs from the last one
	Report  Report
	// ReportChanged asks the caller to tell the peer.
	ReportChanged bool
	Facts         []Fact
	// Contacts holds what is heard of every other node.
	Contacts map[string]Contact
	// WakeAt is when the machine wants a Tick; zero if it waits for nothing.
	WakeAt time.Time
}

// Config are the thresholds of the machine. The zero value of a field means its
// default.
type Config struct {
	Self string
	Boot string
	// FailbackDelay is how long a returned peer must have been Ready before
	// this node gives its takeover up (default 10 s). It doubles for every
	// death within FlapWindow (default 10 min), up to FailbackMax (5 min).
	FailbackDelay, FailbackMax, FlapWindow time.Duration
	// SuspectDelay takes the place of FailbackDelay after a suspicion that came to
	// nothing (default 1 s, at most FailbackDelay); it doubles likewise.
	SuspectDelay time.Duration
	// Failback says when a node that died gets its share; the zero value as soon as
	// it has proved itself.
	Failback Failback
}

// Defaults of Config.
const (
	DefaultFailbackDelay = 10 * time.Second
	DefaultFailbackMax   = 5 * time.Minute
	DefaultFlapWindow    = 10 * time.Minute
	DefaultSuspectDelay  = time.Second
)
