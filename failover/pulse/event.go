package pulse

import "time"

// Kind is what an [Event] tells.
type Kind uint8

// The kinds of events.
const (
	// Heard: the other node is heard, for the first time or again.
	Heard Kind = iota + 1
	// Doubted: one more missed heartbeat, and a path is down; ask its kernel now.
	Doubted
	// Suspected: no path hears the other node any more.
	Suspected
	// ProcessDown: its kernel refuses the heartbeats, or its pulse's last word
	// was that the agent has died. Path is where it was seen.
	ProcessDown
	// Left: its pulse said goodbye.
	Left
	// PathUp and PathDown: one path hears the other node, or does not.
	PathUp
	PathDown
	// Deaf: we hear the other node on Path, and it says that it does not hear us
	// there. Hears: it does again.
	Deaf
	Hears
	// Said: Word, the other node's own word, has changed.
	Said
	// Paused: the own loop stood still for Silence; no silence across it counts.
	Paused
	// Calm: every path hears the other node; nothing needs to be asked.
	Calm
	// KernelAlive and KernelDead: the other node's kernel answers, or it has not
	// answered any of the questions.
	KernelAlive
	KernelDead
	// GatewayAlive and GatewayDead: a router answers us, or none does. Each silence
	// of the other node asks anew, and is told what is answered.
	GatewayAlive
	GatewayDead
	// Severed: no path hears the other node, for a reason of our own: what was left
	// of them has lost carrier, and so has every interface towards a router.
	Severed
)

var kindNames = [...]string{
	"", "heard", "doubted", "suspected", "process-down", "left", "path-up", "path-down", "deaf", "hears", "said",
	"paused", "calm", "kernel-alive", "kernel-dead", "gateway-alive", "gateway-dead", "severed",
}

// String is the kind's name on the wire between pulse and agent.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// FindKind is the opposite of String; 0 if there is no such kind.
func FindKind(name string) Kind {
	for k, n := range kindNames {
		if n == name {
			return Kind(k)
		}
	}
	return 0
}

// Event is something that has changed.
type Event struct {
	Kind Kind
	Path int
	// Silence is how long nothing had been heard: on the path, or of the node.
	Silence time.Duration
	// Word and Boot are the other node's last, with Heard, Said and Suspected.
	Word Word
	Boot uint64
}

// Counts are what happened to datagrams and turns since the start.
type Counts struct {
	Sent, Received uint64
	Foreign        uint64 // no heartbeat, another version, or of other nodes
	Forged         uint64 // sealed with another key
	Replayed       uint64 // heard before, or overtaken
	Unproven       uint64 // of a boot that has not shown yet that it hears us
	Misrouted      uint64 // came on another path than it was sent on
	Refused        uint64 // by the other node's kernel
	Suspicions     uint64
	Pauses         uint64
	LongestPause   time.Duration
}
