package api

import (
	"context"
	"net/netip"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"dyad/eventlog"
	"dyad/projections"
)

// Routes of the doctor.
const (
	PathDoctor      = "/v1/doctor"        // ?scope → []Examination
	PathProbeRouter = "/v1/doctor/router" // POST ProbeRequest → RouterProbe
	PathTestRoute   = "/v1/doctor/route"  // POST TestRouteRequest → TestRouteAnswer
)

// DoctorBackend is what the doctor of an agent does.
type DoctorBackend interface {
	// Doctor examines this node (cluster false) or every node: one node's error
	// never hides another's. Nothing is announced.
	Doctor(ctx context.Context, cluster bool) []Examination
	// ProbeRouter has both nodes announce a test route to a router, and watches
	// which of the two it prefers as their attributes change.
	ProbeRouter(ctx context.Context, who Caller, r ProbeRequest) (RouterProbe, error)
	// TestRoute is this node's part of it.
	TestRoute(ctx context.Context, r TestRouteRequest) (TestRouteAnswer, error)
}

// The results of a finding.
const (
	ResultOK      = "ok"
	ResultWarning = "warning" // it works, and worse than it could
	ResultProblem = "problem" // it does not work
	ResultUnknown = "unknown" // it could not be found out
)

// Finding is what one check found.
type Finding struct {
	Code    string `json:"code"`
	Result  string `json:"result"`            // ok, warning, problem, unknown
	Subject string `json:"subject,omitempty"` // the peer, path, interface
	Text    string `json:"text"`
	// Fix is the command or the setting that helps; empty if nothing has to.
	Fix string `json:"fix,omitempty"`
}

// Expectation is how long traffic is away if the other node dies without a word.
type Expectation struct {
	Peer netip.Addr `json:"peer"`
	// Way is next-hop or preference.
	Way string `json:"way"`
	// Least and Most bound the detection, which is all of it for next-hop; for
	// preference the router's own time comes on top.
	Least time.Duration `json:"least_ns"`
	Most  time.Duration `json:"most_ns"`
	Text  string        `json:"text"`
}

// The ways of an [Expectation].
const (
	WayNextHop    = "next-hop"
	WayPreference = "preference"
)

// Examination is what the doctor found on one node.
type Examination struct {
	Node     string        `json:"node"`
	Error    string        `json:"error,omitempty"`
	Version  string        `json:"version,omitempty"`
	Findings []Finding     `json:"findings"`
	Expect   []Expectation `json:"expect"`
}

// Bounds of a probe.
const (
	DefaultSettle = 3 * time.Second
	MinSettle     = 500 * time.Millisecond
	MaxSettle     = 2 * time.Minute
)

// ProbeRequest asks which attributes a router compares.
type ProbeRequest struct {
	Peer netip.Addr `json:"peer"`
	// Prefix is announced; the zero value is one of a range for documentation.
	Prefix netip.Prefix `json:"prefix,omitzero"`
	// Settle is how long a router may take to send a change back, 500 ms – 2 min;
	// 0 is 3 s.
	Settle time.Duration `json:"settle_ns,omitempty"`
	Reason string        `json:"reason,omitempty"`
}

// RouterProbe is what was found about a router.
type RouterProbe struct {
	Peer   netip.Addr   `json:"peer"`
	Prefix netip.Prefix `json:"prefix"`
	// Result is ok if the whole ladder works, warning if a part of it is ignored,
	// problem if all of it is, unknown if the router does not tell.
	Result string                `json:"result"`
	Text   string                `json:"text"`
	Fix    string                `json:"fix,omitempty"`
	Steps  []eventlog.ProbedStep `json:"steps"`
	Expect []Expectation         `json:"expect"`
}

