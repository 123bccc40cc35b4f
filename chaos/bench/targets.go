package bench

// Target is what a figure must not exceed.
type Target struct {
	Name string
	Unit string
	// Max is the bound; the figure may be equal to it.
	Max float64
	// Why is where the bound comes from.
	Why string
}

// Targets is the one table of all promises about performance.
var Targets = []Target{
	{"death/outage/median", "ms", 15, "hard node death, hold time 90 s, profile fast, next-hop takeover"},
	{"death/outage/max", "ms", 50, "the same, worst of all repetitions and addresses: protection switching in telecom"},
	{"death/failback-lost/max", "packets", 0, "the node comes back without a loss"},
	{"stop/lost/max", "packets", 0, "SIGTERM of an agent, and its way back"},
	{"scale-1000/apply-to-router", "s", 5, "1,000 services with one dyad apply -f, until the router forwards all"},
	{"scale-1000/first-to-last", "s", 1, "after a hard death, from the first moved route to the last of the half that went to the dead node"},
	{"takeover-10k/first-append/median", "ms", 250, "from the authority's word to the first accepted append, 10,000 events"},
	{"takeover-10k/first-append/max", "ms", 600, "the same, worst of 50"},
	{"takeover-100k/first-append/max", "ms", 1000, "the same with 100,000 events"},
	{"takeover-100k/rejoin/max", "ms", 2000, "from an old store put aside to the pair's first append, 100,000 events"},
	{"micro/projections/Fold100k", "ms", 1000, "a replay of 100,000 events"},
}

func targetOf(name string) (Target, bool) {
	for _, t := range Targets {
		if t.Name == name {
			return t, true
		}
	}
	return Target{}, false
}
