package owner

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"dyad/neighbor"
)

var (
	macA   = neighbor.MAC{2, 0, 0, 0, 0, 0xa}
	macB   = neighbor.MAC{2, 0, 0, 0, 0, 0xb}
	macX   = neighbor.MAC{2, 0, 0, 0, 0, 0xee}
	ownOfB = netip.MustParseAddr("10.0.0.12")
)

var macs = map[string]neighbor.MAC{"a": macA, "b": macB, "x": macX}

func name(m neighbor.MAC) string {
	for n, v := range macs {
		if v == m {
			return n
		}
	}
	return fmt.Sprintf("%x", m)
}

// stage drives node a's machine through a dialogue. The other node is b, at
// 10.0.0.12; x is a stranger.
type stage struct {
	m   *Machine
	now time.Duration
}

// TestDialogues runs the conversations in testdata: each line is what happens to
// the machine at a time in milliseconds, or "run", which lets the time pass; each
// answer is what it sends and says, with the time.
func TestDialogues(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &stage{m: New()}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out strings.Builder
			for line := range strings.SplitSeq(strings.TrimSpace(d.Input), "\n") {
				s.line(t, &out, strings.Fields(line))
			}
			return out.String()
		})
	})
}

func (s *stage) line(t *testing.T, out *strings.Builder, w []string) {
	ms, err := strconv.Atoi(w[0])
	if err != nil {
		t.Fatalf("%v: %v", w, err)
	}
	until := time.Duration(ms) * time.Millisecond
	for {
		due, some := s.m.Due()
		if !some || due >= until && (due > until || w[1] != "run") {
			break
		}
		s.now = max(s.now, due)
		s.m.Turn(s.now)
		s.flush(out)
	}
	s.now = until
	fmt.Fprintf(out, "%s\n", strings.Join(w, " "))
	switch w[1] {
	case "run":
	case "up", "down":
		s.m.Link(s.now, w[1] == "up")
	case "want":
		wishes, twins := parseWant(t, w[2:])
		s.m.Want(s.now, wishes, twins)
	case "claim": // claim ADDRESS MAC
		m := macs[w[3]]
		s.m.Hear(s.now, neighbor.Message{Claim: true, Address: netip.MustParseAddr(w[2]), MAC: m, Source: m})
	case "ask": // ask ADDRESS MAC ASKER
		m, asker := macs[w[3]], netip.MustParseAddr(w[4])
		s.m.Hear(s.now, neighbor.Message{Claim: !asker.IsUnspecified(), Address: asker, MAC: m, Source: m, Asks: true, Target: netip.MustParseAddr(w[2])})
	case "states":
		for _, v := range s.m.States() {
			fmt.Fprintf(out, "  %s held=%v conflict=%v %s\n", v.Address, v.Held, v.Conflict, v.Why)
		}
	default:
		t.Fatalf("unknown input %v", w)
	}
	s.flush(out)
}

// parseWant reads ADDRESS:MODE[:FLAG…] and twin:ADDRESS.
func parseWant(t *testing.T, words []string) (wishes []Wish, twins []netip.Addr) {
	modes := map[string]Mode{"spare": Spare, "own": Own, "take": Take}
	for _, text := range words {
		f := strings.Split(text, "/")
		if f[0] == "twin" {
			twins = append(twins, netip.MustParseAddr(f[1]))
			continue
		}
		w := Wish{Address: netip.MustParseAddr(f[0]), Mode: modes[f[1]]}
		for _, flag := range f[2:] {
			switch flag {
			case "firm":
				w.Firm = true
			case "quick":
				w.Quick = true
			case "known":
				w.Known = true
			case "preferred":
				w.Preferred = true
			default:
				t.Fatalf("unknown flag %s", flag)
			}
		}
		wishes = append(wishes, w)
	}
	return wishes, twins
}

func (s *stage) flush(out *strings.Builder) {
	for _, a := range s.m.Actions() {
		fmt.Fprintf(out, "  %.3f %s %s", float64(s.now)/1e9, [...]string{"", "announce", "answer", "ask", "probe"}[a.Do], a.Address)
		if a.Do == Answer {
			fmt.Fprintf(out, " to %s at %s", a.Asker, name(a.To))
		}
		out.WriteByte('\n')
	}
	for _, e := range s.m.Events() {
		fmt.Fprintf(out, "  %.3f ! %s %s", float64(s.now)/1e9, [...]string{"", "taken", "given", "conflict", "cleared"}[e.Kind], e.Address)
		if !e.MAC.IsZero() {
			fmt.Fprintf(out, " (%s)", name(e.MAC))
		}
		fmt.Fprintf(out, ": %s\n", e.Why)
	}
}
