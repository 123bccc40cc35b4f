package cluster

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"dyad/cluster/api"
	"dyad/cluster/config"
	"dyad/cluster/quorum"
	"dyad/cluster/steward"
	"dyad/eventlog"
	"dyad/failover"
	"dyad/projections"
	"dyad/speaker"
)

// Parts is everything an [Agent] works with. All of it is owned, and closed, by
// whoever built it, after [Agent.Run] returned.
type Parts struct {
	Config  config.Config
	Version string
	Boot    string // changes at every start
	PID     int

	Log     eventlog.Log
	Journal Journal
	Speaker speaker.Speaker
	// Layer2 is the part of Speaker that answers for addresses on segments without
	// a router; nil where there is none.
	Layer2 speaker.Layer2
	// Addresses may be nil: then nothing is put on the host.
	Addresses Addresses
	// Peer asks the other node; see [Remote].
	Peer Remote
	// Witness may be nil: then a cluster that has one is told that this node can't
	// ask it.
	Witness Witness
	// KeptWitness is the one that this node would ask after a restart; nil: that
	// of its state.
	KeptWitness func() eventlog.Witness
	// Checkpoint keeps the folded state between starts.
	Checkpoint Checkpoint
	// Retention keeps old events; nil where the log is never trimmed.
	Retention *Retention
	// Admit carries out a join; nil where joining is not possible.
	Admit func(ctx context.Context, who api.Caller, r api.JoinRequest) (api.JoinResponse, error)
	// Readmit admits a node of the cluster again whose store was set aside; nil
	// where there is no store.
	Readmit func(ctx context.Context, r api.JoinRequest) (api.JoinResponse, error)
	// Host examines this host for [Agent.Doctor]; nil where there is none.
	Host Host
	// Tester announces test routes; nil where no router can be asked.
	Tester speaker.Tester
	// Identity keeps certificates and keys; nil where there are none.
	Identity Identity
	// OnState is called from the loop with every new state; it must not block.
	OnState func(projections.State)
	// Bootstrap are commands the agent sees to as soon as it is in sync: its
	// own node, its switches, the first epoch.
	Bootstrap func(projections.State) []projections.Command

	Now    func() time.Time
	NewID  func() string // UUIDv7
	Logger *slog.Logger
}

// Attached are the parts that need the agent themselves: they report to
// [Agent.Emit] and [Agent.StoreChanged].
type Attached struct {
	Detector Detector
	// Checker may be nil: then every service counts as healthy.
	Checker Checker
	// Pulse may be nil: then the detector alone watches the other node.
	Pulse Pulse
	// Store tells about the embedded store; nil if there is none to supervise.
	Store Store
	// Quorum keeps the log writable; nil where the log can always be written as
	// long as its store runs.
	Quorum Quorum
}

// Quorum says who may write the log (dyad/cluster/steward).
type Quorum interface {
	Status() steward.Status
	// Takeover goes on alone, by an operator's word.
	Takeover(ctx context.Context, w quorum.Word) error
	// Leave hands the log to the other node before a planned stop.
	Leave(ctx context.Context) error
}

// Journal keeps facts until they stand in the log (dyad/eventlog/journal).
type Journal interface {
	Append(ctx context.Context, drafts ...eventlog.Draft) error
	Pending(limit int) ([]eventlog.Draft, error)
	MarkCopied(ctx context.Context, last eventlog.Origin) error
	Len() int
}

// Addresses puts service addresses on the host (dyad/speaker/address).
type Addresses interface {
	Set(ctx context.Context, want []netip.Addr) (added, removed int, err error)
	Foreign() []netip.Addr
}

// Detector tells the other node about this one (dyad/failover/detect).
type Detector interface {
	Announce(r failover.Report)
}

// Checker runs the local health checks (dyad/failover/detect).
type Checker interface {
	Set(ctx context.Context, services map[string]eventlog.Service)
}

// Remote asks another node's API.
type Remote interface {
	Status(ctx context.Context, n eventlog.Node) (api.Status, error)
	Announcements(ctx context.Context, n eventlog.Node) ([]projections.Announcement, error)
	Witness(ctx context.Context, n eventlog.Node) (api.WitnessStatus, error)
	Segments(ctx context.Context, n eventlog.Node) ([]api.Segment, error)
	Segment(ctx context.Context, n eventlog.Node, first eventlog.Seq) ([]byte, error)
	Doctor(ctx context.Context, n eventlog.Node) (api.Examination, error)
	TestRoute(ctx context.Context, n eventlog.Node, r api.TestRouteRequest) (api.TestRouteAnswer, error)
}

// Host examines the host that a node runs on (dyad/cluster/hostcheck).
type Host interface {
	// Examine looks at settings, disk, interfaces, and the paths to others. What
	// can't be found out is a finding too.
	Examine(ctx context.Context, q HostQuestion) []api.Finding
}

// HostQuestion is what a host is examined for.
type HostQuestion struct {
	DataDir string
	// Ports are this node's, on switches.
	Ports []eventlog.Port
	// Listeners must be reachable from here: the other node's.
	Listeners []Listener
	// Neighbors must get packets of full size: the other node on every path, and
	// routers.
	Neighbors []Neighbor
}

// Listener is a TCP port of another node.
type Listener struct {
	Name    string // api, gossip, store
	Address netip.AddrPort
}

// Neighbor is an address that this host sends to.
type Neighbor struct {
	Name      string // for people
	Interface string // empty: what the routes say
	Own       netip.Addr
	Address   netip.Addr
}

// Store is the supervised child process that holds the log.
type Store interface {
	PID() int
	Restarts() int
}

// Checkpoint keeps a folded state.
type Checkpoint interface {
	// Load returns ok false if there is none.
	Load() (s projections.State, ok bool, err error)
	Save(ctx context.Context, s projections.State) error
}
