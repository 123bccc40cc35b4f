package pulse

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// wire drives a taker with a hop (0), a kernel address (1) and a gateway (2).
type wire struct {
	t       *testing.T
	k       *Taker
	now     time.Duration
	answers [3]bool
	log     []string
}

func newWire(t *testing.T) *wire {
	w := &wire{t: t, k: NewTaker([]Class{Hop, Kernel, Gateway}), now: time.Hour, answers: [3]bool{true, true, true}}
	w.k.Arm(w.now, true)
	return w
}

func (w *wire) note() {
	for _, a := range w.k.Actions() {
		switch a.Do {
		case Take:
			w.log = append(w.log, fmt.Sprintf("take%d", a.Target))
		case Give:
			w.log = append(w.log, fmt.Sprintf("give%d", a.Target))
		case Ask:
			if w.answers[a.Target] {
				w.k.Claim(w.now, a.Target)
			}
		}
	}
	for _, e := range w.k.Events() {
		w.log = append(w.log, e.Kind.String())
	}
}

func (w *wire) run(d time.Duration) {
	for end := w.now + d; w.now < end; w.now += ms {
		w.k.Turn(w.now)
		w.note()
	}
}

func (w *wire) want(want string) {
	w.t.Helper()
	if got := strings.Join(w.log, " "); got != want {
		w.t.Errorf("at %s:\n got %s\nwant %s", w.now-time.Hour, got, want)
	}
	w.log = nil
}

func (w *wire) die() { w.answers[0], w.answers[1] = false, false }

func TestDeadNodeIsTaken(t *testing.T) {
	w := newWire(t)
	w.die()
	w.k.Doubt(w.now)
	w.run(5 * ms)
	w.want("")
	w.k.Quiet(w.now)
	w.note()
	w.want("take0 gateway-alive") // at once
	w.run(8 * ms)
	w.want("take0 take0")
	w.run(100 * ms)
	w.want("kernel-dead")
	w.run(time.Second)
	w.want("take0 take0") // slowly, as long as it lasts
	// It is back: its kernel first, then its heartbeats.
	w.answers[0] = true
	w.run(100 * ms)
	w.want("kernel-alive give0 give0 give0")
	w.k.Heard(w.now)
	w.k.Calm(w.now)
	w.run(time.Second)
	w.want("")
}

// A node whose kernel answers in time loses nothing: a paused process, a busy
// machine.
func TestLivingKernelKeepsItsNextHop(t *testing.T) {
	w := newWire(t)
	w.k.Doubt(w.now)
	w.run(5 * ms)
	w.k.Quiet(w.now)
	w.run(time.Second)
	w.want("kernel-alive gateway-alive")
	w.die() // and then the machine dies too
	w.run(200 * ms)
	w.want("take0 kernel-dead take0 take0")
}

// If its answer comes late, or it defends itself, it gets its next hop back at once.
func TestOwnerDefends(t *testing.T) {
	w := newWire(t)
	w.die()
	w.k.Doubt(w.now)
	w.k.Quiet(w.now)
	w.run(2 * ms)
	w.want("take0 gateway-alive take0") // the router is heard: once more
	w.k.Claim(w.now, 0)
	w.note()
	w.want("give0 kernel-alive")
	if w.k.Held(0) {
		t.Error("still held")
	}
}

func TestRefusedTakesNothingWhileTheKernelLives(t *testing.T) {
	w := newWire(t)
	w.k.Refused(w.now)
	w.k.Doubt(w.now) // of the silence that follows
	w.note()
	w.run(time.Second)
	w.want("gateway-alive")
	w.die()
	w.run(200 * ms)
	w.want("take0 kernel-dead take0 take0")
}

// What a router answered before the node fell silent counts for nothing: it is
// asked anew, and a cable that is out says nothing.
func TestEachSilenceAsksTheGatewayAnew(t *testing.T) {
	w := newWire(t)
	w.die()
	w.k.Doubt(w.now) // of one path
	w.run(time.Second)
	w.want("")
	w.k.Open(w.now, 2, false)
	w.k.Doubt(w.now) // of all
	w.run(5 * ms)
	w.k.Quiet(w.now)
	w.run(100 * ms)
	w.want("take0 take0 take0 kernel-dead")
	w.k.Open(w.now, 2, true)
	w.run(50 * ms)
	w.want("gateway-alive take0 take0 take0") // what was said into a cut cable counts for nothing
}

