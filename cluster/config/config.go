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
	Speaker  Speaker    `json:"speaker"`
	Log      Log        `json:"log"`
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
	Profile        string   `json:"profile"`
	ProbeInterval  Duration `json:"probeInterval"` // 20 ms – 10 s
	ProbeTimeout   Duration `json:"probeTimeout"`
	SuspicionMult  int      `json:"suspicionMult"` // 1–10
	FailbackDelay  Duration `json:"failbackDelay"`
	FailbackMax    Duration `json:"failbackMax"`
	FlapWindow     Duration `json:"flapWindow"`
	StepDownSettle Duration `json:"stepDownSettle"` // planned stop: time the routers get
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
