package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dyad/cluster/api"
	"dyad/cluster/config"
	"dyad/cluster/witness"
	"dyad/eventlog"
	"dyad/eventlog/memlog"
	"dyad/eventlog/segment"
	"dyad/failover/detect"
	"dyad/failover/detect/memnet"
	"dyad/projections"
	"dyad/projections/audit"
	"dyad/speaker"
	"dyad/speaker/memspeaker"
)

// world is a whole cluster in virtual time: real agents, machines, detectors and
// reconcilers; the log, the network and the router are in memory.
type world struct {
	t       *testing.T
	log     *memlog.Log
	net     *memnet.Network
	nodes   map[string]*node
	witness *atWitness
	ids     int
	mu      sync.Mutex
}

type node struct {
	pulse  Pulse
	tester speaker.Tester
	w      *world
	name   string
	cfg    config.Config
	agent  *Agent
	det    *detect.Detector
	sp     *memspeaker.Speaker
	disk   *disk
	room   *room          // nil: the store has no bound
	sealed *segment.Store // nil: nothing is sealed
	cancel context.CancelFunc
	done   chan error

	endSteward func()
	kept       func() eventlog.Witness // nil: what its state says
}

// disk outlives an agent: the journal and the checkpoint.
type disk struct {
	mu     sync.Mutex
	state  []byte
	facts  []eventlog.Draft
	copied int
	boots  int
	broken error
}

func (d *disk) Append(_ context.Context, drafts ...eventlog.Draft) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil {
		return d.broken
	}
	for _, f := range drafts {
		f.Origin = &eventlog.Origin{Node: f.Source.Node, Boot: fmt.Sprint(d.boots), N: uint64(len(d.facts) + 1)}
		f.Key = fmt.Sprintf("fact/%s/%s/%d", f.Origin.Node, f.Origin.Boot, f.Origin.N)
		d.facts = append(d.facts, f)
	}
	return nil
}

func (d *disk) Pending(limit int) ([]eventlog.Draft, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.facts[d.copied:min(len(d.facts), d.copied+limit)]), nil
}

func (d *disk) MarkCopied(_ context.Context, last eventlog.Origin) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.copied = int(last.N)
	return nil
}

func (d *disk) Len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.facts) - d.copied
}

func (d *disk) Load() (projections.State, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var s projections.State
	if d.state == nil {
		return s, false, nil
	}
	return s, true, json.Unmarshal(d.state, &s)
}

func (d *disk) Save(_ context.Context, s projections.State) error {
	b, err := json.Marshal(s)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = b
	return err
}

// wire is how one node asks another in this world.
type wire struct{ w *world }

func (r wire) find(n eventlog.Node) (*Agent, error) {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	if o := r.w.nodes[n.Name]; o != nil && o.agent != nil {
		return o.agent, nil
	}
	return nil, errors.New("no answer")
}

func (r wire) Status(ctx context.Context, n eventlog.Node) (api.Status, error) {
	a, err := r.find(n)
	if err != nil {
		return api.Status{}, err
	}
	return a.Status(ctx), nil
}

func (r wire) Announcements(ctx context.Context, n eventlog.Node) ([]projections.Announcement, error) {
	a, err := r.find(n)
	if err != nil {
		return nil, err
	}
	return a.Announcements(ctx, false)[0].Items, nil
}

func (r wire) Witness(ctx context.Context, n eventlog.Node) (api.WitnessStatus, error) {
	a, err := r.find(n)
	if err != nil {
		return api.WitnessStatus{}, err
	}
	return a.Witness(ctx, false)[0], nil
}

func (r wire) Doctor(ctx context.Context, n eventlog.Node) (api.Examination, error) {
	a, err := r.find(n)
	if err != nil {
		return api.Examination{}, err
	}
	return a.Doctor(ctx, false)[0], nil
}

