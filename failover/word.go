package failover

import (
	"net/netip"
	"time"

	"dyad/eventlog"
	"dyad/projections"
)

// SensorPulse is the heartbeat, as it stands in facts.
const SensorPulse = "pulse"

// Word is what a node says of itself in each heartbeat.
type Word struct {
	Epoch  eventlog.Epoch
	Mode   string
	Stance projections.Stance
	Seq    eventlog.Seq
	// SessionsUp of SessionsWanted routers have an established session with it.
	SessionsUp, SessionsWanted int
	Stopping                   bool
	// Hung: its agent does not answer its own pulse.
	Hung bool
	// Suspects: it does not hear the receiver.
	Suspects bool
	// Isolated: no router answers it.
	Isolated bool
}

// forwards tells whether the node says that it carries its share.
func (w Word) forwards() bool {
	return !w.Stopping && !w.Isolated && !w.Hung && w.Stance != projections.StanceStepDown &&
		w.Stance != projections.StanceSilent && w.SessionsUp >= w.SessionsWanted
}

// What the pulse tells.
type (
	// PulseHeard: heartbeats come on some path, for the first time or again.
	PulseHeard struct {
		Node    string
		Word    Word
		Silence time.Duration
	}
	// PulseWord: what the node says of itself has changed.
	PulseWord struct {
		Node string
		Word Word
	}
	// PulseSuspect: heartbeats are missed on all paths.
	PulseSuspect struct {
		Node     string
		Silence  time.Duration
		Evidence map[string]any
	}
	// PulseKernel: the node's kernel answers while its heartbeats are missed, or
	// it does not answer either.
	PulseKernel struct {
		Node     string
		Answers  bool
		Evidence map[string]any
	}
	// PulseProcessDown: its kernel refuses the heartbeats, or its pulse's last
	// words were that the agent has died.
	PulseProcessDown struct {
		Node     string
		Silence  time.Duration
		Evidence map[string]any
	}
	// PulseSevered: this node's own cables are out. The pulse knows nothing of the
	// node any more, and no router can be reached.
	PulseSevered struct {
		Node     string
		Silence  time.Duration
		Evidence map[string]any
	}
	// PulseLeft: its pulse said goodbye; the membership knows the rest.
	PulseLeft struct{ Node string }
	// PulsePath: one path hears the node, or does not.
	PulsePath struct {
		Node, Path string
		Up         bool
	}
	// PulseLost: this node's own pulse is down; what it said counts no more.
	PulseLost struct {
		Why      string
		Restarts int
	}
	// PulseReady: it has started, for the first time or again.
	PulseReady struct{ Restarts int }
	// PulseHop: the pulse took a next hop of the node, or gave it back.
	PulseHop struct {
		Node      string
		Address   netip.Addr
		Interface string
		Taken     bool
	}
	// Gateway: whether any router answers this node. It is asked only when a path
	// is silent; nothing said then means that nothing is wrong. Of a silence on all
	// paths either is said, unless there is nobody to ask.
	Gateway struct{ Answers bool }
)

func (PulseHeard) input()       {}
func (PulseWord) input()        {}
func (PulseSuspect) input()     {}
func (PulseKernel) input()      {}
func (PulseProcessDown) input() {}
func (PulseSevered) input()     {}
func (PulseLeft) input()        {}
func (PulsePath) input()        {}
func (PulseLost) input()        {}
func (PulseReady) input()       {}
func (PulseHop) input()         {}
func (Gateway) input()          {}

// Contact is what is heard of another node, of whatever verdict: what a takeover
// of the log needs to know.
type Contact struct {
	// Silent: neither a heartbeat on any path nor the membership hears it. A node
	// that was never heard is not silent, it is unknown.
	Silent bool
	// Since is when it was last heard, if it is silent; otherwise since when it has
	// been heard without a break. Zero if it was never heard.
	Since time.Time
	// Paths are those that hear it now, sorted.
	Paths []string
	// Epoch and Mode are its last word, by heartbeat.
	Epoch eventlog.Epoch
	Mode  string
	// Routers is what this node's own routers said to the pulse since the pulse
	// has not heard the other node.
	Routers Answer
}

// Answer is what became of a question on the wire.
type Answer string

// The answers.
const (
	NoAnswer   Answer = ""     // not asked, not answered yet, or nobody to ask
	Answered   Answer = "yes"  // somebody has
	Unanswered Answer = "none" // nobody has
)
