package cluster

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dyad/cluster/api"
	"dyad/cluster/steward"
	"dyad/eventlog"
	"dyad/failover"
	"dyad/projections"
	"dyad/speaker"
)

// Bounds of the agent's queues.
const (
	maxInputs   = 4096 // sensor readings not yet seen by the loop
	maxBatches  = 8    // log batches not yet folded
	maxCommands = 1024 // intents waiting for the appender
)

// Agent is one node's control loop. Make it with [New], run it with Run.
type Agent struct {
	p       Parts
	with    Attached
	started time.Time

	inputs  chan stamped
	steps   chan logStep
	done    chan wishDone
	stop    chan struct{} // closed when a planned stop begins
	quiet   chan struct{} // closed when the loop is to withdraw everything
	ended   chan struct{} // closed when the loop has ended
	snap    atomic.Pointer[Snapshot]
	changed *signal // pulses after every new snapshot

	rec      *recorder
	ret      *retainer
	appender *appender
	denials  *denials
	tests    *tests
	beacons  *beacons
	refused  atomic.Pointer[projections.Refusal] // of the node's own configuration
	lastMode atomic.Pointer[steward.Status]      // as last recorded
	rc       *speaker.Reconciler
	sessions map[netip.Addr]sessionNote // touched by onSession only

	// Owned by the loop goroutine.
	machine   *failover.Machine
	state     projections.State
	view      projections.View
	synced    bool
	holding   bool // the fold is incomplete; see announce
	startHead eventlog.Head
	newsAt    time.Time // see Snapshot.At
	reports   map[string]failover.Report
	timeline  map[string]api.Timeline
	contacts  map[string]failover.Contact
	gen       uint64
	genRung   projections.Rung
	genAt     time.Time
	genSilent []string // nodes whose takeover this generation announces
	keys      *recentKeys
	addresses *latest[[]netip.Addr]
	services  *latest[map[string]eventlog.Service]
	saver     *latest[projections.State]
}

// stamped is an input with the time it was seen, which is what a fact records.
type stamped struct {
	at time.Time
	in failover.Input
}

// logStep is what the follower hands the loop: more events, or the order to
// fold anew because the log does not continue what was folded.
type logStep struct {
	events []eventlog.Envelope
	anew   bool
}

// wishDone reports what became of a wish.
type wishDone struct {
	gen    uint64
	change speaker.Change
	at     time.Time
	err    error
}

// Snapshot is what the loop shows to everybody else. It is never written after
// it was published.
type Snapshot struct {
	State         projections.State
	View          projections.View
	Announcements projections.Announcements
	Synced        bool
	Reports       map[string]failover.Report
	Contacts      map[string]failover.Contact // by node; not to be written
	Timeline      map[string]api.Timeline
	Generation    uint64
	Done          uint64 // the newest generation the speaker has
	SpeakerError  string
	// At is when the log last delivered events, or the end of them.
	At time.Time
}

// New prepares an agent; nothing runs until Run.
func New(p Parts) *Agent {
	now := p.Now()
	a := &Agent{
		p: p, started: now,
		inputs:  make(chan stamped, maxInputs),
		steps:   make(chan logStep, maxBatches),
		done:    make(chan wishDone, maxBatches),
		stop:    make(chan struct{}),
		quiet:   make(chan struct{}),
		ended:   make(chan struct{}),
		changed: newSignal(),
		machine: failover.New(machineConfig(p), now),
		reports: map[string]failover.Report{}, timeline: map[string]api.Timeline{},
		keys:      newRecentKeys(),
		sessions:  map[netip.Addr]sessionNote{},
		addresses: newLatest[[]netip.Addr](), services: newLatest[map[string]eventlog.Service](),
		saver: newLatest[projections.State](),
	}
	a.rec = newRecorder(a)
	a.ret = &retainer{a: a}
	a.appender = newAppender(a)
	a.denials = newDenials(a)
	a.tests = newTests(a)
	a.beacons = newBeacons(a)
	a.snap.Store(&Snapshot{View: projections.View{Self: p.Config.Node, Stance: projections.StanceStepDown}})
	return a
}