func (r wire) TestRoute(ctx context.Context, n eventlog.Node, t api.TestRouteRequest) (api.TestRouteAnswer, error) {
	a, err := r.find(n)
	if err != nil {
		return api.TestRouteAnswer{}, err
	}
	return a.TestRoute(ctx, t)
}

func (r wire) Segments(_ context.Context, n eventlog.Node) ([]api.Segment, error) {
	a, err := r.find(n)
	if err != nil {
		return nil, err
	}
	return a.Segments(), nil
}

func (r wire) Segment(ctx context.Context, n eventlog.Node, first eventlog.Seq) ([]byte, error) {
	a, err := r.find(n)
	if err != nil {
		return nil, err
	}
	return a.Segment(ctx, first, 0)
}

var router = netip.MustParseAddr("10.126.77.125")

func newWorld(t *testing.T) *world {
	w := &world{t: t, witness: &atWitness{m: witness.NewMemory(), other: witness.NewMemory()}, log: memlog.New(time.Now), net: memnet.New(7), nodes: map[string]*node{}}
	for i, name := range []string{"node-a", "node-b"} {
		cfg := config.Default()
		cfg.Node, cfg.Address = name, netip.AddrFrom4([4]byte{192, 168, 0, byte(i + 1)})
		cfg.RouterID = cfg.Address
		cfg.Failover.FailbackDelay = config.Duration(5 * time.Second)
		w.nodes[name] = &node{w: w, name: name, cfg: cfg, disk: &disk{}}
	}
	return w
}

func (w *world) id() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ids++
	return fmt.Sprintf("id-%d", w.ids)
}

func (n *node) start() { n.startWith(n.w.log) }

func (n *node) startWith(log eventlog.Log) {
	n.disk.boots++
	n.sp = memspeaker.New(memspeaker.Options{Connect: 500 * time.Millisecond})
	p := Parts{
		Config: n.cfg, Version: "test", Boot: fmt.Sprint(n.disk.boots), PID: 1,
		Log: log, Journal: n.disk, Checkpoint: n.disk, Speaker: n.sp, Peer: wire{n.w}, Witness: n.w.witness, KeptWitness: n.kept,
		Tester: n.tester,
		Now:    time.Now, NewID: n.w.id, Logger: slog.New(slog.DiscardHandler),
		Bootstrap: func(s projections.State) []projections.Command {
			cmds := []projections.Command{
				projections.JoinNode{Node: eventlog.Node{Name: n.name, Address: n.cfg.Address, API: n.name, Beacon: n.cfg.Beacon.Prefix}},
				projections.DeclareSwitch{Switch: eventlog.Switch{
					Name: "vSwitch1", ID: "u", Compute: true, Ports: []eventlog.Port{{Node: n.name, Interface: "eth1"}},
				}},
			}
			if s.Head.Epoch == 0 && n.name == "node-a" {
				cmds = append([]projections.Command{projections.StartEpoch{Epoch: 1, Mode: "PAIR", Writers: []string{"node-a", "node-b"}, Cluster: "c"}}, cmds...)
			}
			return cmds
		},
	}
	if n.sealed != nil {
		whole := segment.Join(n.w.log, n.sealed)
		p.Log = whole
		p.Retention = &Retention{Segments: segments{n.sealed}, Floor: n.w.log.Floor, Trim: whole.Trim, Every: time.Second}
		if n.room != nil {
			p.Retention.Room = n.room
		}
	}
	a := New(p)
	at := netip.AddrPortFrom(n.cfg.Address, 7946)
	var peers []string
	for name, o := range n.w.nodes {
		if name != n.name {
			peers = append(peers, detect.HostPort(o.cfg.Address, 7946))
		}
	}
	det, err := detect.New(detect.Config{
		Node: n.name, Addr: n.cfg.Address, Port: 7946, Transport: n.w.net.Join(at), Peers: peers,
		Keys: [][]byte{make([]byte, 32)}, Emit: a.Emit, Log: p.Logger, Now: time.Now,
	})
	if err != nil {
		n.w.t.Fatal(err)
	}
	st, end := n.stewardOf(a)
	n.endSteward = end
	a.Attach(Attached{Detector: det, Quorum: st, Pulse: n.pulse})
	ctx, cancel := context.WithCancel(context.Background())
	n.w.mu.Lock()
	n.agent, n.det, n.cancel, n.done = a, det, cancel, make(chan error, 1)
	n.w.mu.Unlock()
	go func() { n.done <- a.Run(ctx) }()
}

