package quorum

import "dyad/eventlog"

// Mode is what a node may do with the log.
type Mode string

// The modes.
const (
	Solo      Mode = "SOLO"      // one node, one voter
	Pair      Mode = "PAIR"      // two voters
	Suspended Mode = "SUSPENDED" // the peer is lost; intents are refused
	Sole      Mode = "SOLE"      // took the log over
	Stale     Mode = "STALE"     // no proof of having the newest log; read-only
	Joining   Mode = "JOINING"   // a learner, not yet a voter
	Witnessed Mode = "WITNESSED" // a pair with a third voter
	External  Mode = "EXTERNAL"  // the log lies in a store that others run
)

// Modes lists every mode.
func Modes() []Mode { return []Mode{Solo, Pair, Suspended, Sole, Stale, Joining, Witnessed, External} }

// Claim is what a witness holds of a cluster: who may write its log, since when.
// It changes by compare-and-swap only, so of two nodes that ask at the same
// moment one is told no.
type Claim struct {
	Cluster string         `json:"cluster"` // the cluster's ID
	Epoch   eventlog.Epoch `json:"epoch"`
	// Mode is PAIR, SOLO or SOLE.
	Mode Mode `json:"mode"`
	// Holder is the node that may write alone; empty in PAIR.
	Holder string `json:"holder,omitempty"`
	// Seq and Hash are the end of the log its writer knew when it swapped. They
	// inform; a swap compares Epoch, Mode and Holder.
	Seq  eventlog.Seq `json:"seq"`
	Hash string       `json:"hash,omitempty"`
}

// Same tells whether two claims name the same writers at the same epoch.
func (c Claim) Same(o Claim) bool {
	return c.Cluster == o.Cluster && c.Epoch == o.Epoch && c.Mode == o.Mode && c.Holder == o.Holder
}

// gives tells whether the claim gives node the log alone, after an epoch.
func (c Claim) gives(node string, after eventlog.Epoch) bool {
	return c.Mode == Sole && c.Holder == node && c.Epoch > after
}
