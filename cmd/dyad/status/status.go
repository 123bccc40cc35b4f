// Package status holds the command that says how the cluster is.
package status

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dyad/cluster/api"
	"dyad/cmd/dyad/cli"
	"dyad/speaker"
)

// Commands is the status command.
func Commands(env *cli.Env) []*cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "How both nodes are, and what to do about it",
		Long: `status asks every node how it is: its mode in the log and whether it can write there,
the stance it announces at, its BGP sessions, what it announces, and what needs
attention, each with the command that helps. With --check the exit code is 6 if
anything does.`,
		Example: "  dyad status\n  dyad status --check\n  dyad status --watch",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.Answer(cmd.Context(), func(ctx context.Context) error {
				nodes, err := env.Client().Status(ctx, api.ScopeCluster)
				if err != nil {
					return err
				}
				if err := print(env, nodes); err != nil {
					return err
				}
				if bad := Degraded(nodes); check && bad != "" {
					return cli.Exit(cli.ExitDegraded, "the cluster", "it is degraded: "+bad, "dyad status")
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "exit with 6 if anything needs attention")
	return []*cobra.Command{cmd}
}

// Degraded says in a few words what needs attention; empty if nothing does.
func Degraded(nodes []api.NodeStatus) string {
	var out []string
	for _, n := range nodes {
		if n.Status == nil {
			out = append(out, n.Node+" does not answer")
			continue
		}
		found := false
		for _, c := range n.Status.Conditions {
			if c.Severity == api.Warning || c.Severity == api.Critical {
				out, found = append(out, n.Node+" "+c.Code), true
			}
		}
		if !n.Status.Writable && !found {
			out = append(out, n.Node+" can't write to the log")
		}
	}
	return strings.Join(out, ", ")
}

func print(env *cli.Env, nodes []api.NodeStatus) error {
	if err := table.Print(env, nodes); err != nil || env.Output != cli.Table && env.Output != cli.Wide {
		return err
	}
	var found []condition
	for _, n := range nodes {
		if n.Status == nil {
			found = append(found, condition{n.Node, api.Condition{
				Code: "no-answer", Severity: api.Critical, Text: n.Error, Affects: "this answer",
			}})
			continue
		}
		if !n.Status.Writable && n.Status.Why != "" && !slices.ContainsFunc(n.Status.Conditions, func(c api.Condition) bool { return c.Text == n.Status.Why }) {
			found = append(found, condition{n.Node, api.Condition{Code: "not-writable", Severity: api.Warning, Text: n.Status.Why, Affects: "changes"}})
		}
		for _, c := range n.Status.Conditions {
			if c.Severity != api.OK || env.Output == cli.Wide {
				found = append(found, condition{n.Node, c})
			}
		}
	}
	if len(found) == 0 {
		return env.Line("\nall is well")
	}
	if err := env.Line(""); err != nil {
		return err
	}
	return conditions(env).Print(env, found)
}

type condition struct {
	node string
	api.Condition
}

func conditions(env *cli.Env) cli.List[condition] {
	return cli.List[condition]{Columns: []cli.Column[condition]{
		{Head: "NODE", Value: func(c condition) string { return c.node }},
		{Head: "SEVERITY", Value: func(c condition) string { return string(c.Severity) }},
		{Head: "CONDITION", Value: func(c condition) string { return c.Code }},
		{Head: "AFFECTS", Value: func(c condition) string { return c.Affects }},
		{Head: "TEXT", Value: func(c condition) string { return c.Text }},
		{Head: "SINCE", Wide: true, Value: func(c condition) string { return env.Time(c.Since) }},
	}}
}

// of shows a field of a status, and nothing for a node that did not answer.
func of(f func(*api.Status) string) func(api.NodeStatus) string {
	return func(n api.NodeStatus) string {
		if n.Status == nil {
			return ""
		}
		return f(n.Status)
	}
}

func sessions(s *api.Status) string {
	up := 0
	for _, x := range s.Sessions {
		if x.State == speaker.Established {
			up++
		}
	}
	return fmt.Sprintf("%d/%d", up, len(s.Sessions))
}

func count(key string) func(api.NodeStatus) string {
	return of(func(s *api.Status) string { return strconv.Itoa(s.Counts[key]) })
}

var table = cli.List[api.NodeStatus]{
	Name:  func(n api.NodeStatus) string { return "node/" + n.Node },
	Empty: "no node answered",
	Columns: []cli.Column[api.NodeStatus]{
		{Head: "NODE", Value: func(n api.NodeStatus) string { return n.Node }},
		{Head: "MODE", Value: func(n api.NodeStatus) string {
			if n.Status == nil {
				return "no answer"
			}
			return n.Status.Mode
		}},
		{Head: "WRITABLE", Value: of(func(s *api.Status) string { return cli.YesNo(s.Writable) })},
		{Head: "STANCE", Value: of(func(s *api.Status) string { return string(s.View.Stance) })},
		{Head: "SESSIONS", Right: true, Value: of(sessions)},
		{Head: "PEERS", Right: true, Value: count("peers")},
		{Head: "POOLS", Right: true, Value: count("pools")},
		{Head: "SERVICES", Right: true, Value: count("services")},
		{Head: "ANNOUNCED", Right: true, Value: count("announced")},
		{Head: "WITHHELD", Right: true, Value: count("withheld")},
		{Head: "EVENT", Right: true, Value: of(func(s *api.Status) string { return strconv.FormatUint(uint64(s.Head.Seq), 10) })},
		{Head: "EPOCH", Wide: true, Right: true, Value: of(func(s *api.Status) string { return strconv.FormatUint(uint64(s.Head.Epoch), 10) })},
		{Head: "PENDING", Wide: true, Right: true, Value: of(func(s *api.Status) string { return strconv.Itoa(s.Pending) })},
		{Head: "VERSION", Wide: true, Value: of(func(s *api.Status) string { return s.Version })},
		{Head: "REASON", Wide: true, Value: of(func(s *api.Status) string { return s.View.Reason.Text })},
	},
}
