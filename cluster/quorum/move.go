package quorum

import "dyad/eventlog"

// Deed is what the driver has to do. Each may be broken off at any point and
// begun again.
type Deed string

// The deeds.
const (
	Wait Deed = "wait"
	// AskWitness swaps From for To at the witness, and looks again.
	AskWitness Deed = "ask-witness"
	// AskFence has the fence switch the peer off.
	AskFence Deed = "ask-fence"
	// Reform ends the store, keeps its tail, starts it with this node as its
	// only voter, and appends epoch.started with the first free epoch from Epoch
	// on.
	Reform Deed = "reform"
	// Return sets the store aside and asks the peer to admit this node.
	Return Deed = "return"
	// Pairup gives the learner its vote and appends epoch.started PAIR.
	Pairup Deed = "pair"
	// Leave hands the log to the peer before a planned stop: epoch.started with
	// the peer as the only writer, then the witness, then this member's removal.
	Leave Deed = "leave"
	// Shed takes a member out of the store that is no writer any more.
	Shed Deed = "shed"
	// Raise starts an epoch of the same pair: the claim at the witness is ahead
	// of the log, which is how a change of the witness begins. It may be done only
	// when both nodes would ask this witness, also after a restart.
	Raise Deed = "raise"
	// Widen appends epoch.started WITNESSED: from here on neither node goes on
	// alone. The third one has everything, and no vote yet.
	Widen Deed = "widen"
	// Enlist gives the third one its vote.
	Enlist Deed = "enlist"
	// Narrow appends epoch.started PAIR, once both nodes' stores know that there
	// is no third vote.
	Narrow Deed = "narrow"
	// TellWitness swaps From for To to bring the witness up to date. Nothing
	// waits for it.
	TellWitness Deed = "tell-witness"
)

// Move is what follows from a record and a sight.
//
// Invariant: Record is durable before Do begins.
type Move struct {
	Record Record
	Do     Deed
	// Epoch is the lowest the deed may start; Reform and Pairup.
	Epoch eventlog.Epoch
	// From and To are for the witness.
	From, To Claim
	// Mode is what the node is, as shown: unlike the record's it tells whether
	// the log can be written now.
	Mode Mode
	// Why is one line for the operator, Fix what to do; empty while all is well.
	Why, Fix string
}
