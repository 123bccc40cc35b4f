package labtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dyad/chaos/lab"
	"dyad/chaos/netlab"
	"dyad/cluster/api"
	"dyad/cluster/config"
	"dyad/cluster/quorum"
	"dyad/eventlog"
	"dyad/projections"
	"dyad/projections/audit"
)

// Bounds of a case. They are wide: what counts is the order and the level.
const (
	levelLimit = 90 * time.Second
	caseWrites = 2 // numbered services of one write
	// caseHoldDown is the hold-down of a stage's nodes.
	caseHoldDown = time.Second
	// caseFailback is below that of a lab: each case waits for it, and none is about it.
	caseFailback = 300 * time.Millisecond
	nodeA, nodeB = netlab.NodeA, netlab.NodeB
)

// stage is a lab on which cases are played one after another. A case that fails
// may leave it in any state; the next one then gets a new one.
type stage struct {
	*lab.Lab
	group     *testing.T
	configure lab.Configure
	prepare   func(*stage) // what the group needs once a lab is up

	t     *testing.T // of the case that is played
	n     int
	acks  []acked
	epoch eventlog.Epoch // at the beginning of the case
	tried []string       // services that were not answered
}

// newStage brings a lab up whose nodes take over by this authority.
func newStage(t *testing.T, configure lab.Configure, prepare func(*stage)) *stage {
	s := &stage{group: t, t: t, prepare: prepare, configure: func(node string, c *config.Config) {
		c.Takeover.Authority, c.Takeover.HoldDown = config.AuthorityOperator, config.Duration(caseHoldDown)
		// A case is not about how soon a silence is seen: a busy machine's stalls are
		// none, and a person's word must be refused while the other node is heard.
		c.Failover.Profile = config.ProfileConservative
		c.Failover.FailbackDelay, c.Failover.FailbackMax = config.Duration(caseFailback), config.Duration(caseFailback)
		if configure != nil {
			configure(node, c)
		}
	}}
	s.open()
	return s
}

func (s *stage) open() {
	s.Lab, s.acks, s.tried = upWith(s.group, netlab.KindGoBGP, s.configure), nil, nil
	r, err := eventlog.ParseRange("100.64.0.0/20")
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = s.api(nodeA).Do(s.ctx(), projections.SetPool{Name: "many", Ranges: []eventlog.Range{r}}, api.Request{Wait: 30 * time.Second})
	if err != nil {
		s.t.Fatal(err)
	}
	if s.prepare != nil {
		s.prepare(s)
	}
}

func (s *stage) ctx() context.Context { return s.group.Context() }

// play runs one case from a settled pair and, if it ends well, demands one at
// the end: with every answered event in both logs.
func (s *stage) play(name string, f func(s *stage)) {
	s.group.Run(name, func(t *testing.T) {
		s.t = t
		defer func() {
			if t.Failed() {
				s.tails()
			}
			s.t = s.group
		}()
		if why := s.unsettled(); why != "" {
			t.Logf("the case before left it unsettled (%s): a new lab", why)
			s.open()
		}
		s.epoch = s.status(nodeA).Head.Epoch
		began := time.Now()
		f(s)
		if !t.Failed() {
			s.paired()
			s.compare()
		}
		t.Logf("took %s, epochs %d to %d", time.Since(began).Round(100*time.Millisecond), s.epoch, s.status(nodeA).Head.Epoch)
	})
}

// unsettled says why no case can begin; it waits a while first.
func (s *stage) unsettled() (why string) {
	for _, name := range lab.NodeNames() {
		if n, err := s.Node(name); err != nil {
			return err.Error()
		} else if p, err := n.Supervisor(); err != nil || !p.Alive() {
			return name + " is off"
		}
	}
	ctx, cancel := context.WithTimeout(s.ctx(), 20*time.Second)
	defer cancel()
	for {
		if why = s.notPair(); why == "" || !wait(ctx) {
			return why
		}
	}
}

func (s *stage) notPair() string {
	if why := s.PairNotReady(s.ctx()); why != "" {
		return why
	}
	for _, name := range lab.NodeNames() {
		n, _ := s.Node(name)
		st, err := n.Client().Status(s.ctx())
		if err != nil {
			return err.Error()
		}
		if st.Mode != string(quorum.Pair) {
			return name + " is " + st.Mode
		}
	}
	return ""
}

// paired waits for a working pair.
func (s *stage) paired() {
	s.t.Helper()
	s.eventually("the pair", s.notPair)
}

// eventually waits until notYet says nothing.
func (s *stage) eventually(what string, notYet func() string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx(), levelLimit)
	defer cancel()
	for {
		why := notYet()
		if why == "" {
			return
		}
		if !wait(ctx) {
			s.t.Fatalf("waited %s for %s: %s", levelLimit, what, why)
		}
	}
}

// tails shows the end of each node's log of a case that failed.
func (s *stage) tails() {
	paths, _ := filepath.Glob(filepath.Join(s.Dir, "*", "agent.log"))
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		s.t.Logf("%s\n%s", filepath.Base(filepath.Dir(p)), strings.Join(lines[max(0, len(lines)-40):], "\n"))
	}
}

