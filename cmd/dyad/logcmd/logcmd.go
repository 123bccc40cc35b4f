// Package logcmd holds the commands that ask the audit log.
package logcmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dyad/cluster/api"
	"dyad/cmd/dyad/cli"
	"dyad/cmd/dyad/parse"
	"dyad/cmd/dyad/words"
	"dyad/eventlog"
	"dyad/projections/audit"
)

// Commands is the noun log.
func Commands(env *cli.Env) []*cobra.Command {
	return []*cobra.Command{cli.Group(&cobra.Command{
		Use:   "log",
		Short: "Who did what, when, and why",
		Long: `The log holds every change (intents) and everything the nodes saw and did (facts),
failovers included. What a node saw while the log could not be written follows
as soon as it can; TIME is when it happened, RECORDED when it came into the log.`,
		Example: "  dyad log list --since 10m",
	}, list(env), tail(env), show(env), verify(env), orphans(env))}
}

type flags struct {
	since, until                         string
	types, streams, actors, nodes, class []string
	correlation                          string
	limit                                int
}

func (f *flags) define(env *cli.Env, cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.since, "since", "", "from `TIME` on: how long ago (10m, 2h, 7d) or an instant (RFC 3339)")
	fs.StringVar(&f.until, "until", "", "before `TIME`, in the same forms")
	fs.StringSliceVar(&f.types, "type", nil, "only the `TYPE` of event, such as peer.set, or peer. for all of them")
	fs.StringSliceVar(&f.streams, "stream", nil, "only the `STREAM`, such as service/shop, or service/ for all of them")
	fs.StringSliceVar(&f.actors, "actor", nil, "only what the actor `NAME` did")
	fs.StringSliceVar(&f.nodes, "node", nil, "only what came from the node `NAME`")
	fs.StringSliceVar(&f.class, "class", nil, "`CLASS`: intent or fact")
	fs.StringVar(&f.correlation, "correlation", "", "only what the request or failure `ID` led to")
	env.CompleteFlag(cmd, "node", cli.NodeNames)
	cli.CompleteWords(cmd, "class", string(eventlog.Intent), string(eventlog.Fact))
	var types []string
	for _, t := range eventlog.Types() {
		types = append(types, string(t))
	}
	cli.CompleteWords(cmd, "type", types...)
}

// query is what was asked for. A type that does not exist would never match, so
// it is an error.
func (f *flags) query(now time.Time) (audit.Query, error) {
	q := audit.Query{Types: f.types, Streams: f.streams, Actors: f.actors, Nodes: f.nodes, Correlation: f.correlation, Limit: f.limit}
	var err error
	if f.since != "" {
		if q.Since, err = parse.Instant("--since", f.since, now); err != nil {
			return q, err
		}
	}
	if f.until != "" {
		if q.Until, err = parse.Instant("--until", f.until, now); err != nil {
			return q, err
		}
	}
	for _, t := range f.types {
		if !knownType(t) {
			return q, cli.Usage("--type "+strconv.Quote(t), "there is no such type of event", "--type "+nearType(t))
		}
	}
	for _, c := range f.class {
		if c, err = parse.OneOf("--class", c, string(eventlog.Intent), string(eventlog.Fact)); err != nil {
			return q, err
		}
		q.Classes = append(q.Classes, eventlog.Class(c))
	}
	if f.limit < 0 || f.limit > audit.MaxLimit {
		return q, cli.Usage(fmt.Sprintf("--limit %d", f.limit), fmt.Sprintf("a limit is 1–%d", audit.MaxLimit), "narrow it with --since and --until")
	}
	return q, nil
}

func knownType(t string) bool {
	for _, known := range eventlog.Types() {
		if string(known) == t || strings.HasSuffix(t, ".") && strings.HasPrefix(string(known), t) {
			return true
		}
	}
	return false
}

// nearType names a type with the same beginning, or a few.
func nearType(t string) string {
	noun, _, _ := strings.Cut(t, ".")
	for _, known := range eventlog.Types() {
		if strings.HasPrefix(string(known), noun+".") {
			return string(known) + ", or " + noun + "."
		}
	}
	return "peer.set, service., session.down, …"
}

func list(env *cli.Env) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "The newest events, oldest first",
		Long: `list shows the newest events that match, oldest first. Flags of different kinds all
have to match, of several values of one flag any.`,
		Example: `  dyad log list --since 10m
  dyad log list --type session.,node.verdict --node node-a
  dyad log list --stream service/shop -o wide
  dyad log list --actor root --class intent -o json`,
		Args: cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := f.query(env.Now()); err != nil {
				return err
			}
			return env.Answer(cmd.Context(), func(ctx context.Context) error {
				q, err := f.query(env.Now())
				if err != nil {
					return err
				}
				events, err := env.Client().Events(ctx, q)
				if err != nil {
					return err
				}
				return table(env).Print(env, events)
			})
		},
	}
	f.define(env, cmd)
	cmd.Flags().IntVar(&f.limit, "limit", audit.DefaultLimit, fmt.Sprintf("at most `N` events, the newest; 1–%d", audit.MaxLimit))
	return cmd
}

