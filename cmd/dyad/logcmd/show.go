package logcmd

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"dyad/cmd/dyad/cli"
	"dyad/cmd/dyad/words"
	"dyad/eventlog"
	"dyad/projections"
	"dyad/projections/audit"
)

func show(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "show SEQ",
		Short: "One event, with everything it holds",
		Long: `show prints one event by its place in the log: who, from where, why, what stood before
and after, the evidence, and the hashes that chain it to its neighbours.`,
		Example: "  dyad log show 42\n  dyad log show 42 -o json",
		Args:    cli.Args(1, 1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			seq, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil || seq == 0 {
				return cli.Usage("event "+strconv.Quote(args[0]), "events are numbered from 1", "dyad log list")
			}
			e, err := cli.Ask(cmd.Context(), env, func(ctx context.Context) (eventlog.Public, error) {
				return one(ctx, env, eventlog.Seq(seq))
			})
			if err != nil {
				return err
			}
			return env.Show(e, cli.EventName(e), fields(env, e))
		},
	}
}

// one finds an event: a query answers the newest that match, so it follows the
// log from the event before and takes the first.
func one(ctx context.Context, env *cli.Env, seq eventlog.Seq) (eventlog.Public, error) {
	missing := &projections.Refusal{
		Code: "event-unknown", What: fmt.Sprintf("event %d", seq), Why: "the log does not have it (yet)", Fix: "dyad log list",
	}
	newest, err := env.Client().Events(ctx, audit.Query{Limit: 1})
	if err != nil {
		return eventlog.Public{}, err
	}
	if len(newest) == 0 || newest[0].Seq < seq {
		return eventlog.Public{}, missing
	}
	for e, err := range env.Client().Follow(ctx, audit.Query{After: seq - 1}) {
		if err != nil {
			return eventlog.Public{}, err
		}
		if e.Seq == seq {
			return e, nil
		}
		break
	}
	return eventlog.Public{}, missing
}

func fields(env *cli.Env, e eventlog.Public) []cli.Field {
	out := []cli.Field{
		{Name: "Event", Value: strconv.FormatUint(uint64(e.Seq), 10)},
		{Name: "What", Value: words.Event(e.Draft)},
		{Name: "Type", Value: fmt.Sprintf("%s, version %d, %s", e.Type, e.Version, e.Type.Class())},
		{Name: "Stream", Value: fmt.Sprintf("%s, revision %d", e.Stream, e.StreamRev)},
		{Name: "Happened", Value: env.Time(eventlog.Envelope(e).Observed())},
		{Name: "Recorded", Value: env.Time(e.Time)},
		{Name: "Actor", Value: fmt.Sprintf("%s (%s)", e.Actor.Name, e.Actor.Auth)},
		{Name: "Node", Value: e.Source.Node},
		{Name: "Interface", Value: e.Source.Interface},
		{Name: "Client", Value: e.Source.Client},
		{Name: "Reason", Value: e.Reason},
		{Name: "Outcome", Value: e.Outcome},
		{Name: "ID", Value: e.ID},
		{Name: "Correlation", Value: e.Correlation},
		{Name: "Causation", Value: e.Causation},
		{Name: "Key", Value: e.Key},
		{Name: "Epoch", Value: strconv.FormatUint(uint64(e.Epoch), 10)},
		{Name: "After", Value: string(e.Data)},
		{Name: "Before", Value: string(e.Prev)},
		{Name: "Evidence", Value: string(e.Evidence)},
		{Name: "Hash", Value: e.Hash},
		{Name: "Hash before", Value: e.PrevHash},
	}
	if e.Source.Address.IsValid() {
		out = append(out, cli.Field{Name: "Address", Value: e.Source.Address.String()})
	}
	if o := e.Origin; o != nil {
		out = append(out, cli.Field{Name: "Journal", Value: fmt.Sprintf("%s, boot %s, entry %d", o.Node, o.Boot, o.N)})
	}
	return out
}
