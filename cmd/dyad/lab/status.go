package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"dyad/chaos/lab"
	"dyad/chaos/netlab"
	"dyad/cmd/dyad/cli"
)

// report is what lab status prints as JSON.
type report struct {
	lab.State
	// Pair is empty if the nodes are a working pair, else why they are not.
	Pair     string                        `json:"pair_not_ready,omitempty"`
	Nodes    []nodeReport                  `json:"nodes"`
	Sessions map[netip.Addr]string         `json:"router_sessions"`
	Routes   map[netip.Prefix][]netip.Addr `json:"router_routes"`
	Error    string                        `json:"router_error,omitempty"`
}

type nodeReport struct {
	Node      string `json:"node"`
	Namespace string `json:"namespace"`
	Socket    string `json:"socket"`
	Agent     string `json:"agent"` // "process 123", or what became of it
	Silent    bool   `json:"silent"`
	Stance    string `json:"stance,omitempty"`
	Error     string `json:"error,omitempty"`
}

func status(env *cli.Env) *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:     "status",
		Short:   "What runs in a lab",
		Long:    "status shows the nodes' processes and faults, and the router's sessions and routes.",
		Example: "  dyad lab status\n  dyad lab status -o json",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
	}
	dirFlag(c, &dir)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		l, done, err := Reach(dir)
		if done || err != nil {
			return err
		}
		ctx, cancel := env.Bound(cmd.Context())
		defer cancel()
		r := look(ctx, l)
		if env.Output == cli.JSON || env.Output == cli.YAML {
			b, err := json.MarshalIndent(r, "", "  ")
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), string(b))
			return err
		}
		return r.print(cmd.OutOrStdout())
	}
	return c
}

func look(ctx context.Context, l *lab.Lab) report {
	r := report{State: l.State, Pair: l.PairNotReady(ctx)}
	for _, name := range lab.NodeNames() {
		r.Nodes = append(r.Nodes, lookNode(ctx, l, name))
	}
	control, err := l.RouterControl()
	if err == nil {
		r.Sessions, err = control.Sessions(ctx)
	}
	if err == nil {
		r.Routes, err = netlab.Table(l.NS(netlab.Router))
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

func lookNode(ctx context.Context, l *lab.Lab, name string) nodeReport {
	n, err := l.Node(name)
	if err != nil {
		return nodeReport{Node: name, Error: err.Error()}
	}
	out := nodeReport{Node: name, Namespace: n.NS, Socket: n.Socket, Agent: "not started"}
	if p, err := n.Agent(); err == nil {
		out.Agent = fmt.Sprintf("process %d", p.PID)
		if !p.Alive() {
			out.Agent += " ended"
		}
	}
	if out.Silent, err = netlab.Silent(n.NS); err != nil {
		out.Error = err.Error()
	}
	s, err := n.Client().Status(ctx)
	if err != nil {
		out.Error = err.Error()
		return out
	}
	out.Stance = string(s.View.Stance)
	return out
}

func (r report) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	pair := "a working pair"
	if r.Pair != "" {
		pair = "NOT a working pair: " + r.Pair
	}
	_, _ = fmt.Fprintf(t, "lab in %s, router %s, up since %s: %s\n\n", r.Dir, r.Router, r.Created.Format("15:04:05"), pair)
	_, _ = fmt.Fprintln(t, "NODE\tNAMESPACE\tAGENT\tSTANCE\tFAULT\tSOCKET")
	for _, n := range r.Nodes {
		fault := "-"
		if n.Silent {
			fault = "silent"
		}
		stance := n.Stance
		if stance == "" {
			stance = "-"
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", n.Node, n.Namespace, n.Agent, stance, fault, n.Socket)
	}
	if r.Error != "" {
		_, _ = fmt.Fprintf(t, "\nrouter: %s\n", r.Error)
		return t.Flush()
	}
	_, _ = fmt.Fprintln(t, "\nROUTER PEER\tSTATE")
	for _, a := range slices.SortedFunc(maps.Keys(r.Sessions), netip.Addr.Compare) {
		_, _ = fmt.Fprintf(t, "%s\t%s\n", a, r.Sessions[a])
	}
	_, _ = fmt.Fprintf(t, "\nROUTE (%d)\tNEXT HOPS\n", len(r.Routes))
	for i, p := range slices.SortedFunc(maps.Keys(r.Routes), comparePrefix) {
		if i == maxRoutes {
			_, _ = fmt.Fprintf(t, "… %d more; -o json lists all\n", len(r.Routes)-i)
			break
		}
		_, _ = fmt.Fprintf(t, "%s\t%v\n", p, r.Routes[p])
	}
	return t.Flush()
}

// maxRoutes bounds the routes shown to people.
const maxRoutes = 20

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}
