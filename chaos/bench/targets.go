package bench

import "fmt"

const atMost, atLeast = false, true

// Target is what a figure must not exceed, or must reach.
type Target struct {
	Name string `json:"name"`
	Unit string `json:"unit"`
	// Bound is the most the figure may be or, with AtLeast, the least.
	Bound   float64 `json:"bound"`
	AtLeast bool    `json:"at_least,omitempty"`
	// Why is where the bound comes from.
	Why string `json:"why"`
}

// met tells whether a figure keeps the promise. What is no number does not.
func (t Target) met(value float64) bool {
	if t.AtLeast {
		return value >= t.Bound
	}
	return value <= t.Bound
}

func (t Target) String() string {
	if t.AtLeast {
		return fmt.Sprintf(">=%g", t.Bound)
	}
	return fmt.Sprintf("<=%g", t.Bound)
}

// Targets is the one table of all promises about performance.
var Targets = []Target{
	{"death/outage/median", "ms", 15, atMost, "hard node death, hold time 90 s, profile fast, next-hop takeover"},
	{"death/outage/max", "ms", 50, atMost, "the same, worst of all repetitions and addresses: protection switching in telecom"},
	{"death/failback-lost/max", "packets", 0, atMost, "the node comes back without a loss"},
	{"stop/lost/max", "packets", 0, atMost, "SIGTERM of an agent, and its way back"},
	{"idle/cpu/agent-and-pulse", "% of a core", 3, atMost, "a node with nothing to do, profile fast, heartbeats on every path; the higher of the two nodes"},
	{"idle-1000/rss/agent-and-store", "MB", 150, atMost, "resident memory of both processes at 1,000 services; the higher of the two nodes"},
	{"layer2/outage/p99", "ms", 80, atMost, "hard node death without BGP, IPv4 and IPv6, as a client behind a real neighbor cache sees it"},
	{"layer2/failback-lost/max", "packets", 0, atMost, "the node comes back without a loss"},
	{"scale-1000/apply-to-router", "s", 5, atMost, "1,000 services with one dyad apply -f, until the router forwards all"},
	{"scale-1000/first-to-last", "s", 1, atMost, "after a hard death, from the first moved route to the last of the half that went to the dead node"},
	{"takeover-10k/first-append/median", "ms", 250, atMost, "from the authority's word to the first accepted append, 10,000 events"},
	{"takeover-10k/first-append/max", "ms", 600, atMost, "the same, worst of 50"},
	{"takeover-100k/first-append/max", "ms", 1000, atMost, "the same with 100,000 events"},
	{"takeover-100k/rejoin/max", "ms", 2000, atMost, "from an old store put aside to the pair's first append, 100,000 events"},
	{"append/sequential-to-raw", "times", 1.5, atMost, "one event after the other, to a bare transaction of as many bytes on the same two stores: medians"},
	{"append/64-writers-to-raw", "times", 1.5, atLeast, "64 writers through one appender, to 64 bare streams on the same two stores: rates"},
	{"append/64-writers/p99", "ms", 50, atMost, "the same, until a command is answered"},
	{"api/rate", "commands/s", 2000, atLeast, "64 clients with mutual TLS, commands to one agent of a pair"},
	{"micro/projections/Fold100k", "ms", 1000, atMost, "a replay of 100,000 events"},
}

func targetOf(name string) (Target, bool) {
	for _, t := range Targets {
		if t.Name == name {
			return t, true
		}
	}
	return Target{}, false
}
