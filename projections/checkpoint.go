package projections

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/netip"
	"slices"

	"dyad/eventlog"
)

// stored is a State as it is written to a checkpoint: sorted lists, so that
// equal states give equal bytes. Taken is not stored, it follows from Services.
type stored struct {
	Head      eventlog.Head      `json:"head"`
	Cluster   string             `json:"cluster"`
	Mode      string             `json:"mode"`
	Floor     eventlog.Head      `json:"floor,omitzero"`
	Writers   []string           `json:"writers,omitempty"`
	Nodes     []eventlog.Node    `json:"nodes,omitempty"`
	Drained   []string           `json:"drained,omitempty"`
	Failbacks map[string]uint64  `json:"failbacks,omitempty"`
	Switches  []eventlog.Switch  `json:"switches,omitempty"`
	Peers     []eventlog.Peer    `json:"peers,omitempty"`
	Pools     []eventlog.Pool    `json:"pools,omitempty"`
	Services  []eventlog.Service `json:"services,omitempty"`
	Voter     eventlog.Node      `json:"voter,omitzero"`
	Witness   eventlog.Witness   `json:"witness,omitzero"`
	Tokens    []Token            `json:"tokens,omitempty"`
	Revoked   []Revocation       `json:"revoked,omitempty"`
	Skipped   int                `json:"skipped,omitempty"`
}

// MarshalJSON writes the state in a canonical form.
func (s State) MarshalJSON() ([]byte, error) {
	peers := make([]eventlog.Peer, 0, len(s.Peers))
	for _, k := range s.PeerKeys() {
		peers = append(peers, s.Peers[k])
	}
	return json.Marshal(stored{
		Head: s.Head, Cluster: s.Cluster, Mode: s.Mode, Floor: s.Floor, Writers: s.Writers,
		Nodes: sorted(s.Nodes), Drained: slices.Sorted(maps.Keys(s.Drained)), Failbacks: s.Failbacks,
		Switches: sorted(s.Switches), Peers: peers, Pools: sorted(s.Pools),
		Services: sorted(s.Services), Tokens: sorted(s.Tokens), Revoked: sorted(s.Revoked), Voter: s.Voter, Witness: s.Witness, Skipped: s.Skipped,
	})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *State) UnmarshalJSON(b []byte) error {
	var v stored
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	*s = State{
		Head: v.Head, Cluster: v.Cluster, Mode: v.Mode, Floor: v.Floor, Writers: v.Writers, Voter: v.Voter, Witness: v.Witness, Skipped: v.Skipped,
		Nodes:     byName(v.Nodes, func(n eventlog.Node) string { return n.Name }),
		Drained:   map[string]bool{},
		Failbacks: v.Failbacks,
		Switches:  byName(v.Switches, func(n eventlog.Switch) string { return n.Name }),
		Peers:     map[PeerKey]eventlog.Peer{},
		Pools:     byName(v.Pools, func(n eventlog.Pool) string { return n.Name }),
		Services:  byName(v.Services, func(n eventlog.Service) string { return n.Name }),
		Tokens:    byName(v.Tokens, func(t Token) string { return t.ID }),
		Revoked:   byName(v.Revoked, Revocation.key),
		Taken:     map[netip.Addr]string{},
	}
	for _, n := range v.Drained {
		s.Drained[n] = true
	}
	for _, p := range v.Peers {
		s.Peers[PeerKey{p.Switch, p.Address}] = p
	}
	for _, sv := range v.Services {
		for _, a := range sv.Addresses {
			s.Taken[a] = sv.Name
		}
	}
	return nil
}

// sorted lists a table in the order of its keys.
func sorted[K cmp.Ordered, V any](m map[K]V) []V {
	out := make([]V, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

func byName[V any](list []V, name func(V) string) map[string]V {
	m := make(map[string]V, len(list))
	for _, v := range list {
		m[name(v)] = v
	}
	return m
}
