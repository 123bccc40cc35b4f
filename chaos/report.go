package chaos

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Figures are what a drill is about. Milliseconds; the four parts add up to
// OutageMS where the survivor told its instants, and are zero where not.
type Figures struct {
	OutageMS   float64 `json:"outage_ms"`
	DetectMS   float64 `json:"detect_ms"`
	DecideMS   float64 `json:"decide_ms"`
	AnnounceMS float64 `json:"announce_ms"`
	ConvergeMS float64 `json:"converge_ms"`
	// By is what brought traffic back: next-hop or preference; empty if unknown.
	By string `json:"by,omitempty"`
	// LostPackets counts lost probes while the fault stood.
	LostPackets int `json:"lost_packets"`
	// FailbackLost counts lost probes after the heal.
	FailbackLost int `json:"failback_lost_packets"`
}

// AddressReport is what one address suffered. With several flows it holds the
// figures of the flow that suffered longest, and the losses of all.
type AddressReport struct {
	Address netip.Addr `json:"address"`
	Service string     `json:"service,omitempty"`
	Figures
	// Returned is false if the last probes were not answered.
	Returned bool `json:"returned"`
	// NoiseLost counts probes lost before the fault: not the fault's doing.
	NoiseLost int     `json:"noise_lost_packets"`
	Sent      int     `json:"sent_packets"`
	Unsent    int     `json:"unsent_packets"`
	Reordered int     `json:"reordered_packets"`
	MaxRTTMS  float64 `json:"max_rtt_ms"`
}

// Report is the outcome of one drill. Its own figures are the maximum over all
// addresses: those of the address that was away longest, and the most losses
// that any address had.
type Report struct {
	Drill       string    `json:"drill"`
	Node        string    `json:"node"`
	Survivor    string    `json:"survivor"`
	Router      string    `json:"router"`
	Correlation string    `json:"correlation"`
	Started     time.Time `json:"started"`
	FaultAt     time.Time `json:"fault_at"`
	HealedAt    time.Time `json:"healed_at"`
	Ended       time.Time `json:"ended"`
	ProbeHz     int       `json:"probe_hz"`
	Flows       int       `json:"flows"`
	Figures
	Addresses []AddressReport `json:"addresses"`
	// MaxPauseMS is the longest time the prober itself stood still. An outage
	// shorter than it says little.
	MaxPauseMS float64 `json:"prober_max_pause_ms"`
	// Load is the one-minute load of the host when the fault struck.
	Load    float64 `json:"load"`
	Promise Promise `json:"promise"`
	// Broken lists the promises that did not hold, each with what to look at.
	Broken []string `json:"broken"`
}

// Ms is a duration in milliseconds with three decimals.
func Ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Stream is everything sampled for one address and flow.
type Stream struct {
	Address netip.Addr
	Service string
	Flow    int
	Samples []Sample
}

// Run is what a drill saw: the raw material of its report.
type Run struct {
	Start   time.Time // of the prober; samples count from here
	FaultAt time.Time
	// HealedAt ends the fault; zero if it never ended.
	HealedAt time.Time
	Streams  []Stream
	Instants Instants
}

// Summarize computes the figures of r for every address, in the order of the
// streams, and their maximum.
func Summarize(r Run) ([]AddressReport, Figures) {
	var out []AddressReport
	index := map[netip.Addr]int{}
	for _, s := range r.Streams {
		one := r.stream(s)
		i, ok := index[s.Address]
		if !ok {
			index[s.Address] = len(out)
			out = append(out, one)
			continue
		}
		out[i] = merge(out[i], one)
	}
	var worst Figures
	for _, a := range out {
		worst = maxFigures(worst, a.Figures)
	}
	return out, worst
}

func (r Run) stream(s Stream) AddressReport {
	fault := r.FaultAt.Sub(r.Start)
	end := time.Duration(1<<63 - 1)
	heal := end
	if !r.HealedAt.IsZero() {
		heal = r.HealedAt.Sub(r.Start)
	}
	all := Measure(s.Samples)
	during := Measure(Window(s.Samples, fault, heal))
	after := Measure(Window(s.Samples, heal, end))
	o := r.longest(s.Samples, fault, heal)
	p := Split(r.FaultAt, r.Start.Add(o.From), r.Start.Add(o.To), r.Instants)
	runs := Outages(s.Samples)
	return AddressReport{
		Address: s.Address, Service: s.Service,
		Figures: Figures{
			OutageMS: Ms(o.Length()), DetectMS: Ms(p.Detect), DecideMS: Ms(p.Decide),
			AnnounceMS: Ms(p.Announce), ConvergeMS: Ms(p.Converge), By: p.By,
			LostPackets: during.Lost, FailbackLost: after.Lost,
		},
		Returned:  all.Answered > 0 && (len(runs) == 0 || !runs[len(runs)-1].Open),
		NoiseLost: Measure(Window(s.Samples, 0, fault)).Lost,
		Sent:      all.Sent, Unsent: all.Unsent, Reordered: all.Reordered, MaxRTTMS: Ms(all.MaxRTT),
	}
}

