package peer

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/spf13/cobra"

	"dyad/cluster/api"
	"dyad/cmd/dyad/cli"
	"dyad/eventlog"
	"dyad/speaker"
)

// view is a peer with every node's session.
type view struct {
	eventlog.Peer
	Sessions []nodeSession `json:"sessions"`
}

type nodeSession struct {
	Node  string `json:"node"`
	Error string `json:"error,omitempty"`
	speaker.Session
}

// row is one node's session with one peer.
type row struct {
	peer    eventlog.Peer
	session nodeSession
}

func list(env *cli.Env) *cobra.Command {
	var sw string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "The routers, and every node's session with them",
		Long: `list shows, for every node and router, the state of the session. HOLD is the hold
time that is proposed, NEGOTIATED the one in force, in seconds.`,
		Example: "  dyad peer list\n  dyad peer list --switch vSwitch1 -o json\n  dyad peer list --watch",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.Answer(cmd.Context(), func(ctx context.Context) error {
				views, err := ask(ctx, env.Client(), netip.Addr{}, sw)
				if err != nil {
					return err
				}
				if env.Output == cli.JSON || env.Output == cli.YAML {
					return env.Document(map[string]any{"items": views})
				}
				return print(env, views)
			})
		},
	}
	cmd.Flags().StringVar(&sw, "switch", "", "only peers on the switch `NAME`")
	env.CompleteFlag(cmd, "switch", cli.SwitchNames)
	return cmd
}

func show(env *cli.Env) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:     "show ADDRESS",
		Short:   "One router, and every node's session with it",
		Long:    `show prints one peer with what every node says of its session.`,
		Example: "  dyad peer show 10.126.77.125",
		Args:    cli.Args(1, 1), ValidArgsFunction: env.Complete(cli.PeerNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.Answer(cmd.Context(), func(ctx context.Context) error {
				p, err := f.find(ctx, env, args[0])
				if err != nil {
					return err
				}
				views, err := ask(ctx, env.Client(), p.Address, p.Switch)
				if err != nil || len(views) == 0 {
					return err
				}
				return env.Show(views[0], name(p), fields(env, views[0]))
			})
		},
	}
	f.define(env, cmd, false)
	return cmd
}

// ask gets the peers (all, or one) with every node's session.
func ask(ctx context.Context, c *api.Client, addr netip.Addr, sw string) ([]view, error) {
	peers, err := c.Peers(ctx)
	if err != nil {
		return nil, err
	}
	nodes, err := c.Status(ctx, api.ScopeCluster)
	if err != nil {
		return nil, err
	}
	views := []view{}
	for _, p := range peers {
		if addr.IsValid() && p.Address != addr || sw != "" && p.Switch != sw {
			continue
		}
		v := view{Peer: p}
		for _, n := range nodes {
			v.Sessions = append(v.Sessions, sessionOf(n, p.Address))
		}
		views = append(views, v)
	}
	return views, nil
}

func sessionOf(n api.NodeStatus, peer netip.Addr) nodeSession {
	if n.Status == nil {
		return nodeSession{Node: n.Node, Error: n.Error}
	}
	for _, s := range n.Status.Sessions {
		if s.Peer == peer {
			return nodeSession{Node: n.Node, Session: s}
		}
	}
	return nodeSession{Node: n.Node, Error: "no session"}
}

func (s nodeSession) state() string {
	if s.Error != "" {
		return "unknown: " + s.Error
	}
	return string(s.State)
}

func (s nodeSession) negotiated() string {
	if s.State != speaker.Established {
		return ""
	}
	return strconv.Itoa(int(s.HoldTime))
}

func name(p eventlog.Peer) string { return "peer/" + p.Switch + "/" + p.Address.String() }

func print(env *cli.Env, views []view) error {
	var rows []row
	for _, v := range views {
		if env.Output == cli.Name {
			rows = append(rows, row{peer: v.Peer})
			continue
		}
		for _, s := range v.Sessions {
			rows = append(rows, row{v.Peer, s})
		}
	}
	num := func(n int) string { return strconv.Itoa(n) }
	return cli.List[row]{
		Name:  func(r row) string { return name(r.peer) },
		Empty: "no peers; dyad peer add ADDRESS --peer-asn ASN --self-asn ASN adds one",
		Columns: []cli.Column[row]{
			{Head: "NODE", Value: func(r row) string { return r.session.Node }},
			{Head: "ADDRESS", Value: func(r row) string { return r.peer.Address.String() }},
			{Head: "SWITCH", Value: func(r row) string { return r.peer.Switch }},
			{Head: "PEER-ASN", Right: true, Value: func(r row) string { return num(int(r.peer.PeerASN)) }},
			{Head: "SELF-ASN", Right: true, Value: func(r row) string { return num(int(r.peer.SelfASN)) }},
			{Head: "HOLD", Right: true, Value: func(r row) string { return num(int(r.peer.HoldTime)) }},
			{Head: "NEGOTIATED", Right: true, Value: func(r row) string { return r.session.negotiated() }},
			{Head: "STATE", Value: func(r row) string { return r.session.state() }},
			{Head: "SINCE", Value: func(r row) string { return env.Time(r.session.Since) }},
			{Head: "ADVERTISED", Wide: true, Right: true, Value: func(r row) string { return num(r.session.Advertised) }},
		},
	}.Print(env, rows)
}

func fields(env *cli.Env, v view) []cli.Field {
	out := []cli.Field{
		{Name: "Address", Value: v.Address.String()},
		{Name: "Switch", Value: v.Switch},
		{Name: "Peer ASN", Value: strconv.Itoa(int(v.PeerASN))},
		{Name: "Own ASN", Value: strconv.Itoa(int(v.SelfASN))},
		{Name: "Hold time", Value: fmt.Sprintf("%d s proposed", v.HoldTime)},
	}
	for _, s := range v.Sessions {
		text := s.state()
		if s.State == speaker.Established {
			text += fmt.Sprintf(", hold time %d s, %d prefixes advertised", s.HoldTime, s.Advertised)
		}
		if !s.Since.IsZero() {
			text += ", since " + env.Time(s.Since)
		}
		out = append(out, cli.Field{Name: s.Node, Value: text})
	}
	return out
}
