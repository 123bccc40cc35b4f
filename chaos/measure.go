package chaos

import (
	"slices"
	"time"
)

// Outcome is what became of one probe.
type Outcome uint8

// The outcomes.
const (
	// Unsent: the prober itself was late (paused, or out of CPU), so the
	// probe was never sent. It says nothing about the network.
	Unsent Outcome = iota
	// Lost: sent, and not answered before the prober gave it up.
	Lost
	// Answered: sent and answered.
	Answered
)

// Sample is one probe of one stream.
//
// Invariant: the samples of a stream are sorted by Seq, and Sent never falls.
type Sample struct {
	Seq uint64
	// Sent is when the probe was sent, since the prober's start. For an
	// unsent probe it is when it should have been sent.
	Sent time.Duration
	// At is when the answer came, since the prober's start; only if Answered.
	At      time.Duration
	Outcome Outcome
}

// Outage is one run of lost probes.
type Outage struct {
	// From is when the first lost probe was sent, To when the first answered
	// probe after it was sent, both since the prober's start. An Open outage
	// had no end: To is when its last lost probe was sent.
	From time.Duration `json:"from_ns"`
	To   time.Duration `json:"to_ns"`
	Lost int           `json:"lost"`
	Open bool          `json:"open,omitempty"`
}

// Length of the outage.
func (o Outage) Length() time.Duration { return o.To - o.From }

// Outages lists every run of losses, in order. Unsent probes neither begin nor
// end a run: a prober that paused must not make an outage look shorter.
func Outages(samples []Sample) []Outage {
	var out []Outage
	var cur *Outage
	for _, s := range samples {
		switch s.Outcome {
		case Lost:
			if cur == nil {
				out = append(out, Outage{From: s.Sent, Open: true})
				cur = &out[len(out)-1]
			}
			cur.Lost++
			cur.To = s.Sent
		case Answered:
			if cur != nil {
				cur.To, cur.Open, cur = s.Sent, false, nil
			}
		case Unsent:
		}
	}
	return out
}

// Measurement sums up the samples of one stream in one window.
type Measurement struct {
	Sent     int `json:"sent"`
	Answered int `json:"answered"`
	Lost     int `json:"lost"`
	// Unsent counts probes that the prober itself failed to send in time.
	Unsent int `json:"unsent"`
	// Reordered counts answers that arrived after the answer to a later probe
	// (RFC 4737 section 3, by the order of the answers).
	Reordered int `json:"reordered"`
	// Outages counts the runs of losses; Longest is the longest of them, the
	// zero Outage if there was none.
	Outages int    `json:"outages"`
	Longest Outage `json:"longest"`
	// MaxRTT is the longest round trip of an answered probe.
	MaxRTT time.Duration `json:"max_rtt_ns"`
}

// Measure sums up samples, which are sorted as [Sample] demands.
func Measure(samples []Sample) Measurement {
	var m Measurement
	for _, s := range samples {
		switch s.Outcome {
		case Unsent:
			m.Unsent++
			continue
		case Lost:
			m.Lost++
		case Answered:
			m.Answered++
			m.MaxRTT = max(m.MaxRTT, s.At-s.Sent)
		}
		m.Sent++
	}
	m.Reordered = reordered(samples)
	runs := Outages(samples)
	m.Outages = len(runs)
	for _, o := range runs {
		if longer(o, m.Longest) {
			m.Longest = o
		}
	}
	return m
}

// longer prefers an outage without an end over any with one: it may still be
// going on.
func longer(a, b Outage) bool {
	if a.Open != b.Open {
		return a.Open
	}
	if a.Length() != b.Length() {
		return a.Length() > b.Length()
	}
	return a.Lost > b.Lost
}

func reordered(samples []Sample) int {
	n := 0
	var earliest time.Duration
	seen := false
	for _, s := range slices.Backward(samples) {
		if s.Outcome != Answered {
			continue
		}
		if seen && s.At > earliest {
			n++
		}
		if !seen || s.At < earliest {
			earliest, seen = s.At, true
		}
	}
	return n
}

// Window returns the samples sent in [from, to), without copying.
func Window(samples []Sample, from, to time.Duration) []Sample {
	at := func(t time.Duration) int {
		i, _ := slices.BinarySearchFunc(samples, t, func(s Sample, t time.Duration) int {
			if s.Sent < t {
				return -1
			}
			return 1
		})
		return i
	}
	lo := at(from)
	return samples[lo:max(lo, at(to))]
}