// longest is the longest outage while the fault stood. It may end after the heal:
// then the heal ended it, and it counts in full. What was lost on its way when the
// fault struck belongs to it, and it counts from the fault.
func (r Run) longest(samples []Sample, fault, heal time.Duration) Outage {
	var worst Outage
	for _, o := range Outages(samples) {
		if o.To <= fault || o.From >= heal {
			continue
		}
		o.From = max(o.From, fault)
		if longer(o, worst) {
			worst = o
		}
	}
	return worst
}

func merge(a, b AddressReport) AddressReport {
	lost, back := a.LostPackets+b.LostPackets, a.FailbackLost+b.FailbackLost
	if b.OutageMS > a.OutageMS {
		a.Figures = b.Figures
	}
	a.LostPackets, a.FailbackLost = lost, back
	a.Returned = a.Returned && b.Returned
	a.NoiseLost += b.NoiseLost
	a.Sent += b.Sent
	a.Unsent += b.Unsent
	a.Reordered += b.Reordered
	a.MaxRTTMS = max(a.MaxRTTMS, b.MaxRTTMS)
	return a
}

func maxFigures(a, b Figures) Figures {
	w := a
	if b.OutageMS > a.OutageMS {
		w = b
	}
	w.LostPackets = max(a.LostPackets, b.LostPackets)
	w.FailbackLost = max(a.FailbackLost, b.FailbackLost)
	return w
}

// Judge fills r.Broken: every promise that did not hold, with what to look at.
func (r Report) Judge() Report {
	r.Broken = []string{}
	add := func(format string, args ...any) { r.Broken = append(r.Broken, fmt.Sprintf(format, args...)) }
	look := fmt.Sprintf("dyad log list --correlation %s", r.Correlation)
	if len(r.Addresses) == 0 {
		add("no address was probed, so nothing was shown; add a service first: dyad service add NAME")
	}
	for _, a := range r.Addresses {
		if !a.Returned {
			add("%s: traffic did not return; look at: dyad explain %s, dyad lab router-show", a.Address, a.Address)
		}
		if r.Promise.MaxOutage >= 0 && a.OutageMS > Ms(r.Promise.MaxOutage) {
			add("%s: away for %.0f ms, promised at most %.0f ms; %s; look at: %s",
				a.Address, a.OutageMS, Ms(r.Promise.MaxOutage), slowest(a.Figures), look)
		}
		if r.Promise.MaxLost >= 0 && a.LostPackets > r.Promise.MaxLost {
			add("%s: %d probes lost during the fault, promised at most %d; look at: %s", a.Address, a.LostPackets, r.Promise.MaxLost, look)
		}
		if r.Promise.MaxFailbackLost >= 0 && a.FailbackLost > r.Promise.MaxFailbackLost {
			add("%s: %d probes lost after the heal, promised at most %d; look at: %s", a.Address, a.FailbackLost, r.Promise.MaxFailbackLost, look)
		}
	}
	return r
}

func slowest(f Figures) string {
	parts := []struct {
		name string
		ms   float64
	}{{"detecting", f.DetectMS}, {"deciding", f.DecideMS}, {"announcing", f.AnnounceMS}, {"the routers", f.ConvergeMS}}
	worst := parts[0]
	for _, p := range parts[1:] {
		if p.ms > worst.ms {
			worst = p
		}
	}
	if worst.ms == 0 {
		return "the survivor told no takeover (did it detect anything?)"
	}
	return fmt.Sprintf("most of it by %s (%.0f ms)", worst.name, worst.ms)
}

// String is one line for people: "198.51.100.2: 312 ms away (…), 311 lost".
func (a AddressReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", a.Address)
	switch {
	case !a.Returned:
		fmt.Fprintf(&b, "DID NOT RETURN, %d lost", a.LostPackets+a.FailbackLost)
	case a.OutageMS == 0 && a.LostPackets == 0:
		fmt.Fprintf(&b, "no outage, 0 lost")
	default:
		fmt.Fprintf(&b, "away %.0f ms, %d lost", a.OutageMS, a.LostPackets)
	}
	switch {
	case a.DetectMS+a.DecideMS+a.AnnounceMS+a.ConvergeMS == 0:
	case a.By == ByNextHop:
		fmt.Fprintf(&b, " (detected after %.1f, next hop taken after %.1f, traffic back after %.1f ms)",
			a.DetectMS, a.DetectMS+a.DecideMS+a.AnnounceMS, a.OutageMS)
	default:
		fmt.Fprintf(&b, " (detected after %.1f, decided after %.1f, announced after %.1f, traffic back after %.1f ms)",
			a.DetectMS, a.DetectMS+a.DecideMS, a.DetectMS+a.DecideMS+a.AnnounceMS, a.OutageMS)
	}
	fmt.Fprintf(&b, "; after the heal %d lost", a.FailbackLost)
	if a.Unsent > 0 {
		fmt.Fprintf(&b, "; %d of %d probes not sent in time", a.Unsent, a.Sent+a.Unsent)
	}
	return b.String()
}