func machineConfig(p Parts) failover.Config {
	f := p.Config.Failover
	manual, windows, _ := f.Returns() // the configuration was checked
	back := failover.Failback{Manual: manual}
	for _, w := range windows {
		back.Windows = append(back.Windows, failover.Window{From: w[0], To: w[1]})
	}
	return failover.Config{
		Self: p.Config.Node, Boot: p.Boot, Failback: back,
		FailbackDelay: f.FailbackDelay.Std(), FailbackMax: f.FailbackMax.Std(), FlapWindow: f.FlapWindow.Std(),
	}
}

// Attach adds the parts that report to the agent. It must be called before Run.
func (a *Agent) Attach(with Attached) { a.with = with }

// StoreChanged records that the store's process started or ended.
func (a *Agent) StoreChanged(up bool, why string) {
	f := failover.Fact{Type: eventlog.TypeStoreUp, Stream: "store/" + a.p.Config.Node, At: a.p.Now(), Reason: why}
	if !up {
		f.Type = eventlog.TypeStoreDown
	}
	p := eventlog.StorePayload{Why: why}
	if a.with.Store != nil {
		p.Restarts = a.with.Store.Restarts()
	}
	f.Data = p
	a.rec.fact(f)
}

// QuorumChanged records that this node may do something else with the log.
func (a *Agent) QuorumChanged(s steward.Status) {
	last := a.lastMode.Swap(&s)
	if last != nil && last.Mode == s.Mode && last.Record.Epoch == s.Record.Epoch && last.Writable == s.Writable {
		return
	}
	p := eventlog.ModePayload{Mode: string(s.Mode), Epoch: s.Record.Epoch, Writable: s.Writable, Why: s.Why}
	if last != nil {
		p.Was = string(last.Mode)
	}
	a.rec.fact(failover.Fact{Type: eventlog.TypeLogMode, Stream: "log/" + a.p.Config.Node, At: a.p.Now(), Reason: s.Why, Data: p})
}

// RecordFence records what the fence showed of a node.
func (a *Agent) RecordFence(showed any, peer string, err error) {
	f := failover.Fact{
		Type: eventlog.TypeNodeFenced, Stream: "fence/" + peer, At: a.p.Now(), Reason: "the node is silent and shall not write the log",
		Data: eventlog.FencePayload{Node: peer, Off: err == nil}, Evidence: map[string]any{"fence": showed},
	}
	if err != nil {
		f.Data = eventlog.FencePayload{Node: peer, Why: err.Error()}
	}
	a.rec.fact(f)
}

// RecordOrphans puts events that only an archived store holds into the journal.
// It returns when they are on disk: nobody looks into that archive again.
func (a *Agent) RecordOrphans(ctx context.Context, p eventlog.OrphanedPayload, why string) error {
	return a.rec.now(ctx, failover.Fact{Type: eventlog.TypeLogOrphaned, Stream: "orphans/" + a.p.Config.Node, At: a.p.Now(), Reason: why, Data: p})
}

// Submit decides and appends a command of dyad itself.
func (a *Agent) Submit(ctx context.Context, c projections.Command, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, appendBound)
	defer cancel()
	return a.appender.submit(ctx, c, projections.Meta{
		Actor:  eventlog.Actor{Name: a.p.Config.Node, Auth: "system"},
		Source: a.source("machine", "dyad/"+a.p.Version), Reason: reason, Correlation: a.p.NewID(),
	}).err
}

// Snapshot returns what the loop last published.
func (a *Agent) Snapshot() *Snapshot { return a.snap.Load() }

// Emit hands the loop what a sensor saw. It is safe from any goroutine, and
// blocks only if maxInputs readings wait already.
func (a *Agent) Emit(in failover.Input) { a.EmitAt(a.p.Now(), in) }