// api is a client for one question; the node may have been killed since the last.
func (s *stage) api(node string) *api.Client {
	s.t.Helper()
	return client(s.t, s.Lab, node)
}

func (s *stage) status(node string) api.Status {
	n, _ := s.Node(node)
	st, _ := n.Client().Status(s.ctx()) // empty while it is off
	return st
}

// mode waits until a node is that and takes writes, or not.
func (s *stage) mode(node string, want quorum.Mode, writable bool) api.Status {
	s.t.Helper()
	var st api.Status
	s.eventually(fmt.Sprintf("%s to be %s", node, want), func() string {
		st = s.status(node)
		if st.Mode == string(want) && st.Writable == writable {
			return ""
		}
		return fmt.Sprintf("it is %q, writable %v: %s", st.Mode, st.Writable, st.Why)
	})
	return st
}

// holds demands for a while what is so now: that a node stays as it is.
func (s *stage) holds(d time.Duration, what string, wrong func() string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx(), d)
	defer cancel()
	for {
		if why := wrong(); why != "" {
			s.t.Fatalf("%s: %s", what, why)
		}
		if !wait(ctx) {
			return
		}
	}
}

// readOnly demands for a while that none of the nodes takes writes.
func (s *stage) readOnly(d time.Duration, nodes ...string) {
	s.t.Helper()
	s.holds(d, "nobody may write", func() string {
		for _, n := range nodes {
			if st := s.status(n); st.Writable {
				return fmt.Sprintf("%s is %s and takes writes", n, st.Mode)
			}
		}
		return ""
	})
}

// write adds numbered services at a node, each of which must be answered.
func (s *stage) write(node string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx(), levelLimit)
	defer cancel()
	c := s.api(node)
	for range caseWrites {
		s.n++
		got, err := addService(ctx, c, fmt.Sprintf("n%d", s.n))
		if err != nil {
			s.t.Fatalf("write at %s: %v", node, err)
		}
		s.acks = append(s.acks, got)
	}
}

// run runs a dyad command at a node.
func (s *stage) dyad(node string, args ...string) (code int, out string) {
	s.t.Helper()
	out, err := s.Dyad(s.ctx(), node, args...)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, out
	case errors.As(err, &exit):
		return exit.ExitCode(), out
	}
	s.t.Fatal(err)
	return 0, ""
}

// must runs a command that has to succeed.
func (s *stage) must(node string, args ...string) string {
	s.t.Helper()
	code, out := s.dyad(node, args...)
	if code != 0 {
		s.t.Fatalf("%s: dyad %s: exit %d\n%s", node, strings.Join(args, " "), code, out)
	}
	return out
}

// refused demands that a node refuses intents with exit 4, a reason and a way
// out, while reading goes on.
func (s *stage) refused(node string, says string) {
	s.t.Helper()
	s.n++
	name := fmt.Sprintf("n%d", s.n)
	s.tried = append(s.tried, name)
	code, out := s.dyad(node, "service", "add", name, "--pool", "many")
	if code != 4 || !strings.Contains(out, says) || !strings.Contains(out, "try:") {
		s.t.Errorf("%s: an intent: exit %d, want 4 with %q and what to do\n%s", node, code, says, out)
	}
	if out := s.must(node, "service", "list"); !strings.Contains(out, "web") || strings.Contains(out, name+" ") {
		s.t.Errorf("%s: reading goes on without what was refused:\n%s", node, out)
	}
}

// takeOver gives the operator's word, which must be taken.
func (s *stage) takeOver(node string, more ...string) {
	s.t.Helper()
	args := append([]string{"takeover", "--confirm", lab.Other(node), "--reason", s.t.Name()}, more...)
	if out := s.must(node, args...); !strings.Contains(out, "writes the log alone") {
		s.t.Errorf("takeover said:\n%s", out)
	}
	s.mode(node, quorum.Sole, true)
}

