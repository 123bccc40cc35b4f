package logcmd

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dyad/cluster/api"
	"dyad/cmd/dyad/cli"
	"dyad/eventlog"
)

// progressEvery is how often a long check says how far it is, and how long it
// waits before the first time.
const progressEvery = time.Second

func verify(env *cli.Env) *cobra.Command {
	var fromStart bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check the log of this node, and compare it with the other's",
		Long: `verify reads every event in this node's store, checks its hash and that it follows
the one before it, looks at both ends of every sealed segment of older events, and
compares with the other node. With --from-start it reads every byte of every
segment too, from event 1 on.

It changes nothing. The exit code is 1 if anything is damaged.`,
		Example: "  dyad log verify\n  dyad log verify --from-start",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			last := time.Now()
			v, err := env.Client().Verify(cmd.Context(), fromStart, func(done, of eventlog.Seq) {
				if now := time.Now(); now.Sub(last) >= progressEvery {
					last = now
					env.Note("checked %d of %d events…", done, of)
				}
			})
			if err != nil {
				return err
			}
			if err := env.Show(v, verdictOf(v), verification(v)); err != nil {
				return err
			}
			if len(v.Damage) > 0 {
				return cli.Exit(cli.ExitFailed, "the log on "+v.Node, v.Damage[0], "keep both nodes running; dyad status says what is being repaired")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&fromStart, "from-start", false, "read every event since the first")
	return cmd
}

func verdictOf(v api.Verification) string {
	if len(v.Damage) > 0 {
		return "DAMAGED"
	}
	return "OK"
}

func verification(v api.Verification) []cli.Field {
	out := []cli.Field{
		{Name: "Node", Value: v.Node},
		{Name: "Events", Value: fmt.Sprintf("%d, %d–%d", v.Events, v.From, v.To)},
		{Name: "Segments", Value: strconv.Itoa(v.Segments)},
		{Name: "Head", Value: v.Head.Hash},
		{Name: "Result", Value: verdictOf(v)},
	}
	for _, o := range v.Others {
		text := fmt.Sprintf("the same up to event %d", min(o.Head.Seq, v.Head.Seq))
		switch {
		case o.Error != "":
			text = "not compared: " + o.Error
		case !o.Same:
			text = "DIFFERENT from this node's"
		}
		out = append(out, cli.Field{Name: "On " + o.Node, Value: text})
	}
	for _, d := range v.Damage {
		out = append(out, cli.Field{Name: "Damage", Value: strings.ReplaceAll(d, "\n  ", " ")})
	}
	return out
}