// stop is a planned stop.
func (n *node) stop() {
	n.cancel()
	if err := <-n.done; err != nil {
		n.w.t.Errorf("%s stopped with %v", n.name, err)
	}
	_ = n.det.Leave()
	n.gone()
}

// kill is a death without a word: the network goes first.
func (n *node) kill() {
	other := n.w.other(n)
	n.w.net.Cut(netip.AddrPortFrom(n.cfg.Address, 7946), netip.AddrPortFrom(other.cfg.Address, 7946))
	n.w.mu.Lock()
	n.agent = nil // answers nobody any more; the router keeps what it heard
	n.w.mu.Unlock()
}

// bury ends what is left of a killed node.
func (n *node) bury() {
	n.cancel()
	<-n.done
	n.gone()
	other := n.w.other(n)
	n.w.net.Heal(netip.AddrPortFrom(n.cfg.Address, 7946), netip.AddrPortFrom(other.cfg.Address, 7946))
}

func (n *node) gone() {
	n.endSteward()
	_ = n.det.Close()
	_ = n.sp.Close(context.Background())
	n.w.mu.Lock()
	n.agent = nil
	n.w.mu.Unlock()
}

func (w *world) other(n *node) *node {
	for _, o := range w.nodes {
		if o != n {
			return o
		}
	}
	return nil
}

// end stops what runs and lets the last timers fire.
func (w *world) end() {
	for _, n := range w.nodes {
		if n.agent != nil {
			n.stop()
		}
	}
	time.Sleep(time.Minute)
}