func who(e eventlog.Public) string { return e.Actor.Name }

func table(env *cli.Env) cli.List[eventlog.Public] {
	return cli.List[eventlog.Public]{
		Name:  cli.EventName,
		Empty: "no event matches",
		Columns: []cli.Column[eventlog.Public]{
			{Head: "SEQ", Right: true, Value: func(e eventlog.Public) string { return strconv.FormatUint(uint64(e.Seq), 10) }},
			{Head: "TIME", Value: func(e eventlog.Public) string { return env.Time(eventlog.Envelope(e).Observed()) }},
			{Head: "NODE", Value: func(e eventlog.Public) string { return e.Source.Node }},
			{Head: "ACTOR", Value: who},
			{Head: "TYPE", Value: func(e eventlog.Public) string { return string(e.Type) }},
			{Head: "WHAT", Value: func(e eventlog.Public) string { return words.Event(e.Draft) }},
			{Head: "REASON", Value: func(e eventlog.Public) string { return e.Reason }},
			{Head: "STREAM", Wide: true, Value: func(e eventlog.Public) string { return e.Stream }},
			{Head: "RECORDED", Wide: true, Value: func(e eventlog.Public) string { return env.Time(e.Time) }},
			{Head: "EPOCH", Wide: true, Right: true, Value: func(e eventlog.Public) string { return strconv.FormatUint(uint64(e.Epoch), 10) }},
			{Head: "HASH", Wide: true, Value: func(e eventlog.Public) string { return e.Hash }},
		},
	}
}

func tail(env *cli.Env) *cobra.Command {
	var f flags
	var last int
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Events as they come, until interrupted",
		Long: `tail prints the newest events that match and then every further one. With -o json
each event is one line.`,
		Example: "  dyad log tail\n  dyad log tail --type node.verdict,stance.changed --last 0",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := f.query(env.Now())
			if err != nil {
				return err
			}
			if last < 0 || last > audit.MaxLimit {
				return cli.Usage(fmt.Sprintf("--last %d", last), fmt.Sprintf("it is 0–%d", audit.MaxLimit), "--last 10")
			}
			return follow(cmd.Context(), env, q, last)
		},
	}
	f.define(env, cmd)
	cmd.Flags().IntVar(&last, "last", 10, "begin with the newest `N` events that match")
	return cmd
}

func follow(ctx context.Context, env *cli.Env, q audit.Query, last int) error {
	c := env.Client()
	head, err := cli.Ask(ctx, env, func(ctx context.Context) (eventlog.Seq, error) {
		st, err := c.Status(ctx, api.ScopeNode)
		if err != nil || len(st) == 0 || st[0].Status == nil {
			return 0, err
		}
		return st[0].Status.Head.Seq, nil
	})
	if err != nil {
		return err
	}
	if last > 0 {
		q.Limit = last
		old, err := cli.Ask(ctx, env, func(ctx context.Context) ([]eventlog.Public, error) { return c.Events(ctx, q) })
		if err != nil {
			return err
		}
		for _, e := range old {
			if err := line(env, e); err != nil {
				return err
			}
			head = max(head, e.Seq)
		}
	}
	q.After, q.Limit = head, 0
	for e, err := range c.Follow(ctx, q) {
		if err == nil {
			err = line(env, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// line prints one event. A stream has no columns: their width isn't known.
func line(env *cli.Env, e eventlog.Public) error {
	switch env.Output {
	case cli.JSON:
		b, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("print event %d: %w", e.Seq, err)
		}
		return env.Line("%s", b)
	case cli.YAML:
		return errors.Join(env.Line("---"), env.Document(e))
	case cli.Name:
		return env.Line("%s", cli.EventName(e))
	}
	text := fmt.Sprintf("%d  %s  %s  %s  %s  %s", e.Seq, env.Time(eventlog.Envelope(e).Observed()), e.Source.Node, who(e), e.Type, words.Event(e.Draft))
	if e.Reason != "" {
		text += "  (" + e.Reason + ")"
	}
	if env.Output == cli.Wide {
		text += fmt.Sprintf("  %s  %s  %d  %s", e.Stream, env.Time(e.Time), e.Epoch, e.Hash)
	}
	return env.Line("%s", cli.Clean(text))
}