// Run runs the agent until ctx ends, then stops as planned: it steps down, lets
// the other node take over, withdraws, and returns when every goroutine it
// started has ended.
func (a *Agent) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	a.loadCheckpoint()
	a.p.Speaker.Notify(a.onSession)
	if a.p.Layer2 != nil {
		a.p.Layer2.NotifyMoves(a.onMove)
	}
	a.rc = speaker.NewReconciler(a.p.Speaker, speaker.Options{OnDone: a.onDone, Log: a.p.Logger})

	var wg sync.WaitGroup
	spawn := func(f func(context.Context)) { wg.Go(func() { f(work) }) }
	wg.Go(func() { defer close(a.ended); a.loop(work) })
	spawn(a.follow)
	spawn(a.rec.run)
	spawn(a.rec.copy)
	spawn(a.denials.run)
	spawn(a.tests.run)
	spawn(a.beacons.run)
	spawn(a.appender.run)
	spawn(a.bootstrap)
	spawn(a.keepAddresses)
	spawn(a.keepChecks)
	spawn(a.keepCheckpoint)
	spawn(a.ret.run)
	a.rec.fact(failover.Fact{
		Type: eventlog.TypeAgentStarted, Stream: "agent/" + a.p.Config.Node, At: a.p.Now(),
		Data: eventlog.AgentPayload{Version: a.p.Version, PID: a.p.PID},
	})

	<-ctx.Done()
	a.plannedStop(work)
	cancel()
	wg.Wait()
	end, done := context.WithTimeout(context.Background(), stopBound)
	defer done()
	err := a.rc.Close(end)
	if s := a.Snapshot(); s.Synced {
		if serr := a.p.Checkpoint.Save(end, s.State); serr != nil && err == nil {
			err = serr
		}
	}
	return err
}

// loadCheckpoint starts from the last state this node folded, so that it
// announces at once, with or without a log.
func (a *Agent) loadCheckpoint() {
	s, ok, err := a.p.Checkpoint.Load()
	if err != nil {
		a.p.Logger.Warn("the checkpoint can't be read; folding the log from its start",
			"event", "checkpoint.unreadable", "reason", err)
		return
	}
	if ok {
		a.state, a.startHead = s, s.Head
	}
	a.holding = !ok
}

// onSession is called by the speaker, one call at a time. A session on its way
// up goes through several states; only its coming, its going and a new reason
// for staying away are facts.
func (a *Agent) onSession(s speaker.Session) {
	up := s.State == speaker.Established
	was := a.sessions[s.Peer]
	if up != was.up || !up && s.LastError != "" && s.LastError != was.why {
		t := eventlog.TypeSessionDown
		if up {
			t = eventlog.TypeSessionUp
		}
		a.rec.fact(failover.Fact{
			Type: t, Stream: "session/" + a.p.Config.Node + "/" + s.Peer.String(), At: a.p.Now(), Reason: s.LastError,
			Data: eventlog.SessionPayload{Peer: s.Peer, HoldTime: s.HoldTime, Why: s.LastError},
		})
	}
	a.sessions[s.Peer] = sessionNote{up, s.LastError}
	a.Emit(failover.Session{Peer: s.Peer, Established: up})
}

// sessionNote is what was last recorded of a session.
type sessionNote struct {
	up  bool
	why string
}

// onDone is called by the reconciler.
func (a *Agent) onDone(gen uint64, c speaker.Change, at time.Time, err error) {
	select {
	case a.done <- wishDone{gen, c, at, err}:
	case <-a.ended:
	}
}

// peerNames lists the other nodes.
func (a *Agent) peerNames(s projections.State) []string {
	return slices.DeleteFunc(s.NodeNames(), func(n string) bool { return n == a.p.Config.Node })
}

func (a *Agent) setConfigRefused(r *projections.Refusal) { a.refused.Store(r) }

// Attached returns what was attached so far.
func (a *Agent) Attached() Attached { return a.with }