func (w *world) within(d time.Duration, what string, level func() bool) time.Duration {
	w.t.Helper()
	from := time.Now()
	for !level() {
		if time.Since(from) > d {
			w.t.Fatalf("not within %s: %s", d, what)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(from)
}

func (n *node) do(c projections.Command) (api.Result, error) {
	verb, args, err := api.EncodeCommand(c)
	if err != nil {
		n.w.t.Fatal(err)
	}
	return n.agent.Execute(context.Background(), api.Caller{Actor: eventlog.Actor{Name: "root", Auth: "unix"}},
		api.Request{Verb: verb, Args: args, Reason: "test", Wait: 5 * time.Second, Interface: "cli"})
}

func (n *node) must(c projections.Command) api.Result {
	n.w.t.Helper()
	r, err := n.do(c)
	if err != nil {
		n.w.t.Fatalf("%s: %v", c.Verb(), err)
	}
	return r
}

// well: both know each other and are at the normal stance.
func (n *node) well() bool {
	v := n.agent.Snapshot().View
	return v.Stance == projections.StanceNormal && v.Reason.Code == "normal"
}

// rungs lists what routers hear from the node.
func (n *node) rungs() []string {
	var out []string
	for _, r := range n.sp.Visible() {
		out = append(out, fmt.Sprintf("%s med %d prepend %d", r.Prefix, r.Attributes.MED, r.Attributes.Prepend))
	}
	return out
}

func up(t *testing.T) (*world, *node, *node) {
	t.Helper()
	w := newWorld(t)
	a, b := w.nodes["node-a"], w.nodes["node-b"]
	a.start()
	b.start()
	w.within(time.Minute, "both nodes are well and in the log", func() bool {
		s := a.agent.State()
		return a.well() && b.well() && len(s.Nodes) == 2 && len(s.Switches["vSwitch1"].Ports) == 2
	})
	r1, _ := eventlog.ParseRange("203.0.113.0/28")
	a.must(projections.SetPeer{Switch: "vSwitch1", Address: router, PeerASN: 64512, SelfASN: 64513})
	a.must(projections.SetPool{Name: "web", Ranges: []eventlog.Range{r1}})
	b.must(projections.SetService{Name: "one"})
	r := a.must(projections.SetService{Name: "two"})
	if len(r.Nodes) != 2 || !r.Nodes[0].Converged || !r.Nodes[1].Converged {
		t.Fatalf("not converged: %+v", r.Nodes)
	}
	w.within(5*time.Second, "sessions and routes are up", func() bool { return len(a.rungs()) == 2 && len(b.rungs()) == 2 })
	return w, a, b
}

// types lists the types of all events in the log.
func (w *world) types(q audit.Query) []string {
	events, err := w.log.Read(context.Background(), 0, eventlog.MaxPage)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, e := range q.Select(events) {
		out = append(out, string(e.Type))
	}
	return out
}

func TestDeathFailoverFailbackAndTheStory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b := up(t)
		defer w.end()
		if got := a.rungs(); got[0] != "203.0.113.0/32 med 50 prepend 1" || got[1] != "203.0.113.1/32 med 100 prepend 1" {
			t.Errorf("node-a in quiet times: %v", got)
		}
		b.kill()
		w.log.Suspend(eventlog.ErrUnavailable) // a pair can't commit with one node
		took := w.within(600*time.Millisecond, "node-a takes over", func() bool {
			return slices.Equal(a.rungs(), []string{"203.0.113.0/32 med 0 prepend 0", "203.0.113.1/32 med 0 prepend 0"})
		})
		t.Logf("took over after %s", took)
		_, err := a.do(projections.RemoveService{Name: "one"})
		var refused *api.Error
		if !errors.As(err, &refused) || refused.Class != "unavailable" || !strings.Contains(refused.Why, "node-b") {
			t.Errorf("a change without quorum: %v", err)
		}
		if tl := a.agent.Snapshot().Timeline["node-b"]; tl.Detected.IsZero() || tl.Decided.Before(tl.Detected) || tl.Announced.Before(tl.Decided) {
			t.Errorf("timeline %+v", tl)
		}
		time.Sleep(3 * time.Second)
		b.bury()
		w.log.Suspend(nil)
		b.start()
		back := w.within(30*time.Second, "failback", func() bool { return a.well() && b.well() })
		if back < 5*time.Second {
			t.Errorf("failback after %s, before the delay", back)
		}
		w.within(5*time.Second, "all facts are in the log", func() bool { return a.disk.Len() == 0 && b.disk.Len() == 0 })
		story := strings.Join(w.types(audit.Query{Nodes: []string{"node-a"}, Classes: []eventlog.Class{eventlog.Fact}}), " ")
		for _, part := range []string{"node.verdict stance.changed routes.announced", "node.verdict"} {
			if !strings.Contains(story, part) {
				t.Errorf("the log tells %q, which lacks %q", story, part)
			}
		}
		events, err := a.agent.Events(context.Background(), audit.Query{Types: []string{"node.verdict"}})
		if err != nil || len(events) == 0 || !slices.ContainsFunc(events, func(e eventlog.Envelope) bool {
			return len(e.Evidence) > 0 && e.Time.Sub(e.ObservedAt) > time.Second
		}) {
			t.Errorf("no verdict with evidence that was recorded later than observed: %v, %d verdicts", err, len(events))
		}
	})
}

func TestPlannedStopTakesOverFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b := up(t)
		defer w.end()
		done := make(chan struct{})
		go func() { defer close(done); b.stop() }()
		w.within(time.Second, "node-a takes over", func() bool { return a.rungs()[0] == "203.0.113.0/32 med 0 prepend 0" })
		if got := b.rungs(); len(got) != 2 || got[0] != "203.0.113.0/32 med 200 prepend 2" {
			t.Errorf("when node-a takes over, node-b announces %v; it must still be there, at the last preference", got)
		}
		<-done
		w.within(time.Second, "node-b has left", func() bool { return a.agent.Snapshot().View.Nodes["node-b"] == projections.Left })
	})
}

func TestRestartAnnouncesFromTheCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, b := up(t)
		defer w.end()
		time.Sleep(2 * saveEvery)
		b.kill()
		b.bury()
		broken := &holdLog{Log: w.log}
		b.startWith(broken)
		w.within(2*time.Second, "announced at the last preference, without a log", func() bool {
			got := b.rungs()
			return len(got) == 2 && got[0] == "203.0.113.0/32 med 200 prepend 2"
		})
		broken.release()
		w.within(30*time.Second, "well again", b.well)
	})
}

func TestRefusalsAndDryRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, _ := up(t)
		defer w.end()
		_, err := a.do(projections.SetPeer{Switch: "vSwitch1", Address: router, PeerASN: 0, SelfASN: 1})
		var refusal *projections.Refusal
		if !errors.As(err, &refusal) || refusal.Code != "asn-range" {
			t.Fatalf("ASN 0: %v", err)
		}
		w.within(2*time.Second, "the attempt is in the log", func() bool {
			return slices.Contains(w.types(audit.Query{}), string(eventlog.TypeCommandRejected))
		})
		before, _ := w.log.Head(context.Background())
		verb, args, _ := api.EncodeCommand(projections.SetService{Name: "three"})
		r, err := a.agent.Execute(context.Background(), api.Caller{}, api.Request{Verb: verb, Args: args, DryRun: true})
		after, _ := w.log.Head(context.Background())
		if err != nil || len(r.Events) != 1 || len(r.Diff) != 2 || before != after {
			t.Errorf("dry run: %v, %d events, diff %v, head %d to %d", err, len(r.Events), r.Diff, before.Seq, after.Seq)
		}
		key := api.Request{Verb: verb, Args: args, Key: "once"}
		first, err1 := a.agent.Execute(context.Background(), api.Caller{}, key)
		again, err2 := a.agent.Execute(context.Background(), api.Caller{}, key)
		if err1 != nil || err2 != nil || len(again.Events) != 1 || again.Events[0].ID != first.Events[0].ID {
			t.Errorf("the same key twice: %v %v, %v", err1, err2, again.Events)
		}
	})
}

func TestDrainAndUndrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b := up(t)
		defer w.end()
		a.must(projections.DrainNode{Node: "node-b", On: true})
		w.within(time.Second, "the traffic moves", func() bool {
			return b.rungs()[0] == "203.0.113.0/32 med 200 prepend 2" && a.rungs()[0] == "203.0.113.0/32 med 0 prepend 0"
		})
		a.must(projections.DrainNode{Node: "node-b", On: false})
		w.within(2*time.Second, "and back, without a wait", func() bool { return a.well() && b.well() })
	})
}

func TestManyWritersOnBothNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b := up(t)
		defer w.end()
		r, _ := eventlog.ParseRange("100.64.0.0/20")
		a.must(projections.SetPool{Name: "large", Ranges: []eventlog.Range{r}})
		var wg sync.WaitGroup
		for i := range 32 {
			n := []*node{a, b}[i%2]
			wg.Go(func() {
				for j := range 10 {
					if _, err := n.do(projections.SetService{Name: fmt.Sprintf("s-%d-%d", i, j), Pool: "large"}); err != nil {
						t.Errorf("writer %d: %v", i, err)
						return
					}
				}
			})
		}
		wg.Wait()
		s := a.agent.State()
		if len(s.Services) != 322 || len(s.Taken) != 322 {
			t.Errorf("%d services with %d addresses, want 322", len(s.Services), len(s.Taken))
		}
	})
}
