package logcmd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dyad/cluster/api"
	"dyad/cmd/dyad/cli"
	"dyad/cmd/dyad/words"
	"dyad/eventlog"
	"dyad/projections"
	"dyad/projections/audit"
)

// orphan is one log.orphaned event, read.
type orphan struct {
	ID      string       `json:"id"`
	Seq     eventlog.Seq `json:"seq"`
	Node    string       `json:"node"`
	From    eventlog.Seq `json:"from"`
	Last    eventlog.Seq `json:"last"`
	Count   int          `json:"count"`
	Intents int          `json:"intents"` // that can be applied again
	Archive string       `json:"archive,omitempty"`
	Error   string       `json:"error,omitempty"` // why it can't be read

	event eventlog.Public
	run   []eventlog.Envelope
}

func read(e eventlog.Public) orphan {
	o := orphan{ID: e.ID, Seq: e.Seq, event: e}
	p, err := eventlog.Payload[eventlog.OrphanedPayload](e.Draft)
	if err == nil {
		o.run, err = p.Envelopes()
	}
	o.Node, o.From, o.Last, o.Count, o.Archive = p.Node, p.From, p.Last, max(p.Count, len(p.Events)), p.Archive
	if o.Node == "" {
		o.Node = e.Source.Node
	}
	if err != nil {
		o.Error = err.Error()
	}
	for _, r := range o.run {
		if _, err := projections.CommandOf(r.Draft); err == nil {
			o.Intents++
		}
	}
	return o
}

func orphans(env *cli.Env) *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   "orphans",
		Short: "Events that one node had alone when the cluster went on without it",
		Long: `orphans lists what a node had recorded when it was cut off, and the other one took
over without it. None of it is in force, and none of it is lost: it is kept whole.

With --reapply ID the changes among those events are made again, one by one, as
new changes on the state of today: the rules decide about each, as if an operator
had asked now. What is refused, or can't be made again, is listed with the reason.
Doing it twice changes nothing more. --dry-run decides about each by itself.`,
		Example: "  dyad log orphans\n  dyad log orphans --reapply 0195f3a0-0000-7000-8000-000000000001 --dry-run",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			events, err := cli.Ask(cmd.Context(), env, func(ctx context.Context) ([]eventlog.Public, error) {
				return env.Client().Events(ctx, audit.Query{Types: []string{string(eventlog.TypeLogOrphaned)}, Limit: audit.MaxLimit})
			})
			if err != nil {
				return err
			}
			list := make([]orphan, 0, len(events))
			for _, e := range events {
				list = append(list, read(e))
			}
			if id == "" {
				return orphanTable().Print(env, list)
			}
			o, err := cli.Find("orphan", id, list, func(o orphan) bool {
				return o.ID == id || strconv.FormatUint(uint64(o.Seq), 10) == id
			})
			if err != nil {
				return cli.Exit(cli.ExitRefused, "--reapply "+id, "there is no such event of orphans", "dyad log orphans")
			}
			return reapply(cmd.Context(), env, o)
		},
	}
	cmd.Flags().StringVar(&id, "reapply", "", "make the changes in the orphans of event `ID` again; its ID or its place in the log")
	return cmd
}

func orphanTable() cli.List[orphan] {
	number := func(n int) string { return strconv.Itoa(n) }
	return cli.List[orphan]{
		Name:  func(o orphan) string { return o.ID },
		Empty: "there are no orphaned events",
		Columns: []cli.Column[orphan]{
			{Head: "NODE", Value: func(o orphan) string { return o.Node }},
			{Head: "ID", Value: func(o orphan) string { return o.ID }},
			{Head: "SEQ", Right: true, Value: func(o orphan) string { return number(int(o.Seq)) }},
			{Head: "EVENTS", Right: true, Value: func(o orphan) string { return number(o.Count) }},
			{Head: "CHANGES", Right: true, Value: func(o orphan) string { return number(o.Intents) }},
			{Head: "WERE", Value: func(o orphan) string { return fmt.Sprintf("%d–%d", o.From, o.Last) }},
			{Head: "PROBLEM", Value: func(o orphan) string { return o.Error }},
			{Head: "ARCHIVE", Wide: true, Value: func(o orphan) string { return o.Archive }},
		},
	}
}

