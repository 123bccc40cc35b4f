package beat

import (
	"maps"
	"net/netip"
	"time"

	"dyad/eventlog"
	"dyad/failover"
	"dyad/failover/pulse"
	"dyad/projections"
)

// Status is the state of the pulse process and of its paths.
type Status struct {
	PID      int    // 0 while none runs
	Why      string // why none runs
	Restarts int
	// Lacks is what real-time property the host does not grant; empty if none.
	Lacks string
	// Paths holds those that were heard, or can't be used.
	Paths map[string]PathStatus
	// Held are the next hops that are announced here now.
	Held   map[netip.Addr]bool
	Counts pulse.Counts
}

// PathStatus is the state of one path.
type PathStatus struct {
	Up    bool   // it hears the other node
	Deaf  bool   // the other node does not hear us on it
	Error string // why it can't be used
}

func newStatus() Status {
	return Status{Paths: map[string]PathStatus{}, Held: map[netip.Addr]bool{}}
}

// Status returns a copy of the newest status.
func (s *Supervisor) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.status
	out.Paths, out.Held = maps.Clone(out.Paths), maps.Clone(out.Held)
	return out
}

// take turns a report into status and an input.
func (s *Supervisor) take(r Report) {
	at := time.Unix(0, r.At)
	s.mu.Lock()
	peer := s.peer
	s.note(r)
	restarts := s.status.Restarts
	s.mu.Unlock()
	if in := InputOf(peer, restarts, r); in != nil {
		s.cfg.Emit(at, in)
	}
	switch r.Kind {
	case reportReady:
		if r.Why != "" {
			s.cfg.Log.Warn("the pulse is less punctual than it could be", "event", "pulse.realtime", "reason", r.Why)
		}
	case pulse.Paused.String():
		s.cfg.Log.Info("the pulse stood still", "event", "pulse.paused", "reason", "this host did not run it in time", "pause", r.Silence)
	case reportDefended:
		s.cfg.Log.Warn("defended an address of this node", "event", "pulse.defended", "reason", "the other node does not hear this one, or somebody claims it",
			"address", r.Address, "interface", r.Interface)
	case reportPathError:
		if r.Why != "" {
			s.cfg.Log.Warn("a path of the pulse can't be used", "event", "pulse.path", "reason", r.Why, "path", r.Path)
		}
	}
}

// note keeps the status. The caller holds mu.
func (s *Supervisor) note(r Report) {
	path := s.status.Paths[r.Path]
	switch r.Kind {
	case reportReady:
		s.status.Lacks = r.Why
		return
	case reportCounts:
		if r.Counts != nil {
			s.status.Counts = *r.Counts
		}
		return
	case reportTook:
		s.status.Held[r.Address] = true
		return
	case reportGave:
		delete(s.status.Held, r.Address)
		return
	case reportPathError:
		path.Error = r.Why
	case pulse.PathUp.String():
		path = PathStatus{Up: true}
	case pulse.PathDown.String():
		path.Up, path.Deaf = false, false
	case pulse.Deaf.String():
		path.Deaf = true
	case pulse.Hears.String():
		path.Deaf = false
	default:
		return
	}
	s.status.Paths[r.Path] = path
}

// InputOf is what a report of the pulse of this node, started again so many
// times, means to the machine about the peer; nil if nothing.
func InputOf(peer string, restarts int, r Report) failover.Input {
	switch r.Kind {
	case reportReady:
		return failover.PulseReady{Restarts: restarts}
	case reportTook, reportGave:
		return failover.PulseHop{Node: peer, Address: r.Address, Interface: r.Interface, Taken: r.Kind == reportTook}
	}
	word := failover.Word{}
	if r.Word != nil {
		word = wordOf(*r.Word)
	}
	evidence := map[string]any{"silence_ms": float64(r.Silence.Microseconds()) / 1000}
	if r.Path != "" {
		evidence["path"] = r.Path
	}
	switch pulse.FindKind(r.Kind) {
	case pulse.Heard:
		return failover.PulseHeard{Node: peer, Word: word, Silence: r.Silence}
	case pulse.Said:
		return failover.PulseWord{Node: peer, Word: word}
	case pulse.Suspected:
		evidence["last_epoch"], evidence["last_mode"], evidence["last_stance"] = word.Epoch, word.Mode, word.Stance
		return failover.PulseSuspect{Node: peer, Silence: r.Silence, Evidence: evidence}
	case pulse.ProcessDown:
		evidence["kernel"] = "it refused a heartbeat, or passed on the pulse's last words"
		return failover.PulseProcessDown{Node: peer, Silence: r.Silence, Evidence: evidence}
	case pulse.Severed:
		evidence["carrier"] = "lost on every path that was left, and towards every router"
		return failover.PulseSevered{Node: peer, Silence: r.Silence, Evidence: evidence}
	case pulse.Left:
		return failover.PulseLeft{Node: peer}
	case pulse.KernelAlive:
		return failover.PulseKernel{Node: peer, Answers: true, Evidence: map[string]any{"kernel": "answers ARP or neighbor discovery"}}
	case pulse.KernelDead:
		return failover.PulseKernel{Node: peer, Evidence: map[string]any{"unanswered": pulse.AskLimit, "every_ms": pulse.AskEvery.Milliseconds()}}
	case pulse.PathUp:
		return failover.PulsePath{Node: peer, Path: r.Path, Up: true}
	case pulse.PathDown:
		return failover.PulsePath{Node: peer, Path: r.Path}
	case pulse.GatewayDead:
		return failover.Gateway{}
	case pulse.GatewayAlive:
		return failover.Gateway{Answers: true}
	}
	return nil
}

// Numbers on the wire of modes and stances; 0 is none. They are never reused.
var (
	modes   = []string{"", "SOLO", "PAIR", "SUSPENDED", "SOLE", "STALE", "JOINING", "WITNESSED", "EXTERNAL"}
	stances = []projections.Stance{
		"", projections.StanceNormal, projections.StanceTakeover, projections.StanceStepDown, projections.StanceSilent,
	}
)

func numberOf[T comparable](list []T, v T) byte {
	for i, x := range list {
		if x == v {
			return byte(i)
		}
	}
	return 0
}

func nameOf[T any](list []T, n byte) (v T) {
	if int(n) < len(list) {
		return list[n]
	}
	return v
}

// FeedOf puts a node's word into the form of the wire.
func FeedOf(w failover.Word, armed bool) Feed {
	f := Feed{Armed: armed}
	f.Word = pulse.Word{
		Mode: numberOf(modes, w.Mode), Stance: numberOf(stances, w.Stance),
		SessionsUp: uint8(min(w.SessionsUp, 255)), SessionsWanted: uint8(min(w.SessionsWanted, 255)),
		Epoch: uint64(w.Epoch), Seq: uint64(w.Seq),
	}
	if w.Stopping {
		f.Flags |= pulse.FlagStopping
	}
	return f
}

func wordOf(w pulse.Word) failover.Word {
	return failover.Word{
		Epoch: eventlog.Epoch(w.Epoch), Seq: eventlog.Seq(w.Seq), Mode: nameOf(modes, w.Mode), Stance: nameOf(stances, w.Stance),
		SessionsUp: int(w.SessionsUp), SessionsWanted: int(w.SessionsWanted),
		Stopping: w.Flags&pulse.FlagStopping != 0, Hung: w.Flags&pulse.FlagHung != 0,
		Suspects: w.Flags&pulse.FlagSuspects != 0, Isolated: w.Flags&pulse.FlagIsolated != 0,
	}
}
