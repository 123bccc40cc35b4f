// Package node holds the commands on the cluster's nodes.
package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dyad/cluster/api"
	"dyad/cmd/dyad/cli"
	"dyad/eventlog"
	"dyad/projections"
)

// Commands is the noun node.
func Commands(env *cli.Env) []*cobra.Command {
	return []*cobra.Command{cli.Group(&cobra.Command{
		Use:   "node",
		Short: "The two nodes of the cluster",
		Long: `A node is one of the two machines. A drained node steps down: it announces at the
lowest rung, so that the other one carries the traffic.`,
		Example: "  dyad node list",
	}, list(env), show(env), drain(env, true), drain(env, false), failback(env), remove(env), replace(env))}
}

// view is a member, and what it says of itself.
type view struct {
	eventlog.Node
	Error  string      `json:"error,omitempty"`
	Status *api.Status `json:"status,omitempty"`
}

func (v view) mode() string {
	if v.Status == nil {
		return "unknown"
	}
	return v.Status.Mode
}

func (v view) writable() string {
	if v.Status == nil {
		return ""
	}
	return cli.YesNo(v.Status.Writable)
}

func (v view) stance() string {
	if v.Status == nil {
		return ""
	}
	return string(v.Status.View.Stance)
}

func (v view) reason() string {
	if v.Status == nil {
		return v.Error
	}
	return v.Status.View.Reason.Text
}

// sees says what the node holds of the others.
func (v view) sees() string {
	if v.Status == nil {
		return ""
	}
	var out []string
	for _, n := range slices.Sorted(maps.Keys(v.Status.View.Nodes)) {
		out = append(out, fmt.Sprintf("%s %s", n, v.Status.View.Nodes[n]))
	}
	return strings.Join(out, ", ")
}

func (v view) version() string {
	if v.Status == nil {
		return v.Version
	}
	return v.Status.Version
}

// ask gets the members with what each says of itself.
func ask(ctx context.Context, c *api.Client) ([]view, error) {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	statuses, err := c.Status(ctx, api.ScopeCluster)
	if err != nil {
		return nil, err
	}
	out := []view{}
	for _, n := range nodes {
		v := view{Node: n, Error: "it was not asked"}
		for _, s := range statuses {
			if s.Node == n.Name {
				v.Status, v.Error = s.Status, s.Error
			}
		}
		out = append(out, v)
	}
	return out, nil
}

func list(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "The nodes, and what each says of itself",
		Long: `list shows every node: its mode in the log, whether it can write there, the stance it
announces at and why, and what it holds of the other node.`,
		Example: "  dyad node list\n  dyad node list -o wide --watch",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.Answer(cmd.Context(), func(ctx context.Context) error {
				views, err := ask(ctx, env.Client())
				if err != nil {
					return err
				}
				return table.Print(env, views)
			})
		},
	}
}

var table = cli.List[view]{
	Name:  func(v view) string { return "node/" + v.Name },
	Empty: "no nodes; dyad init makes the first",
	Columns: []cli.Column[view]{
		{Head: "NODE", Value: func(v view) string { return v.Name }},
		{Head: "ADDRESS", Value: func(v view) string { return v.Address.String() }},
		{Head: "MODE", Value: view.mode},
		{Head: "WRITABLE", Value: view.writable},
		{Head: "STANCE", Value: view.stance},
		{Head: "SEES", Value: view.sees},
		{Head: "REASON", Value: view.reason},
		{Head: "VERSION", Wide: true, Value: view.version},
		{Head: "API", Wide: true, Value: func(v view) string { return v.API }},
	},
}

func show(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:     "show NAME",
		Short:   "One node",
		Long:    `show prints one node: its addresses, and what it says of itself.`,
		Example: "  dyad node show node-a",
		Args:    cli.Args(1, 1), ValidArgsFunction: env.Complete(cli.NodeNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.Answer(cmd.Context(), func(ctx context.Context) error {
				views, err := ask(ctx, env.Client())
				if err != nil {
					return err
				}
				v, err := cli.Find("node", args[0], views, func(v view) bool { return v.Name == args[0] })
				if err != nil {
					return err
				}
				return env.Show(v, "node/"+v.Name, fields(env, v))
			})
		},
	}
}

func fields(env *cli.Env, v view) []cli.Field {
	var prefixes []string
	for _, p := range v.Addresses {
		prefixes = append(prefixes, p.String())
	}
	out := []cli.Field{
		{Name: "Node", Value: v.Name},
		{Name: "Address", Value: v.Address.String()},
		{Name: "Addresses", Value: strings.Join(prefixes, ", ")},
		{Name: "API", Value: v.API},
		{Name: "Version", Value: v.version()},
		{Name: "Error", Value: v.Error},
	}
	s := v.Status
	if s == nil {
		return out
	}
	return append(out, []cli.Field{
		{Name: "Mode", Value: s.Mode},
		{Name: "Writable", Value: strings.TrimSpace(cli.YesNo(s.Writable) + " " + s.Why)},
		{Name: "Stance", Value: string(s.View.Stance) + ": " + s.View.Reason.Text},
		{Name: "Sees", Value: v.sees()},
		{Name: "Log", Value: fmt.Sprintf("event %d, epoch %d, %d facts wait", s.Head.Seq, s.Head.Epoch, s.Pending)},
		{Name: "Started", Value: env.Time(s.Started)},
		{Name: "Process", Value: strconv.Itoa(s.PID)},
		{Name: "Store", Value: store(s)},
	}...)
}

// store is the process of the embedded etcd, or where the external one is.
func store(s *api.Status) string {
	if len(s.External) > 0 {
		return strings.Join(s.External, ", ")
	}
	return strconv.Itoa(s.StorePID)
}

func failback(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use: "failback NAME", Short: "Let a node that was down have its share again",
		Long: `failback gives a node that died and is well again the traffic it is preferred for, where
failover.failback makes it wait for a word or for the time of day. The node must have
proved itself first (failover.failbackDelay); nothing is lost on the way.`,
		Example: "  dyad node failback node-b",
		Args:    cli.Args(1, 1), ValidArgsFunction: env.Complete(cli.NodeNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.Change(cmd.Context(), projections.FailBack{Node: args[0]}, cli.ChangeOptions{})
		},
	}
}

func drain(env *cli.Env, on bool) *cobra.Command {
	cmd := &cobra.Command{
		Use: "drain NAME", Short: "Let the other node carry the traffic",
		Long: `drain makes a node announce at the lowest rung, with GRACEFUL_SHUTDOWN, so that the
routers move to the other node without losing a packet. It stays so until undrain.`,
		Example: "  dyad node drain node-a --reason \"new power supply\"",
	}
	if !on {
		cmd.Use, cmd.Short = "undrain NAME", "Let a node take traffic again"
		cmd.Long = `undrain ends a drain: the node announces as before, once it is ready.`
		cmd.Example = "  dyad node undrain node-a"
	}
	cmd.Args, cmd.ValidArgsFunction = cli.Args(1, 1), env.Complete(cli.NodeNames)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return env.Change(cmd.Context(), projections.DrainNode{Node: args[0], On: on}, cli.ChangeOptions{})
	}
	return cmd
}
