package projections

import (
	"maps"
	"net/netip"
	"slices"

	"dyad/eventlog"
)

// PeerKey identifies a peer: the same address may be a peer on two switches.
type PeerKey struct {
	Switch  string
	Address netip.Addr
}

// Compare orders keys by switch, then address.
func (k PeerKey) Compare(o PeerKey) int {
	if k.Switch != o.Switch {
		if k.Switch < o.Switch {
			return -1
		}
		return 1
	}
	return k.Address.Compare(o.Address)
}

// State is everything the log says, folded up to Head. It is a value: [Fold]
// returns a new one and leaves the old one as it was, so a State may be read
// by any number of goroutines.
//
// Invariant: the maps of a State are never written after Fold returned it.
type State struct {
	Head    eventlog.Head
	Cluster string
	Mode    string
	// Floor is the last event that the log may have dropped.
	Floor   eventlog.Head
	Writers []string
	Nodes   map[string]eventlog.Node
	Drained map[string]bool
	// Failbacks counts for each node how often it was let have its share again.
	Failbacks map[string]uint64
	Switches  map[string]eventlog.Switch
	Peers     map[PeerKey]eventlog.Peer
	Pools     map[string]eventlog.Pool
	Services  map[string]eventlog.Service
	// Voter is the machine that only holds the third vote; zero: there is none. It
	// is no node: it announces nothing and keeps no old events.
	Voter eventlog.Node
	// Witness is where the cluster's claim lies; zero: nowhere.
	Witness eventlog.Witness
	// Tokens are the join tokens by ID. One that is over stays until the next
	// is made; see [Token.Expired].
	Tokens map[string]Token
	// Revoked are certificates that are worth nothing before they end; see
	// [State.Refuses].
	Revoked map[string]Revocation
	// Taken maps every allocated address to the service that has it.
	Taken map[netip.Addr]string
	// Skipped counts intents whose payload could not be read.
	Skipped int
}

// NodeNames returns the names of all nodes, sorted.
func (s State) NodeNames() []string { return slices.Sorted(maps.Keys(s.Nodes)) }

// ModeExternal is the mode of a log in a store that others run: every node writes
// it, and Writers names nobody.
const ModeExternal = "EXTERNAL"

// LogWriters are the nodes that may write the log, sorted.
func (s State) LogWriters() []string {
	if s.Mode == ModeExternal {
		return s.NodeNames()
	}
	return slices.DeleteFunc(slices.Sorted(slices.Values(s.Writers)), func(n string) bool { _, node := s.Nodes[n]; return !node })
}

// PeerKeys returns the keys of all peers, sorted by switch and address.
func (s State) PeerKeys() []PeerKey {
	return slices.SortedFunc(maps.Keys(s.Peers), PeerKey.Compare)
}

// PeersOn returns the peers of one switch, sorted by address.
func (s State) PeersOn(name string) []eventlog.Peer {
	var out []eventlog.Peer
	for _, k := range s.PeerKeys() {
		if k.Switch == name {
			out = append(out, s.Peers[k])
		}
	}
	return out
}

// Used counts the addresses of a pool that services have, and those services.
func (s State) Used(pool string) (addresses, services int) {
	for _, v := range s.Services {
		if v.Pool == pool {
			addresses += len(v.Addresses)
			services++
		}
	}
	return addresses, services
}
