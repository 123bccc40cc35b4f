package chaos

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var (
	one = netip.MustParseAddr("198.51.100.1")
	two = netip.MustParseAddr("198.51.100.2")
)

func TestSummarize(t *testing.T) {
	t0 := time.Unix(1_700_000_000, 0)
	run := Run{
		Start: t0, FaultAt: t0.Add(3 * ms), HealedAt: t0.Add(12 * ms),
		Streams: []Stream{
			{Address: one, Service: "web", Samples: stream("....................")},
			{Address: two, Service: "dns", Samples: stream(".x..xxxx.......x....")},
			{Address: two, Service: "dns", Flow: 1, Samples: stream("....xx..............")},
		},
		Instants: Instants{Detected: t0.Add(5 * ms), Decided: t0.Add(6 * ms), Announced: t0.Add(7 * ms)},
	}
	per, worst := Summarize(run)
	if len(per) != 2 {
		t.Fatalf("%d addresses: %v", len(per), per)
	}
	if a := per[0]; a.OutageMS != 0 || a.LostPackets != 0 || !a.Returned {
		t.Errorf("address that nothing happened to: %+v", a)
	}
	a := per[1]
	if a.OutageMS != 4 || a.DetectMS != 1 || a.DecideMS != 1 || a.AnnounceMS != 1 || a.ConvergeMS != 1 {
		t.Errorf("parts: %+v", a.Figures)
	}
	if a.LostPackets != 6 || a.FailbackLost != 1 || a.NoiseLost != 1 {
		t.Errorf("losses must be of all flows: %+v", a)
	}
	if worst.OutageMS != 4 || worst.LostPackets != 6 || worst.FailbackLost != 1 {
		t.Errorf("maximum: %+v", worst)
	}
}

// An outage that only the heal ended counts in full: cut at the heal, it would
// look as if the cluster had done it.
func TestSummarizeHealEndsOutage(t *testing.T) {
	t0 := time.Unix(1_700_000_000, 0)
	per, _ := Summarize(Run{
		Start: t0, FaultAt: t0.Add(2 * ms), HealedAt: t0.Add(6 * ms),
		Streams: []Stream{{Address: one, Samples: stream("..xxxxxx..")}},
	})
	if per[0].OutageMS != 6 || per[0].LostPackets != 4 || per[0].FailbackLost != 2 {
		t.Errorf("%+v", per[0])
	}
}

// A probe that was on its way when the fault struck is lost with those after it:
// the outage is not forgotten because it seems to begin before the fault.
func TestSummarizeLostOnTheWay(t *testing.T) {
	t0 := time.Unix(1_700_000_000, 0)
	per, _ := Summarize(Run{
		Start: t0, FaultAt: t0.Add(3 * ms), HealedAt: t0.Add(9 * ms),
		Streams:  []Stream{{Address: one, Samples: stream("x.xxxx......")}},
		Instants: Instants{Detected: t0.Add(4 * ms), Decided: t0.Add(4 * ms), Announced: t0.Add(5 * ms)},
	})
	a := per[0]
	if a.OutageMS != 3 || a.LostPackets != 3 || a.NoiseLost != 2 || a.DetectMS+a.DecideMS+a.AnnounceMS+a.ConvergeMS != 3 {
		t.Errorf("%+v", a)
	}
	if says := a.String(); !strings.Contains(says, "away 3 ms, 3 lost") {
		t.Error(says)
	}
}

func TestJudge(t *testing.T) {
	good := AddressReport{Address: one, Returned: true, Figures: Figures{OutageMS: 300, DetectMS: 290, ConvergeMS: 10, LostPackets: 300}}
	cases := []struct {
		name    string
		address AddressReport
		promise Promise
		want    string // part of the only complaint; empty: none
	}{
		{"kept", good, Promise{MaxOutage: 700 * ms, MaxLost: NoBound}, ""},
		{"too long, with the part to blame", good, Promise{MaxOutage: 200 * ms, MaxLost: NoBound}, "detecting (290 ms)"},
		{"lost", good, Promise{MaxOutage: NoBound, MaxLost: 0, MaxFailbackLost: NoBound}, "300 probes lost during"},
		{"not back", AddressReport{Address: one}, Promise{MaxOutage: NoBound, MaxLost: NoBound}, "did not return"},
		{"failback", AddressReport{Address: one, Returned: true, Figures: Figures{FailbackLost: 1}}, Promise{MaxOutage: NoBound}, "1 probes lost after the heal"},
	}
	for _, c := range cases {
		r := Report{Promise: c.promise, Addresses: []AddressReport{c.address}}.Judge()
		switch {
		case c.want == "" && len(r.Broken) != 0:
			t.Errorf("%s: %v", c.name, r.Broken)
		case c.want != "" && (len(r.Broken) != 1 || !strings.Contains(r.Broken[0], c.want)):
			t.Errorf("%s: %v, want %q", c.name, r.Broken, c.want)
		}
	}
	if r := (Report{}).Judge(); len(r.Broken) != 1 {
		t.Errorf("a drill that probed nothing kept its promise: %v", r.Broken)
	}
}

// Scripts read these names; they are only ever added to.
func TestReportFields(t *testing.T) {
	b, err := json.Marshal(Report{Addresses: []AddressReport{{Address: one}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{
		"outage_ms", "detect_ms", "decide_ms", "announce_ms", "converge_ms",
		"lost_packets", "failback_lost_packets", "probe_hz", "addresses", "broken",
	} {
		if !strings.Contains(string(b), `"`+f+`"`) {
			t.Errorf("report.json has no %s", f)
		}
	}
}

func TestScenarios(t *testing.T) {
	for _, s := range Scenarios() {
		s.Target = "node-b"
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
	base, err := Find("host-silent")
	if err != nil {
		t.Fatal(err)
	}
	base.Target = "node-b"
	bad := map[string]func(*Scenario){
		"no node":    func(s *Scenario) { s.Target = "" },
		"heal-after": func(s *Scenario) { s.HealAfter = 0 },
		"probe-hz":   func(s *Scenario) { s.ProbeHz = 0 },
		"flows":      func(s *Scenario) { s.Flows = MaxFlows + 1 },
		"fault":      func(s *Scenario) { s.Fault = "meteor" },
		"heal itself": func(s *Scenario) {
			s.HealAfter = time.Second
			s.Promise.MaxOutage = 2 * time.Second
		},
		"no step": func(s *Scenario) { s.Steps = nil },
	}
	for want, change := range bad {
		s := base
		change(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := Find("meteor"); err == nil || !strings.Contains(err.Error(), "agent-hang, agent-stop, host-silent, node-hang, pulse-hang") {
		t.Errorf("unknown drill: %v", err)
	}
}
