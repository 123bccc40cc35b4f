package eventlog

import (
	"net/netip"
	"time"
)

// This file holds the nouns as they stand in event payloads. They are the
// stored form: fields are only ever added, and each is optional on read.

// Node is a member of the cluster.
type Node struct {
	Name string `json:"name"`
	// Address is the address the nodes use among themselves.
	Address netip.Addr `json:"address"`
	// Addresses are all prefixes configured on the node's interfaces when it
	// joined. A pool may not contain any of them.
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	// API is host:port of the node's API for the other node.
	API string `json:"api,omitempty"`
	// Gossip is host:port of the node's failure detector.
	Gossip string `json:"gossip,omitempty"`
	// Version is the dyad release the node joined with.
	Version string `json:"version,omitempty"`
	// Beacon is the host route by which the other node hears of this one through
	// routers; it is among Addresses, so no pool may contain it.
	Beacon netip.Prefix `json:"beacon,omitzero"`
}

// Port is a switch's attachment on one node.
type Port struct {
	Node      string `json:"node"`
	Interface string `json:"interface"`
	// Alias is the name an operator knows the port by, such as Port3.
	Alias string `json:"alias,omitempty"`
	// Addresses are the node's own prefixes on that interface.
	Addresses []netip.Prefix `json:"addresses,omitempty"`
}

// Switch is a named attachment to the network: interfaces on the nodes, and
// what they may be used for.
type Switch struct {
	Name  string `json:"name"`
	ID    string `json:"id"` // a UUID, the appliance's DbeDhcpHostVnicName
	Ports []Port `json:"ports,omitempty"`
	// Compute, Storage and Management are the roles. Only a switch enabled
	// for compute carries peers and services.
	Compute    bool   `json:"compute"`
	Storage    bool   `json:"storage"`
	Management bool   `json:"management"`
	Source     string `json:"source,omitempty"` // config, api, hcs
}

// Peer is a BGP neighbour of every node, reached through one switch.
type Peer struct {
	Switch  string     `json:"switch"`
	Address netip.Addr `json:"address"`
	// PeerASN and SelfASN are 1–65534 or 131072–4294967294.
	PeerASN uint32 `json:"peer_asn"`
	SelfASN uint32 `json:"self_asn"`
	// HoldTime is the proposed hold time in seconds, 0 or 3–65535
	// (RFC 4271 section 4.2). 0 asks for a session that never expires; what a
	// speaker can make of that is its business (docs/decisions/0002).
	HoldTime uint16 `json:"hold_time_s"`
}

// Pool is a set of addresses that services get theirs from.
type Pool struct {
	Name   string  `json:"name"`
	Ranges []Range `json:"ranges"`
	// Switch ties the pool to one switch; empty means any compute switch.
	Switch string `json:"switch,omitempty"`
	// Manual pools serve only services that name them.
	Manual bool `json:"manual,omitempty"`
}

// Placement says which nodes attract a service's traffic while both are well.
type Placement string

// The placements.
const (
	// ActiveStandby sends all traffic of a service to its preferred node.
	ActiveStandby Placement = "active-standby"
	// ActiveActive lets the router spread traffic over both nodes (ECMP).
	ActiveActive Placement = "active-active"
)

// Service is something reachable at one or two addresses from a pool.
type Service struct {
	Name string `json:"name"`
	Pool string `json:"pool"`
	// Addresses are the allocated addresses, at most one for each family.
	Addresses []netip.Addr `json:"addresses"`
	Placement Placement    `json:"placement"`
	// Preferred is the node that carries the traffic in active-standby.
	Preferred string `json:"preferred,omitempty"`
	// Pinned is true if an operator chose Preferred; otherwise it was balanced.
	Pinned bool   `json:"pinned,omitempty"`
	Check  *Check `json:"check,omitempty"`
}

// Witness is where the cluster's claim on its log lies, outside of both nodes.
type Witness struct {
	// URL is https://host:port, file:///directory/ or etcd://host:port/key. It
	// holds no secret and no fragment.
	URL string `json:"url"`
	// Fingerprint is the SHA-256 of the witness's certificate in hexadecimal;
	// empty if the system's roots decide, or for the other kinds.
	Fingerprint string `json:"fingerprint,omitempty"`
}

// String is the URL as an operator writes it, with the fingerprint behind #.
func (w Witness) String() string {
	if w.Fingerprint == "" {
		return w.URL
	}
	return w.URL + "#" + w.Fingerprint
}

// Check is a local health check that gates a service's announcement on each
// node by itself.
type Check struct {
	// Kind is tcp, http or exec.
	Kind string `json:"kind"`
	// Target is host:port for tcp, a URL for http, a command line for exec.
	Target string `json:"target"`
	// Interval between two checks and Timeout of one; 100 ms – 1 h.
	Interval time.Duration `json:"interval_ns"`
	Timeout  time.Duration `json:"timeout_ns"`
	// Rise and Fall are how many equal results in a row turn the verdict; 1–100.
	Rise int `json:"rise"`
	Fall int `json:"fall"`
}
