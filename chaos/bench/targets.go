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
	{"peers/dyad-nexthop-frr/outage/median", "ms", 15, atMost, "hard node death, 16 flows of 1,000 probes a second, hold time 90 s, FRR told nothing but its neighbours"},
	{"peers/dyad-nexthop-frr/outage/p99", "ms", 25, atMost, "the same"},
	{"peers/dyad-nexthop-bird/outage/median", "ms", 15, atMost, "the same with BIRD as router"},
	{"peers/dyad-nexthop-bird/outage/p99", "ms", 25, atMost, "the same"},
	{"peers/dyad-preference-frr/outage/p99", "ms", 95, atMost, "the router's neighbour entries are permanent: preference alone; 61 ms are FRR's own"},
	{"peers/dyad-preference-bird/outage/p99", "ms", 30, atMost, "the same with BIRD as router"},
	{"peers/dyad-nexthop-frr/bystander-lost/max", "packets", 0, atMost, "flows on the surviving node"},
	{"peers/dyad-nexthop-bird/bystander-lost/max", "packets", 0, atMost, "flows on the surviving node"},
	{"peers/dyad-preference-frr/bystander-lost/max", "packets", 0, atMost, "flows on the surviving node"},
	{"peers/dyad-preference-bird/bystander-lost/max", "packets", 0, atMost, "flows on the surviving node"},
	{"peers/ratio-to-frr-bfd-50x3", "times", 0.12, atMost, "medians, dyad with next-hop takeover on the router where it is slower"},
	{"peers/ratio-to-frr-bfd-10x3", "times", 0.25, atMost, "the same"},
	{"peers/ratio-to-bird-bfd-10x3", "times", 0.7, atMost, "the same"},
	{"peers/ratio-to-keepalived-10ms", "times", 0.7, atMost, "the same"},
	{"load/dyad-nexthop-frr/lost", "packets", 0, atMost, "4 busy loops on all processors, nothing fails"},
	{"load/dyad-nexthop-frr/suspicions", "a minute", 3, atMost, "the same: harmless ones, of both nodes"},
	{"load/dyad-nexthop-frr/wrong-verdicts", "times", 0, atMost, "the same: verdicts that act harder than a suspicion"},
	{"load/dyad-nexthop-frr/outage/p99", "ms", 50, atMost, "hard node death under 4 busy loops: protection switching in telecom"},
	{"cut/dyad-nexthop-frr/lost", "packets", 0, atMost, "the link between the nodes is cut while both reach the router, and mended"},
	{"cut/dyad-nexthop-frr/suspicions", "a minute", 0, atMost, "the same: nobody takes over"},
	{"cut/dyad-nexthop-frr/wrong-verdicts", "times", 0, atMost, "the same"},
	{"many/nexthop-1000-to-single", "times", 1.2, atMost, "next-hop takeover, the last of 1,000 addresses to a single one, medians"},
	{"many/nexthop-10000-to-single", "times", 1.2, atMost, "the same with 10,000"},
	{"many/dyad-preference-frr-1000/outage/max", "ms", 110, atMost, "preference alone on FRR, the last of 1,000 addresses"},
	{"many/dyad-preference-frr-10000/outage/max", "ms", 330, atMost, "the same with 10,000"},
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
