package failover

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"

	"dyad/eventlog"
	"dyad/projections"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// bench drives one machine through a dialogue.
type stage struct {
	t   *testing.T
	m   *Machine
	now time.Time
	n   uint64 // of the peer's reports
}

// TestDialogues runs the conversations in testdata: each line is an input with
// the time it is seen, each answer what the machine says to it.
func TestDialogues(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &stage{t: t, now: epoch}
		s.m = New(Config{Self: "a", Boot: "a1"}, epoch)
		datadriven.RunTest(t, path, s.run)
	})
}

func (s *stage) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "steps":
	case "failback": // failback manual, or the windows as FROM-TO in seconds since midnight
		s.m = New(Config{Self: "a", Boot: "a1", Failback: policy(t, d.Input)}, epoch)
		return ""
	case "dump":
		return s.m.String() + "\n"
	case "contacts":
		return contacts(s.m)
	default:
		t.Fatalf("unknown command %s", d.Cmd)
	}
	var out strings.Builder
	for line := range strings.SplitSeq(strings.TrimSpace(d.Input), "\n") {
		fmt.Fprintf(&out, "%s\n", s.line(strings.Fields(line)))
	}
	return out.String()
}

// line is "<seconds> <input> [words]".
func (s *stage) line(w []string) string {
	sec, err := strconv.ParseFloat(w[0], 64)
	if err != nil {
		s.t.Fatalf("%v: %v", w, err)
	}
	s.now = epoch.Add(time.Duration(sec * float64(time.Second)))
	return w[0] + " " + w[1] + s.words(w) + " -> " + describe(s.m.Step(s.now, s.input(w[1], w[2:])))
}

func (s *stage) words(w []string) string {
	if len(w) < 3 {
		return ""
	}
	return " " + strings.Join(w[2:], " ")
}

