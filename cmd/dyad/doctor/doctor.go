// Package doctor holds the command that finds out what works and what to expect.
package doctor

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dyad/cluster/api"
	"dyad/cmd/dyad/cli"
	"dyad/projections"
)

// flags are those of the command.
type flags struct {
	node   string
	probe  bool
	peer   string
	prefix string
	settle time.Duration
}

// answer is everything that was found.
type answer struct {
	Items   []api.Examination `json:"items"`
	Routers []api.RouterProbe `json:"routers,omitempty"`
}

// Commands is the doctor command.
func Commands(env *cli.Env) []*cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "What works on both nodes, what does not, and how long a failover takes",
		Long: `doctor examines every node: its health, its sessions, the heartbeats in both
directions, kernel settings, interfaces, the disk, whether the other node's ports can
be reached, whether packets of full size pass, and whether clocks and releases agree.
Each finding has a result (ok, warning, problem; unknown if it could not be found
out), and the command or setting that helps. Below are the times to expect if the
other node dies without a word. The exit code is 6 if anything is not as it should be.

It announces nothing, unless --probe-router asks for it. Then both nodes announce a
test prefix to every router, alike at first. A router sends its choice to the node
whose path lost, so that node announces better in one group of attributes at a time,
and the router honours the group if its choice moves. The time it took is measured.
The prefix is never one that is in use, and is withdrawn by itself if the command is
interrupted. A router may pass it on to its other neighbors while the probe lasts.
If a router sends nothing back, this says so; a drill then tells more.

A dry run says which prefix would be announced to whom.`,
		Example: "  dyad doctor\n  dyad doctor --node node-b -o json\n  dyad doctor --probe-router\n" +
			"  dyad doctor --probe-router --peer 10.126.77.125 --prefix 203.0.113.9/32",
		Args: cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), env) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.node, "node", "", "only what `NODE` found")
	fl.BoolVar(&f.probe, "probe-router", false, "announce a test prefix, and find out what each router compares")
	fl.StringVar(&f.peer, "peer", "", "only the router at `ADDRESS`")
	fl.StringVar(&f.prefix, "prefix", "", "the test `PREFIX`: a host route that nothing uses (default 192.0.2.254/32, or 2001:db8::fffe/128)")
	fl.DurationVar(&f.settle, "settle", api.DefaultSettle, "how long a router may take to send a change back, 500ms–2m")
	env.CompleteFlag(cmd, "node", cli.NodeNames)
	env.CompleteFlag(cmd, "peer", cli.PeerNames)
	return []*cobra.Command{cmd}
}

func (f *flags) run(ctx context.Context, env *cli.Env) error {
	r, err := f.request()
	if err != nil {
		return err
	}
	if f.probe && env.Watch {
		return cli.Usage("--watch", "a router is not probed again and again", "dyad doctor --probe-router, without --watch")
	}
	return env.Answer(ctx, func(bound context.Context) error {
		done := env.Progress(bound, "examining the nodes")
		nodes, err := env.Client().Doctor(bound, api.ScopeCluster)
		done()
		if err != nil {
			return err
		}
		a := answer{Items: nodes}
		if f.node != "" {
			a.Items = slices.DeleteFunc(a.Items, func(e api.Examination) bool { return e.Node != f.node })
			if len(a.Items) == 0 {
				return cli.Usage("--node "+f.node, "there is no such node", "dyad node list")
			}
		}
		if f.probe {
			// It takes longer than a question.
			if a.Routers, err = f.routers(ctx, env, r); err != nil {
				return err
			}
		}
		if err := print(env, a); err != nil {
			return err
		}
		if bad := wrong(a); bad != "" {
			return cli.Exit(cli.ExitDegraded, "the cluster", "it is not as it should be: "+bad, "what the column FIX says; dyad doctor -o json has all of it")
		}
		return nil
	})
}

// request reads the flags of a probe.
func (f *flags) request() (api.ProbeRequest, error) {
	r := api.ProbeRequest{Settle: f.settle}
	var err error
	if !f.probe && (f.prefix != "" || f.peer != "") {
		return r, cli.Usage("--peer, --prefix", "they belong to a probe of routers", "dyad doctor --probe-router")
	}
	if f.settle < api.MinSettle || f.settle > api.MaxSettle {
		return r, cli.Usage("--settle "+f.settle.String(), "it is not between 500ms and 2m", "leave it out for "+api.DefaultSettle.String())
	}
	if f.peer != "" {
		if r.Peer, err = netip.ParseAddr(f.peer); err != nil {
			return r, cli.Usage("--peer "+f.peer, "it is not an IP address", "dyad peer list")
		}
	}
	if f.prefix != "" {
		if r.Prefix, err = netip.ParsePrefix(f.prefix); err != nil {
			return r, cli.Usage("--prefix "+f.prefix, "it is not a prefix", "a host route such as 192.0.2.254/32")
		}
	}
	return r, nil
}

// routers probes them one after the other.
func (f *flags) routers(ctx context.Context, env *cli.Env, r api.ProbeRequest) ([]api.RouterProbe, error) {
	peers, err := cli.Ask(ctx, env, func(ctx context.Context) ([]netip.Addr, error) {
		list, err := env.Client().Peers(ctx)
		var out []netip.Addr
		for _, p := range list {
			fits := !r.Prefix.IsValid() || r.Prefix.Addr().Is4() == p.Address.Is4()
			if r.Peer == p.Address || !r.Peer.IsValid() && fits && !slices.Contains(out, p.Address) {
				out = append(out, p.Address)
			}
		}
		return out, err
	})
	if err != nil {
		return nil, err
	}
	if len(peers) == 0 {
		return nil, cli.Usage("--probe-router", "there is no such router", "dyad peer list")
	}
	var out []api.RouterProbe
	for _, p := range slices.Compact(peers) {
		r := r
		r.Peer, r.Reason = p, env.Reason
		if !r.Prefix.IsValid() {
			r.Prefix = projections.TestPrefix(p)
		}
		if env.DryRun {
			env.Note("both nodes would announce %s to %s", r.Prefix, p)
			continue
		}
		done := env.Progress(ctx, "probing the router "+p.String()+" with "+r.Prefix.String())
		v, err := env.Client().ProbeRouter(ctx, r)
		done()
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// wrong says in a few words what is not as it should be; empty if all is well.
func wrong(a answer) string {
	var out []string
	bad := func(result string) bool { return result == api.ResultWarning || result == api.ResultProblem }
	for _, e := range a.Items {
		if e.Error != "" {
			out = append(out, e.Node+" does not answer")
		}
		for _, f := range e.Findings {
			if what := e.Node + " " + f.Code; bad(f.Result) && !slices.Contains(out, what) {
				out = append(out, what)
			}
		}
	}
	for _, r := range a.Routers {
		if bad(r.Result) {
			out = append(out, "router "+r.Peer.String())
		}
	}
	return strings.Join(out, ", ")
}
