// Package drill is dyad drill: rehearsals of a failure on a lab, with what they
// cost.
package drill

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dyad/chaos"
	"dyad/chaos/drill"
	chaoslab "dyad/chaos/lab"
	"dyad/chaos/netlab"
	"dyad/cmd/dyad/cli"
	"dyad/cmd/dyad/lab"
)

// Commands are dyad drill and its verbs.
func Commands(env *cli.Env) []*cobra.Command {
	c := cli.Group(&cobra.Command{
		Use:   "drill",
		Short: "Rehearse a failure and measure it",
		Long: `drill hits a node of a lab, measures what clients notice, and compares it with what
dyad promises. The node heals itself after the given time, whatever happens to
this command.`,
		Example: "  dyad lab up\n  dyad drill list\n  dyad drill run host-silent",
	})
	c.AddCommand(list(env), run(env), hold())
	return []*cobra.Command{c}
}

func list(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "The drills there are",
		Long: "list shows each drill with what it promises.", Example: "  dyad drill list",
		Args: cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			return cli.List[chaos.Scenario]{
				Columns: []cli.Column[chaos.Scenario]{
					{Head: "DRILL", Value: func(s chaos.Scenario) string { return s.Name }},
					{Head: "WHAT", Value: func(s chaos.Scenario) string { return s.Title }},
					{Head: "PROMISE", Value: func(s chaos.Scenario) string { return promise(s.Promise) }},
				},
				Name:  func(s chaos.Scenario) string { return s.Name },
				Empty: "there are no drills",
			}.Print(env, chaos.Scenarios())
		},
	}
}

func promise(p chaos.Promise) string {
	var out []string
	if p.MaxOutage >= 0 {
		out = append(out, fmt.Sprintf("outage ≤ %s", p.MaxOutage))
	}
	if p.MaxLost >= 0 {
		out = append(out, fmt.Sprintf("≤ %d lost", p.MaxLost))
	}
	if p.MaxFailbackLost >= 0 {
		out = append(out, fmt.Sprintf("≤ %d lost at failback", p.MaxFailbackLost))
	}
	return strings.Join(out, ", ")
}

// options are the flags of drill run.
type options struct {
	dir, node, report string
	healAfter         time.Duration
	hz, flows         int
	addresses         []string
	maxOutage         time.Duration
}

// names of the drills, for completion.
func names() (out []string) {
	for _, s := range chaos.Scenarios() {
		out = append(out, s.Name)
	}
	return out
}

func run(env *cli.Env) *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "run DRILL",
		Short: "Run a drill on a lab",
		Long: `run waits until the cluster is settled, probes every service address, hits the node,
and reports the outage of each address with its parts. Exit code 5 means that a
promise was broken or traffic did not return.`,
		Example: "  dyad drill run host-silent\n  dyad drill run agent-stop --node node-a -o json",
		Args:    cli.Args(1, 1), ValidArgs: names(),
	}
	f := c.Flags()
	f.StringVar(&o.dir, "lab-dir", chaoslab.DefaultDir(), "the lab's `DIR`")
	f.StringVar(&o.node, "node", netlab.NodeB, "the node to hit, `NAME`")
	f.DurationVar(&o.healAfter, "heal-after", 0, "how long the fault stands (default: the drill's own)")
	f.IntVar(&o.hz, "probe-hz", 1000, "probes a second to each address")
	f.IntVar(&o.flows, "flows", 0, "source ports for each address (default: by the service's placement)")
	f.StringSliceVar(&o.addresses, "address", nil, "an `ADDRESS` to probe, repeatable (default: those of all services)")
	f.StringVar(&o.report, "report", "", "`FILE` to write the report to, as JSON")
	f.DurationVar(&o.maxOutage, "max-outage", 0, "the outage to promise (default: the drill's own)")
	c.RunE = func(cmd *cobra.Command, args []string) error { return o.run(cmd, env, args[0]) }
	return c
}

