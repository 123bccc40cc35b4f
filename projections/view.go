package projections

import "time"

// Verdict is what the failover machine holds of another node. The weight of
// the action follows the weight of the evidence.
type Verdict string

// The verdicts, from well to dead.
const (
	Unknown     Verdict = "unknown" // never heard since this node started
	Alive       Verdict = "alive"
	Left        Verdict = "left"         // said goodbye: a planned stop
	Isolated    Verdict = "isolated"     // heard, and its routers don't answer it
	Suspect     Verdict = "suspect"      // silent; reversible actions only
	Gray        Verdict = "gray"         // its agent is silent, its kernel answers
	ProcessDown Verdict = "process-down" // its kernel says that the process is gone
	DeadData    Verdict = "dead-data"    // silent on all paths, and its kernel too
	DeadMember  Verdict = "dead-member"  // the membership agrees
)

// Silent tells whether a node of that verdict answers nobody: nothing that needs
// its agent can work.
func (v Verdict) Silent() bool {
	switch v {
	case Left, Suspect, Gray, ProcessDown, DeadData, DeadMember:
		return true
	}
	return false
}

// Stance is the preference at which this node announces.
type Stance string

// The stances.
const (
	// StanceNormal announces at P1: both nodes share the work.
	StanceNormal Stance = "normal"
	// StanceTakeover announces at P0: the other node does not forward, and
	// what a router learned from it must lose.
	StanceTakeover Stance = "takeover"
	// StanceStepDown announces at P2: drained, stopping, or not in sync. It
	// carries traffic only where nobody better does.
	StanceStepDown Stance = "step-down"
	// StanceSilent announces nothing.
	StanceSilent Stance = "silent"
)

// Reason is why something is as it is: a code for programs, a text for people.
type Reason struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// View is what one node sees of the world now. The failover machine makes it;
// it never enters the log.
type View struct {
	Self   string `json:"self"`
	Stance Stance `json:"stance"`
	Reason Reason `json:"reason"`
	// Nodes holds the verdict on every other node.
	Nodes map[string]Verdict `json:"nodes,omitempty"`
	// Stances is what other nodes say of their own stance; a node that has not
	// said anything is not in it.
	Stances map[string]Stance `json:"stances,omitempty"`
	// Unhealthy maps the services whose local check fails to the failure.
	Unhealthy map[string]string `json:"unhealthy,omitempty"`
	// Since is when the stance last changed.
	Since time.Time `json:"since,omitzero"`
}
