package quorum

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"dyad/eventlog"
)

// TestDialogues runs the conversations in testdata. Each line is what node-a sees
// next, in a few words; what it saw before stays, but for an operator's word. The
// answer is what the rules make of it: how the node shows itself, what it does,
// the record it keeps, and what it tells the operator.
func TestDialogues(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		d := &dialogue{t: t}
		datadriven.RunTest(t, path, func(t *testing.T, in *datadriven.TestData) string {
			if in.Cmd != "steps" {
				t.Fatalf("unknown command %s", in.Cmd)
			}
			d.begin()
			var out strings.Builder
			for line := range strings.SplitSeq(strings.TrimSpace(in.Input), "\n") {
				fmt.Fprintf(&out, "%s\n%s", line, d.answer(strings.Fields(line)))
			}
			return out.String()
		})
	})
}

type dialogue struct {
	t *testing.T
	r Record
	s Sight
	m Move // the last
}

// begin is a pair that is well, at epoch 3.
func (d *dialogue) begin() {
	d.r = Record{Mode: Pair, Epoch: 3}
	d.s = Sight{Self: "node-a", HoldDown: 3 * time.Second, Proven: true, Authority: ByOperator}
	d.log(Pair, 3, "")
	d.s.Log.Writable = true
	d.s.Peer = PeerSight{Name: "node-b", Epoch: 3, Mode: Pair}
}

func (d *dialogue) answer(w []string) string {
	d.s.Word = Word{}
	for i := 0; i < len(w); {
		n := d.word(w[i:])
		if n == 0 {
			d.t.Fatalf("unknown word %q in %q", w[i], w)
		}
		i += n
	}
	d.m = Next(d.r, d.s)
	d.r = d.m.Record
	m, record := d.m, fmt.Sprintf("%s %d", d.r.Mode, d.r.Epoch)
	if d.r.Step != "" {
		record = strings.TrimSpace(fmt.Sprintf("%s, %s %d %s", record, d.r.Step, d.r.Next, d.r.By))
	}
	do := string(m.Do)
	switch m.Do {
	case Reform, Pairup, Leave:
		do = fmt.Sprintf("%s at epoch %d", do, m.Epoch)
	case AskWitness, TellWitness:
		if m.From.Epoch > 0 {
			do = fmt.Sprintf("%s: %s to %s", do, m.From, m.To)
		}
	}
	out := fmt.Sprintf("  %s (%s): %s\n", m.Mode, record, do)
	if m.Why != "" {
		out += fmt.Sprintf("  why: %s\n", m.Why)
	}
	if m.Fix != "" {
		out += fmt.Sprintf("  try: %s\n", m.Fix)
	}
	return out
}

// word takes in what w begins with, and tells how many words that is.
func (d *dialogue) word(w []string) int {
	arg := func(i int) string {
		if i >= len(w) {
			d.t.Fatalf("%q is not complete", w)
		}
		return w[i]
	}
	number := func(i int) eventlog.Epoch {
		n, err := strconv.ParseUint(arg(i), 10, 32)
		if err != nil {
			d.t.Fatalf("%q: %v", w, err)
		}
		return eventlog.Epoch(n)
	}
	switch w[0] {
	case "record": // MODE EPOCH: what lies on the disk
		d.r = Record{Mode: Mode(arg(1)), Epoch: number(2)}
		return 3
	case "boots": // this agent starts
		d.r, d.s.Proven, d.s.Fenced, d.s.Steady, d.s.Leaving = Boot(d.r, false), false, false, false, false
		d.s.Witness.Known, d.s.Witness.Claim = false, Claim{Cluster: "c"}
		return 1
	case "log": // MODE EPOCH [NODE]: the last epoch.started that was applied
		if alone := Mode(arg(1)) != Pair; alone {
			d.log(Mode(arg(1)), number(2), arg(3))
			return 4
		}
		d.log(Pair, number(2), "")
		return 3
	case "writable", "refusing":
		d.s.Log.Writable, d.s.Log.Refusing = w[0] == "writable", 0
		if w[0] == "refusing" {
			d.s.Log.Refusing = d.s.HoldDown
		}
		return 1
	case "heard": // MODE EPOCH: what node-b says of itself
		d.s.Peer.Silent, d.s.Peer.Mode, d.s.Peer.Epoch = 0, Mode(arg(1)), number(2)
		return 3
	case "silent": // DURATION
		var err error
		if d.s.Peer.Silent, err = time.ParseDuration(arg(1)); err != nil {
			d.t.Fatal(err)
		}
		return 2
	case "witness": // silent, or MODE EPOCH [NODE]
		return d.witness(w, arg, number)
	case "authority":
		d.s.Authority = Authority(arg(1))
		return 2
	case "done": // the deed came to its end
		d.done()
		return 1
	}
	return d.flag(w[0])
}

func (d *dialogue) witness(w []string, arg func(int) string, number func(int) eventlog.Epoch) int {
	d.s.Witness = WitnessSight{Configured: true, Claim: Claim{Cluster: "c"}}
	if arg(1) == "silent" {
		return 2
	}
	d.s.Witness.Known = true
	d.s.Witness.Claim.Mode, d.s.Witness.Claim.Epoch = Mode(arg(1)), number(2)
	if Mode(w[1]) == Pair {
		return 3
	}
	d.s.Witness.Claim.Holder = arg(3)
	return 4
}

// flag is a word that stands alone.
func (d *dialogue) flag(word string) int {
	switch word {
	case "takeover":
		d.s.Word.Peer = "node-b"
	case "accept-loss":
		d.s.Word.AcceptLoss = true
	case "without-witness":
		d.s.Word.WithoutWitness = true
	case "proven":
		d.s.Proven = true
	case "routers-stay":
		d.s.Steady = true
	case "shared":
		d.s.Log.Shared = true
	case "learner":
		d.s.Learner = true
	case "leaving":
		d.s.Leaving = true
	default:
		return 0
	}
	return 1
}

func (d *dialogue) log(m Mode, e eventlog.Epoch, writer string) {
	d.s.Log.Mode, d.s.Log.Epoch = m, e
	d.s.Log.Self, d.s.Log.Others, d.s.Log.Shared = writer != "node-b", writer != "node-a", m == Pair
}

// done is the driver's part, if all goes well.
func (d *dialogue) done() {
	m := d.m
	switch m.Do {
	case Reform:
		d.r = Record{Mode: Sole, Epoch: m.Epoch}
		d.log(Sole, m.Epoch, "node-a")
		d.s.Log.Writable, d.s.Proven, d.s.Learner = true, true, false
	case Pairup:
		d.r = Record{Mode: Pair, Epoch: m.Epoch}
		d.log(Pair, m.Epoch, "")
		d.s.Learner, d.s.Log.Writable, d.s.Proven = false, true, true
	case AskWitness, TellWitness:
		if m.From.Epoch == 0 {
			d.t.Fatal("the witness does not answer")
		}
		stands, err := d.s.Witness.Claim.Swap(m.From, m.To)
		if err != nil {
			d.t.Fatal(err)
		}
		d.s.Witness.Claim, d.s.Witness.Known = stands, true
	case AskFence:
		d.s.Fenced = true
	case Return:
		d.r = Record{Mode: Joining, Epoch: d.s.Peer.Epoch}
		d.log("", 0, "node-b")
		d.s.Log.Writable, d.s.Proven = false, false
	case Leave:
		d.r = Record{Mode: Stale, Epoch: m.Epoch}
	case Shed:
		d.s.Log.Shared = false
	default:
		d.t.Fatalf("%s is no deed", m.Do)
	}
}