func (o options) scenario(cmd *cobra.Command, name string) (chaos.Scenario, []netip.Addr, error) {
	s, err := chaos.Find(name)
	if err != nil {
		return s, nil, cli.Usage("dyad drill run "+name, err.Error(), "dyad drill list")
	}
	s.Target, s.ProbeHz, s.Flows = o.node, o.hz, o.flows
	if cmd.Flags().Changed("heal-after") {
		s.HealAfter = o.healAfter
	}
	if cmd.Flags().Changed("max-outage") {
		s.Promise.MaxOutage = o.maxOutage
	}
	var addresses []netip.Addr
	for _, t := range o.addresses {
		a, err := netip.ParseAddr(t)
		if err != nil {
			return s, nil, cli.Usage("--address "+t, "that is not an IP address", "dyad service list")
		}
		addresses = append(addresses, a)
	}
	if err := s.Validate(); err != nil {
		return s, nil, cli.Usage("dyad drill run "+name, err.Error(), "dyad drill run --help")
	}
	return s, addresses, nil
}

func (o options) run(cmd *cobra.Command, env *cli.Env, name string) error {
	s, addresses, err := o.scenario(cmd, name)
	if err != nil {
		return err
	}
	l, done, err := lab.Reach(o.dir)
	if done || err != nil {
		return err
	}
	started := time.Now()
	rs, err := drill.Repeat(cmd.Context(), drill.Options{
		Lab: l, Scenario: s, Addresses: addresses, Reason: env.Reason,
		Say: func(format string, args ...any) {
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%6.1fs  "+format+"\n", append([]any{time.Since(started).Seconds()}, args...)...)
		},
	}, 1)
	if err != nil {
		return err
	}
	r := rs[0]
	if o.report != "" {
		if err := write(o.report, r); err != nil {
			return err
		}
	}
	if err := show(cmd.OutOrStdout(), env, r); err != nil {
		return err
	}
	if len(r.Broken) > 0 {
		return &cli.ExitError{Code: cli.ExitPromise, Err: fmt.Errorf("a promise was broken:\n  %s", strings.Join(r.Broken, "\n  "))}
	}
	return nil
}

func write(path string, r chaos.Report) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make the report's directory: %w", err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

func show(w io.Writer, env *cli.Env, r chaos.Report) error {
	if env.Output == cli.JSON || env.Output == cli.YAML {
		return env.Document(r)
	}
	_, err := fmt.Fprintf(w, "%s on %s, router %s, %d probes a second, load %.1f, prober late by at most %.1f ms\n",
		r.Drill, r.Node, r.Router, r.ProbeHz, r.Load, r.MaxPauseMS)
	for _, a := range r.Addresses {
		if err == nil {
			_, err = fmt.Fprintf(w, "  %s\n", a)
		}
	}
	if err == nil {
		_, err = fmt.Fprintf(w, "  its story: dyad log list --correlation %s\n", r.Correlation)
	}
	return err
}

// hold is the process that holds a fault, on the node; no operator types it.
func hold() *cobra.Command {
	var dir, node, fault, correlation string
	var healAfter time.Duration
	c := &cobra.Command{
		Use: "hold", Hidden: true, Short: "Apply a fault to a node and heal it",
		Long: "hold is started by dyad drill run inside the node.", Example: "  dyad drill hold --node node-b --fault host-silent",
		Args: cli.Args(0, 0),
	}
	f := c.Flags()
	f.StringVar(&dir, "lab-dir", chaoslab.DefaultDir(), "the lab's `DIR`")
	f.StringVar(&node, "node", "", "the node's `NAME`")
	f.StringVar(&fault, "fault", "", "the `FAULT`")
	f.StringVar(&correlation, "correlation", "", "the drill's `ID`")
	f.DurationVar(&healAfter, "heal-after", 0, "how long it stands")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if healAfter < chaos.MinHealAfter || healAfter > chaos.MaxHealAfter {
			return cli.Usage("--heal-after "+healAfter.String(), fmt.Sprintf("it is outside %s–%s", chaos.MinHealAfter, chaos.MaxHealAfter), "--heal-after 20s")
		}
		l, err := chaoslab.Open(dir)
		if err != nil {
			return err
		}
		n, err := l.Node(node)
		if err != nil {
			return err
		}
		return drill.Hold(cmd.Context(), n, chaos.Fault(fault), healAfter, correlation)
	}
	return c
}