func (s *stage) off(node string) {
	s.t.Helper()
	if err := s.PowerOff(node); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) on(node string) {
	s.t.Helper()
	if err := s.PowerOn(node, ""); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// announced watches the router until the returned function is called: it must
// have a route to each of the lab's first services at every look.
func (s *stage) announced() (end func()) {
	ctx, cancel := context.WithCancel(s.ctx())
	var wg sync.WaitGroup
	looks, gaps, first := 0, 0, ""
	wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			looks++
			if why := s.noRoute(); why != "" {
				gaps++
				if first == "" {
					first = time.Now().Format(time.StampMilli) + ": " + why
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	t := s.t
	return func() {
		cancel()
		wg.Wait()
		if gaps > 0 {
			t.Errorf("announcements stopped in %d of %d looks, first at %s", gaps, looks, first)
		}
	}
}

func (s *stage) noRoute() string {
	table, err := netlab.Table(s.NS(netlab.Router))
	if err != nil {
		return err.Error()
	}
	n := 0
	for p := range table {
		if s.PoolPrefix().Contains(p.Addr()) {
			n++
		}
	}
	if n < 2 {
		return fmt.Sprintf("the router has routes to %d of the two services", n)
	}
	return ""
}

// events are a node's whole log.
func (s *stage) events(node string) []eventlog.Public {
	s.t.Helper()
	var out []eventlog.Public
	s.eventually("the events of "+node, func() string {
		var err error
		out, err = s.api(node).Events(s.ctx(), audit.Query{Limit: audit.MaxLimit})
		if err != nil {
			return err.Error()
		}
		return ""
	})
	return out
}

// compare holds both logs against each other, event by event, and against what
// was answered. It takes the logs' common part: facts go on being recorded.
func (s *stage) compare() {
	s.t.Helper()
	var a, b []eventlog.Public
	s.eventually("both logs to hold every answer", func() string {
		a, b = s.events(nodeA), s.events(nodeB)
		for _, x := range s.acks {
			if len(a) < int(x.seq) || len(b) < int(x.seq) {
				return fmt.Sprintf("they have %d and %d events, and %s was event %d", len(a), len(b), x.name, x.seq)
			}
		}
		return ""
	})
	var epoch eventlog.Epoch
	for i := range min(len(a), len(b)) {
		x, y := a[i], b[i]
		if x.Seq != eventlog.Seq(i+1) || x.Seq != y.Seq || x.ID != y.ID || x.Hash != y.Hash || x.Hash == "" {
			s.t.Fatalf("the logs differ at event %d: %d %s %s %s, and %d %s %s %s", i+1, x.Seq, x.Type, x.ID, x.Hash, y.Seq, y.Type, y.ID, y.Hash)
		}
		if i > 0 && x.PrevHash != a[i-1].Hash {
			s.t.Fatalf("event %d does not follow event %d", x.Seq, a[i-1].Seq)
		}
		if x.Epoch < epoch || x.Type == eventlog.TypeEpochStarted && x.Epoch <= epoch {
			s.t.Fatalf("event %d (%s) is of epoch %d after %d", x.Seq, x.Type, x.Epoch, epoch)
		}
		epoch = x.Epoch
	}
	named := map[string]int{}
	for _, e := range a {
		if e.Type == eventlog.TypeServiceSet {
			named[e.Stream]++
		}
	}
	for _, x := range s.acks {
		if e := a[x.seq-1]; e.ID != x.id || named["service/"+x.name] != 1 {
			s.t.Errorf("%s was answered with event %d %s; there stands %s, and the log has %d of it", x.name, x.seq, x.id, e.ID, named["service/"+x.name])
		}
	}
	for _, name := range s.tried {
		if named["service/"+name] != 0 {
			s.t.Errorf("%s was refused and stands in the log", name)
		}
	}
}

// story demands that dyad log list tells these modes as the last that the log
// went through, and that they came by this authority.
func (s *stage) story(by quorum.Authority, modes ...quorum.Mode) {
	s.t.Helper()
	s.paired()
	s.eventually("dyad log list to tell of epochs", func() string {
		code, out := s.dyad(nodeA, "log", "list", "--type", string(eventlog.TypeEpochStarted))
		if code != 0 || !strings.Contains(out, "epoch.started") {
			return out // it may have to read the log to its end first
		}
		return ""
	})
	got, words := s.epochs()
	if !slices.Equal(got, modes) {
		s.t.Errorf("since epoch %d the log went through %v, want %v", s.epoch, got, modes)
	}
	if by != "" && (len(words) == 0 || !names(words[len(words)-1], by)) {
		s.t.Errorf("the evidence of the takeover does not name %s: %q", by, words)
	}
}

// epochs are the modes that the log went through since the case began, and the
// evidence of its takeovers.
func (s *stage) epochs() (modes []quorum.Mode, words []string) {
	s.t.Helper()
	for _, e := range s.events(nodeA) {
		if e.Type != eventlog.TypeEpochStarted || e.Epoch <= s.epoch {
			continue
		}
		var p eventlog.EpochPayload
		s.ok(json.Unmarshal(e.Data, &p))
		modes = append(modes, quorum.Mode(p.Mode))
		if p.Mode == string(quorum.Sole) {
			words = append(words, string(e.Evidence))
		}
	}
	return modes, words
}

// names tells whether a takeover's evidence names this authority.
func names(evidence string, by quorum.Authority) bool {
	return strings.Contains(evidence, fmt.Sprintf("%q:%q", "by", by))
}

// state is node.state of a node, as it lies on its disk.
func (s *stage) state(node string) string {
	b, err := os.ReadFile(filepath.Join(s.data(node), "node.state"))
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b))
}

func (s *stage) data(node string) string { return filepath.Join(s.Dir, node, "data") }

// archives counts the stores that a node has set aside.
func (s *stage) archives(node string) int {
	all, _ := filepath.Glob(filepath.Join(s.data(node), "archive", "*"))
	return len(all)
}
