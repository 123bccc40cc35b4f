// Package config is the agent's configuration: a strict YAML file, the
// environment and flags, in rising precedence. What the cluster as a whole
// should do is not configuration: that is in the log.
package config

import (
	"net/netip"
	"time"
)

// Config is one node's configuration.
type Config struct {
	// Node is this node's name, unique in the cluster.
	Node string `json:"node"`
	// DataDir holds node.state, the store, the journal and the checkpoint.
	DataDir string `json:"dataDir"`
	// Socket is the unix socket of the API.
	Socket string `json:"socket"`
	// Address is the address the nodes use among themselves.
	Address netip.Addr `json:"address"`
	// RouterID is the BGP identifier; default: Address if it is IPv4.
	RouterID netip.Addr `json:"routerID"`
	Ports    Ports      `json:"ports"`
	Switches []Switch   `json:"switches"`
	Failover Failover   `json:"failover"`
	Takeover Takeover   `json:"takeover"`
	Speaker  Speaker    `json:"speaker"`
	Log      Log        `json:"log"`
	// Store is where the log lies; without endpoints in a store of this node's own.
	Store Store `json:"store"`
	// Retention says when events leave the store for sealed segments.
	Retention Retention `json:"retention"`
	Access    Access    `json:"access"`
	// Beacon is announced to routers, for the other node to hear.
	Beacon Beacon `json:"beacon"`
}

// Beacon is a third path between the nodes, through their routers.
type Beacon struct {
	// Prefix is a host route that nothing else uses, each node's own; none: no
	// beacon.
	Prefix netip.Prefix `json:"prefix"`
}

// Access gives users and groups of this node a role on the unix socket: viewer,
// operator or admin. Root and the agent's own user are admins, and whoever else
// may open the socket is a viewer.
type Access struct {
	Users  map[string]string `json:"users"`
	Groups map[string]string `json:"groups"`
}

// Retention bounds the store. Both nodes should have the same.
type Retention struct {
	// HotEvents stay in the store; 4,096–1,000,000. HotAge moves events on
	// earlier if they are older than that; 1 h – 10 years.
	HotEvents int      `json:"hotEvents"`
	HotAge    Duration `json:"hotAge"`
	// QuotaMiB bounds the store's file; 16–8,192.
	QuotaMiB int `json:"quotaMiB"`
}

// Ports are the TCP and UDP ports of this node, 1–65535.
type Ports struct {
	API         int `json:"api"`         // TCP on Address
	Gossip      int `json:"gossip"`      // TCP and UDP on Address
	Pulse       int `json:"pulse"`       // UDP on every path; the same on both nodes
	StorePeer   int `json:"storePeer"`   // TCP on Address, between the stores
	StoreClient int `json:"storeClient"` // TCP on 127.0.0.1
}

// Switch declares this node's attachment to a switch.
type Switch struct {
	Name       string `json:"name"`
	Interface  string `json:"interface"`
	Alias      string `json:"alias"`
	Compute    bool   `json:"compute"`
	Storage    bool   `json:"storage"`
	Management bool   `json:"management"`
}

// Failover are the thresholds of the detector and the machine.
type Failover struct {
	// Profile of the pulse: fast, standard, conservative, or off.
	Profile       string   `json:"profile"`
	ProbeInterval Duration `json:"probeInterval"` // 20 ms – 10 s
	ProbeTimeout  Duration `json:"probeTimeout"`
	SuspicionMult int      `json:"suspicionMult"` // 1–10
	FailbackDelay Duration `json:"failbackDelay"`
	FailbackMax   Duration `json:"failbackMax"`
	FlapWindow    Duration `json:"flapWindow"`
	// Failback is when a node that died gets its share again: auto, manual, or times
	// of day in UTC, such as 02:00-04:00, several with commas.
	Failback       string   `json:"failback"`
	StepDownSettle Duration `json:"stepDownSettle"` // planned stop: time the routers get
}

// Authority is whose word lets one node go on with the log alone.
type Authority string

// The authorities.
const (
	AuthorityAuto     Authority = "auto" // witness if the cluster has one, else fence if configured, else operator
	AuthorityWitness  Authority = "witness"
	AuthorityFence    Authority = "fence"
	AuthorityToR      Authority = "tor" // the routers; never chosen by auto
	AuthorityOperator Authority = "operator"
)

// Takeover is when this node may go on with the log alone.
type Takeover struct {
	Authority Authority `json:"authority"`
	// HoldDown is how long the peer must be silent on every path first; 500 ms –
	// 5 min, and at least 3 s with tor.
	HoldDown Duration `json:"holdDown"`
	Fence    Fence    `json:"fence"`
}

// Fence is the command that cuts the peer off (docs/fencing.md).
type Fence struct {
	// Command is an absolute path and its first arguments; empty: none.
	Command []string `json:"command"`
	// Timeout bounds one call; 1 s – 5 min.
	Timeout Duration `json:"timeout"`
}

// Speaker are settings of the BGP speaker on this node.
type Speaker struct {
	// ConnectRetry between attempts to open a session; 1–120 s.
	ConnectRetry Duration `json:"connectRetry"`
}

// Log is how the agent logs to stderr.
type Log struct {
	Level  string `json:"level"`  // debug, info, warn, error
	Format string `json:"format"` // text, json
}

// Duration reads "100ms" from YAML and JSON.
type Duration time.Duration

// Std is the value as the standard library knows it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// MarshalText writes 1m30s.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration accepts.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}