// outcome is what became of one orphan.
type outcome struct {
	Was    eventlog.Seq  `json:"was"` // its place then
	Type   eventlog.Type `json:"type"`
	What   string        `json:"what"`
	Result string        `json:"result"` // done, would be done, nothing to change, refused, skipped
	Events []string      `json:"events,omitempty"`
	Why    string        `json:"why,omitempty"`
}

// reapply sends the orphans' commands, oldest first. The key names the orphan, so
// that a repetition finds what the first time led to.
func reapply(ctx context.Context, env *cli.Env, o orphan) error {
	if o.Error != "" {
		return cli.Exit(cli.ExitFailed, "the orphans of event "+strconv.FormatUint(uint64(o.Seq), 10), o.Error, "dyad log verify")
	}
	var list []outcome
	refused := 0
	for _, e := range o.run {
		out, err := again(ctx, env, o, e)
		if err != nil {
			return errors.Join(outcomes().Print(env, list), err)
		}
		if out.Result == "refused" {
			refused++
		}
		list = append(list, out)
	}
	if err := outcomes().Print(env, list); err != nil {
		return err
	}
	if refused > 0 {
		return cli.Exit(cli.ExitRefused, "the orphans of "+o.Node, fmt.Sprintf("the rules refuse %d of %d today", refused, len(list)), "make those changes by hand, if they are still wanted")
	}
	return nil
}

func again(ctx context.Context, env *cli.Env, o orphan, e eventlog.Envelope) (outcome, error) {
	out := outcome{Was: e.Seq, Type: e.Type, What: words.Event(e.Draft)}
	c, err := projections.CommandOf(e.Draft)
	if err != nil {
		out.Result, out.Why = "skipped", err.Error()
		return out, nil
	}
	reason := env.Reason
	if reason == "" {
		reason = "reapplied: " + e.Reason
	}
	r := api.Request{
		Key: "reapply/" + o.ID + "/" + e.ID, Causation: o.ID, Reason: strings.TrimSpace(strings.TrimSuffix(reason, ": ")),
		DryRun: env.DryRun, Interface: "cli", Client: "dyad/" + cli.Version,
	}
	bounded, cancel := env.Bound(ctx)
	defer cancel()
	res, err := env.Client().Do(bounded, c, r)
	var answer *api.Error
	switch {
	case errors.As(err, &answer) && answer.Class == api.ClassRefused:
		out.Result, out.Why = "refused", answer.Why
	case err != nil:
		return out, err // not now: the rest would fare alike
	case len(res.Events) == 0:
		out.Result = "nothing to change"
	case env.DryRun:
		out.Result = "would be done"
	default:
		out.Result = "done"
		for _, ev := range res.Events {
			out.Events = append(out.Events, cli.EventName(ev))
		}
	}
	return out, nil
}

func outcomes() cli.List[outcome] {
	return cli.List[outcome]{
		Name:  func(o outcome) string { return fmt.Sprintf("event/%d", o.Was) },
		Empty: "it holds no event",
		Columns: []cli.Column[outcome]{
			{Head: "WAS", Right: true, Value: func(o outcome) string { return strconv.FormatUint(uint64(o.Was), 10) }},
			{Head: "TYPE", Value: func(o outcome) string { return string(o.Type) }},
			{Head: "RESULT", Value: func(o outcome) string { return o.Result }},
			{Head: "WHAT", Value: func(o outcome) string { return o.What }},
			{Head: "WHY", Value: func(o outcome) string { return o.Why }},
			{Head: "EVENTS", Wide: true, Value: func(o outcome) string { return strings.Join(o.Events, " ") }},
		},
	}
}
