// Package announcement holds the command on what the nodes tell the network.
package announcement

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"dyad/cluster/api"
	"dyad/cmd/dyad/cli"
	"dyad/projections"
)

// Commands is the noun announcement.
func Commands(env *cli.Env) []*cobra.Command {
	return []*cobra.Command{cli.Group(&cobra.Command{
		Use:     "announcement",
		Aliases: []string{"ann"},
		Short:   "What every node tells the network, and why",
		Long: `An announcement is one address that one node tells one router, at a rung of the
preference ladder: P0 as the survivor, P1 in quiet times, P2 when it steps down.`,
		Example: "  dyad announcement list",
	}, list(env))}
}

// row is an announcement, or a node that did not answer.
type row struct {
	projections.Announcement
	failed string
}

func (r row) peer() string {
	if r.failed != "" || !r.Peer.IsValid() {
		return ""
	}
	return r.Peer.String()
}

func (r row) state() string {
	switch {
	case r.failed != "":
		return "unknown"
	case r.Announced:
		return "announced"
	}
	return "withheld"
}

func (r row) reason() string {
	if r.failed != "" {
		return r.failed
	}
	return r.Reason.Text
}

func (r row) prefix() string {
	if r.failed != "" {
		return ""
	}
	return r.Prefix.String()
}

func (r row) attribute(format string, v any) string {
	if r.failed != "" || !r.Announced {
		return ""
	}
	return fmt.Sprintf(format, v)
}

func (r row) communities() string {
	var out []string
	for _, c := range r.Attributes.Communities {
		out = append(out, fmt.Sprintf("%d:%d", c>>16, c&0xffff))
	}
	return strings.Join(out, ",")
}

func list(env *cli.Env) *cobra.Command {
	var node, service string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Every address, by node and router",
		Long: `list shows what every node announces, and what it withholds, with the reason. A node
that does not answer is shown as such.`,
		Example: "  dyad announcement list\n  dyad ann list --service shop -o wide\n  dyad announcement list --watch",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.Answer(cmd.Context(), func(ctx context.Context) error {
				nodes, err := env.Client().Announcements(ctx, api.ScopeCluster)
				if err != nil {
					return err
				}
				nodes = filter(nodes, node, service)
				if env.Output == cli.JSON || env.Output == cli.YAML {
					return env.Document(map[string]any{"items": nodes})
				}
				return table.Print(env, rows(nodes))
			})
		},
	}
	cmd.Flags().StringVar(&node, "node", "", "only the node `NAME`")
	cmd.Flags().StringVar(&service, "service", "", "only the service `NAME`")
	env.CompleteFlag(cmd, "node", cli.NodeNames)
	env.CompleteFlag(cmd, "service", cli.ServiceNames)
	return cmd
}

func filter(nodes []api.NodeAnnouncements, node, service string) []api.NodeAnnouncements {
	out := []api.NodeAnnouncements{}
	for _, n := range nodes {
		if node != "" && n.Node != node {
			continue
		}
		items := []projections.Announcement{}
		for _, a := range n.Items {
			if service == "" || a.Service == service {
				items = append(items, a)
			}
		}
		n.Items = items
		out = append(out, n)
	}
	return out
}

func rows(nodes []api.NodeAnnouncements) []row {
	var out []row
	for _, n := range nodes {
		if n.Error != "" {
			out = append(out, row{Announcement: projections.Announcement{Node: n.Node}, failed: n.Error})
		}
		for _, a := range n.Items {
			out = append(out, row{Announcement: a})
		}
	}
	return out
}

var table = cli.List[row]{
	Name: func(r row) string {
		return strings.TrimSuffix(fmt.Sprintf("announcement/%s/%s/%s", r.Node, r.prefix(), r.peer()), "/")
	},
	Empty: "no announcements; dyad service add NAME makes some",
	Columns: []cli.Column[row]{
		{Head: "NODE", Value: func(r row) string { return r.Node }},
		{Head: "PREFIX", Value: row.prefix},
		{Head: "SERVICE", Value: func(r row) string { return r.Service }},
		{Head: "PEER", Value: row.peer},
		{Head: "RUNG", Value: func(r row) string { return string(r.Rung) }},
		{Head: "STATE", Value: row.state},
		{Head: "REASON", Value: row.reason},
		{Head: "SWITCH", Wide: true, Value: func(r row) string { return r.Switch }},
		{Head: "PROTOCOL", Wide: true, Value: func(r row) string { return string(r.Protocol) }},
		{Head: "PREPEND", Wide: true, Right: true, Value: func(r row) string { return r.attribute("%d", r.Attributes.Prepend) }},
		{Head: "MED", Wide: true, Right: true, Value: func(r row) string { return r.attribute("%d", r.Attributes.MED) }},
		{Head: "LOCAL-PREF", Wide: true, Right: true, Value: func(r row) string { return r.attribute("%d", r.Attributes.LocalPref) }},
		{Head: "COMMUNITIES", Wide: true, Value: row.communities},
	},
}