// TestRouteRequest is one move of a probe, between nodes.
type TestRouteRequest struct {
	// Probe names the probe: a node takes part in one at a time.
	Probe  string       `json:"probe"`
	Peer   netip.Addr   `json:"peer"`
	Prefix netip.Prefix `json:"prefix"`
	// Announce replaces what the node announces; nil leaves it. A route that is
	// not asked about for a while is withdrawn. End withdraws it at once.
	Announce *projections.Attributes `json:"announce,omitempty"`
	End      bool                    `json:"end,omitempty"`
	// Until is theirs, not-theirs, or empty: the answer comes when the router
	// sends that node's path here, does not, or at once; at the latest after Wait.
	Until string        `json:"until,omitempty"`
	Wait  time.Duration `json:"wait_ns,omitempty"`
}

// What a node may wait for.
const (
	UntilTheirs    = "theirs"
	UntilNotTheirs = "not-theirs"
)

// TestRouteAnswer is what a node hears of the test prefix.
type TestRouteAnswer struct {
	// Theirs: the router sends the other node's path. Ours: this node's own.
	// Unmarked: a path that does not say whose it is.
	Theirs   bool `json:"theirs"`
	Ours     bool `json:"ours,omitempty"`
	Unmarked bool `json:"unmarked,omitempty"`
	// Met tells whether Until was, and Took after how long, from the announcement.
	Met  bool          `json:"met"`
	Took time.Duration `json:"took_ns,omitempty"`
}

// Doctor examines nodes; scope as in [Client.Status].
func (c *Client) Doctor(ctx context.Context, scope string) ([]Examination, error) {
	return getList[Examination](ctx, c, PathDoctor, scopeValues(scope))
}

// ProbeRouter finds out which attributes a router compares.
func (c *Client) ProbeRouter(ctx context.Context, r ProbeRequest) (RouterProbe, error) {
	settle := r.Settle
	if settle <= 0 {
		settle = DefaultSettle
	}
	return post[RouterProbe](ctx, c, PathProbeRouter, r, ProbeBound(min(settle, MaxSettle)), "")
}

// ProbeBound is the longest that a probe with that time to settle takes: it waits
// at the start, and for every step twice and once for the return.
func ProbeBound(settle time.Duration) time.Duration { return 16*settle + 10*time.Second }

// TestRoute asks another node for its part of a probe.
func (c *Client) TestRoute(ctx context.Context, r TestRouteRequest) (TestRouteAnswer, error) {
	return post[TestRouteAnswer](ctx, c, PathTestRoute, r, max(r.Wait, 0), "")
}

func routeDoctor(a huma.API, b Backend) {
	items(a, operation("GET", "doctor", PathDoctor, "What works on every node, what does not, and what to expect; announces nothing"),
		func(ctx context.Context, in *scopeInput) ([]Examination, error) {
			out := full(b.Doctor(ctx, in.Scope == ScopeCluster))
			for i := range out {
				out[i].Findings, out[i].Expect = full(out[i].Findings), full(out[i].Expect)
			}
			return out, nil
		})
	serve(a, operation("POST", "probe-router", PathProbeRouter, "Find out with a test route which attributes a router compares"),
		func(ctx context.Context, in *input[ProbeRequest]) (RouterProbe, error) {
			if s := in.Body.Settle; s != 0 && (s < MinSettle || s > MaxSettle) {
				return RouterProbe{}, usage("settle", "settle_ns", "it is not between "+MinSettle.String()+" and "+MaxSettle.String(), "leave it out for "+DefaultSettle.String())
			}
			p, err := b.ProbeRouter(ctx, callerOf(ctx), in.Body)
			p.Steps, p.Expect = full(p.Steps), full(p.Expect)
			return p, err
		})
	serve(a, operation("POST", "test-route", PathTestRoute, "A node's part of a router's probe"),
		func(ctx context.Context, in *input[TestRouteRequest]) (TestRouteAnswer, error) {
			if w := in.Body.Wait; w < 0 || w > MaxSettle {
				return TestRouteAnswer{}, usage("wait", "wait_ns", "it is not between 0 and "+MaxSettle.String(), "wait for less")
			}
			return b.TestRoute(ctx, in.Body)
		})
}