// A node that hangs for long and then dies loses its next hop at once: its kernel
// was asked all the time.
func TestLongSilentKernelIsMissedAtOnce(t *testing.T) {
	w := newWire(t)
	w.k.Doubt(w.now)
	w.run(5 * ms)
	w.k.Quiet(w.now)
	w.run(time.Minute)
	w.want("kernel-alive gateway-alive")
	w.die()
	w.run(200 * ms)
	w.want("take0 kernel-dead take0 take0")
}

// A path has been down for long, and then the own cable goes: the first question
// that a router leaves unanswered is followed by others at once.
func TestGatewayIsMissedSoonAlsoAfterLong(t *testing.T) {
	w := newWire(t)
	w.k.Doubt(w.now)
	w.run(time.Minute)
	w.want("")
	w.answers = [3]bool{}
	w.run(AskIdle + (GatewayLimit+1)*AskEvery)
	w.want("gateway-dead")
}

// The own cable is out: the gateway is silent too.
func TestGatewayTellsWhoIsCutOff(t *testing.T) {
	w := newWire(t)
	w.answers = [3]bool{false, true, false}
	w.k.Doubt(w.now)
	w.run(100 * ms)
	w.want("gateway-dead")
	w.answers = [3]bool{true, true, true}
	w.run(100 * ms)
	w.want("gateway-alive")
	w.answers[2] = false
	w.run(300 * ms)
	w.want("gateway-dead")
	w.k.Calm(w.now)
	w.run(ms)
	w.want("gateway-alive")
}

// The other node's cable is out, and it says so on the other path.
func TestCutOffNodeIsTaken(t *testing.T) {
	w := newWire(t)
	w.answers[0] = false
	w.k.Doubt(w.now)
	w.run(40 * ms)
	w.want("")
	w.k.Cut(w.now, true)
	w.note()
	w.want("take0")
	w.k.Cut(w.now, false)
	w.note()
	w.want("give0")
}

func TestUnarmedTakesNothing(t *testing.T) {
	w := newWire(t)
	w.die()
	w.k.Arm(w.now, false)
	w.k.Doubt(w.now)
	w.k.Quiet(w.now)
	w.run(100 * ms)
	w.want("gateway-alive kernel-dead")
	w.k.Arm(w.now, true)
	w.note()
	w.want("take0")
	w.k.Arm(w.now, false)
	w.note()
	w.want("give0")
}

// A target whose interface can't be used is no evidence, and is not taken.
func TestClosedTargetsSayNothing(t *testing.T) {
	w := newWire(t)
	w.die()
	w.k.Open(w.now, 0, false)
	w.k.Open(w.now, 1, false)
	w.k.Quiet(w.now)
	w.run(time.Second)
	w.want("gateway-alive")
	w.k.Open(w.now, 0, true)
	w.run(30 * ms)
	w.want("take0 take0 take0")
	w.run(30 * ms)
	w.want("kernel-dead")
}

// A path may be down for days: the questions become rare.
func TestQuestionsBecomeRare(t *testing.T) {
	w := newWire(t)
	asked := 0
	w.k.Doubt(w.now)
	for end := w.now + time.Minute; w.now < end; w.now += ms {
		w.k.Turn(w.now)
		for _, a := range w.k.Actions() {
			if a.Do == Ask && a.Target == 0 {
				asked++
				w.k.Claim(w.now, 0)
			}
		}
		_ = w.k.Events()
	}
	if asked > AskIdleAfter+60 || asked < AskIdleAfter {
		t.Errorf("%d questions in a minute", asked)
	}
}

// Our own cable comes out: nothing is taken there, the other node's kernel is not
// said to be dead, and the router is said to be silent at once.
func TestDarkSegments(t *testing.T) {
	w := newWire(t)
	for i := range 3 {
		w.k.Dark(w.now, i, true)
	}
	w.k.Doubt(w.now)
	w.note()
	w.want("gateway-dead")
	w.k.Quiet(w.now)
	w.run(time.Second)
	w.want("")
	if at, ok := w.k.Due(); ok {
		t.Errorf("it has something to do at %s", at-w.now)
	}
	for i := range 3 {
		w.k.Dark(w.now, i, false)
	}
	w.run(50 * ms)
	if s := strings.Join(w.log, " "); !strings.Contains(s, "gateway-alive") || !strings.Contains(s, "kernel-alive") {
		t.Error(s)
	}
}