func (s *stage) input(name string, w []string) Input {
	router := netip.MustParseAddr("192.0.2.1")
	has := func(word string) bool { return slices.Contains(w, word) }
	switch name {
	case "tick":
		return Tick{}
	case "alive":
		return PeerAlive{Node: "b", Sensor: SensorMemberlist}
	case "silent":
		return PeerSilent{Node: "b", Sensor: SensorMemberlist, Silence: 300 * time.Millisecond}
	case "left":
		return PeerLeft{Node: "b", Sensor: SensorMemberlist}
	case "report": // report BOOT [STANCE] [ready] [stopping] [late]
		if !has("late") {
			s.n++
		}
		started, err := strconv.ParseInt(strings.TrimPrefix(w[0], "b"), 10, 64)
		if err != nil {
			s.t.Fatalf("boot %s is not b<number>", w[0])
		}
		r := Report{Boot: w[0], Started: started, Stance: projections.StanceNormal, N: s.n, Ready: has("ready"), Stopping: has("stopping")}
		for _, st := range []projections.Stance{projections.StanceTakeover, projections.StanceStepDown} {
			if has(string(st)) {
				r.Stance = st
			}
		}
		return PeerReport{Node: "b", Report: r}
	case "heard", "word": // heard [step-down] [hung] [isolated] [sessions]
		word := Word{Epoch: 4, Mode: "PAIR", Stance: projections.StanceNormal, Hung: has("hung"), Isolated: has("isolated")}
		if has(string(projections.StanceStepDown)) {
			word.Stance = projections.StanceStepDown
		}
		if has("sessions") {
			word.SessionsWanted = 1 // none is up
		}
		if name == "word" {
			return PulseWord{Node: "b", Word: word}
		}
		return PulseHeard{Node: "b", Word: word}
	case "suspect":
		return PulseSuspect{Node: "b", Silence: 15 * time.Millisecond, Evidence: map[string]any{"missed": 3}}
	case "severed":
		return PulseSevered{Node: "b", Silence: time.Millisecond}
	case "refused":
		return PulseProcessDown{Node: "b", Silence: 4 * time.Millisecond}
	case "kernel":
		return PulseKernel{Node: "b", Answers: has("answers")}
	case "bye":
		return PulseLeft{Node: "b"}
	case "path":
		return PulsePath{Node: "b", Path: w[0], Up: has("up")}
	case "pulse":
		return PulseLost{Why: "killed"}
	case "hop":
		return PulseHop{Node: "b", Address: router, Interface: "eth1", Taken: has("taken")}
	case "gateway":
		return Gateway{Answers: has("answers")}
	case "session":
		return Session{Peer: router, Established: has("up")}
	case "peers":
		return Peers{Want: []netip.Addr{router}}
	case "synced":
		return Synced{OK: !has("no")}
	case "nodes":
		return Nodes{Names: w}
	case "drained":
		nodes := map[string]bool{}
		for _, n := range w {
			nodes[n] = true
		}
		return Drained{Nodes: nodes}
	case "allowed":
		n, err := strconv.ParseUint(w[0], 10, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		return Allowed{Nodes: map[string]uint64{"b": n}}
	case "health":
		return ServiceHealth{Service: w[0], Healthy: has("ok"), Why: strings.Join(w[1:], " ")}
	case "services":
		return Services{Names: w}
	case "stopping":
		return Stopping{}
	case "silence":
		return Silence{}
	}
	s.t.Fatalf("unknown input %s", name)
	return nil
}

func policy(t *testing.T, text string) (f Failback) {
	for w := range strings.FieldsSeq(text) {
		if w == "manual" {
			f.Manual = true
			continue
		}
		var from, to int
		if _, err := fmt.Sscanf(w, "%d-%d", &from, &to); err != nil {
			t.Fatalf("%s: %v", w, err)
		}
		f.Windows = append(f.Windows, Window{time.Duration(from) * time.Second, time.Duration(to) * time.Second})
	}
	return f
}

// contacts shows what a takeover of the log would be told.
func contacts(m *Machine) string {
	var b strings.Builder
	for name, c := range m.contacts() {
		fmt.Fprintf(&b, "%s silent=%v", name, c.Silent)
		if !c.Since.IsZero() {
			fmt.Fprintf(&b, " since=%s", strconv.FormatFloat(c.Since.Sub(epoch).Seconds(), 'f', -1, 64))
		}
		fmt.Fprintf(&b, " paths=%v epoch=%d mode=%s", c.Paths, c.Epoch, c.Mode)
		if c.Routers != NoAnswer {
			fmt.Fprintf(&b, " routers=%s", c.Routers)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func describe(o Output) string {
	parts := []string{string(o.View.Stance), o.View.Reason.Code}
	for _, n := range slices.Sorted(maps.Keys(o.View.Nodes)) {
		parts = append(parts, n+"="+string(o.View.Nodes[n]))
	}
	for _, n := range slices.Sorted(maps.Keys(o.View.Unhealthy)) {
		parts = append(parts, n+":sick")
	}
	if !o.WakeAt.IsZero() {
		parts = append(parts, "wake="+strconv.FormatFloat(o.WakeAt.Sub(epoch).Seconds(), 'f', -1, 64))
	}
	if o.ReportChanged {
		parts = append(parts, fmt.Sprintf("report#%d", o.Report.N))
		if o.Report.Ready {
			parts = append(parts, "ready")
		}
	}
	for _, f := range o.Facts {
		parts = append(parts, "!"+string(f.Type))
	}
	return strings.Join(parts, " ")
}

// anyInput draws what sensors might say in any order.
func anyInput(r *rapid.T, n *uint64) Input {
	switch rapid.IntRange(0, 15).Draw(r, "input") {
	case 10:
		return PulseHeard{Node: "b", Word: Word{Stance: projections.StanceNormal, Hung: rapid.Bool().Draw(r, "hung")}}
	case 11:
		return PulseSuspect{Node: "b"}
	case 12:
		return PulseKernel{Node: "b", Answers: rapid.Bool().Draw(r, "answers")}
	case 13:
		return PulseProcessDown{Node: "b"}
	case 14:
		return PulseLeft{Node: "b"}
	case 15:
		return PulseLost{}
	case 0, 1:
		return PeerAlive{Node: "b", Sensor: SensorMemberlist}
	case 2, 3:
		return PeerSilent{Node: "b", Sensor: SensorMemberlist}
	case 4:
		return PeerLeft{Node: "b", Sensor: SensorMemberlist}
	case 5, 6:
		*n++
		return PeerReport{Node: "b", Report: Report{
			Boot: rapid.SampledFrom([]string{"b1", "b2"}).Draw(r, "boot"), N: *n, Ready: rapid.Bool().Draw(r, "ready"),
			Stance: rapid.SampledFrom([]projections.Stance{projections.StanceNormal, projections.StanceTakeover, projections.StanceStepDown}).Draw(r, "stance"),
		}}
	case 7:
		return Synced{OK: rapid.Bool().Draw(r, "synced")}
	case 8:
		return ServiceHealth{Service: "s", Healthy: rapid.Bool().Draw(r, "healthy")}
	default:
		return Tick{}
	}
}

// Whatever the sensors say: a node in sync whose peer is dead takes over; a node
// not in sync never does better than the last preference; nothing is called
// changed that is not; and in the end a pair that is well comes to rest.
func TestMachineKeepsItsWord(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		now, n, synced := epoch, uint64(0), false
		m := New(Config{Self: "a", Boot: "a1"}, now)
		before := m.View()
		for range rapid.IntRange(1, 60).Draw(r, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(r, "ms")) * time.Millisecond)
			in := anyInput(r, &n)
			if s, ok := in.(Synced); ok {
				synced = s.OK
			}
			o := m.Step(now, in)
			switch {
			case !synced && o.View.Stance != projections.StanceStepDown:
				r.Fatalf("not in sync, but %s", o.View.Stance)
			case synced && o.View.Nodes["b"] == projections.DeadMember && o.View.Stance != projections.StanceTakeover:
				r.Fatalf("the peer is dead, but %s", o.View.Stance)
			case o.Changed == sameView(before, o.View):
				r.Fatalf("changed=%v: %+v %+v", o.Changed, before, o.View)
			case o.Changed == false && slices.ContainsFunc(o.Facts, func(f Fact) bool { return f.Type != eventlog.TypePulseDown }):
				r.Fatalf("facts without a change: %v", o.Facts)
			}
			o.View.Nodes["b"], o.View.Unhealthy["s"] = "scribble", "scribble" // the caller's copy
			before = m.View()
			if before.Nodes["b"] == "scribble" || before.Unhealthy["s"] == "scribble" {
				r.Fatalf("the view shares its maps with the machine")
			}
		}
		m.Step(now, Synced{OK: true})
		m.Step(now, PulseHeard{Node: "b", Word: Word{Stance: projections.StanceNormal}})
		n++
		o := m.Step(now, PeerReport{Node: "b", Report: Report{Boot: "b3", N: n, Ready: true, Stance: projections.StanceTakeover}})
		for range 5 {
			if o.WakeAt.IsZero() {
				break
			}
			o = m.Step(o.WakeAt, Tick{})
		}
		if o.View.Stance != projections.StanceNormal {
			r.Fatalf("a pair that is well stays at %s (%s)", o.View.Stance, o.View.Reason.Code)
		}
	})
}

func BenchmarkStep(b *testing.B) {
	m := New(Config{Self: "a", Boot: "a1"}, epoch)
	m.Step(epoch, Synced{OK: true})
	m.Step(epoch, PeerAlive{Node: "b"})
	now := epoch
	for b.Loop() {
		now = now.Add(time.Millisecond)
		m.Step(now, PeerSilent{Node: "b"})
		m.Step(now, PeerAlive{Node: "b"})
	}
}
