package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"dyad/cluster/api"
	"dyad/cmd/dyad/words"
	"dyad/eventlog"
	"dyad/projections"
)

// maxListed is how many announcements of a node a change lists one by one.
const maxListed = 10

// ChangeOptions say how a change is sent and told.
type ChangeOptions struct {
	// Interface is what the log says the change came through; empty is cli.
	Interface string
	// Quiet prints nothing on stdout, except for a dry run.
	Quiet bool
}

// Change sends a command to the agent, says what it led to, and waits until
// every node has applied it. A node that has not in time is an error with
// [ExitNotConverged]: the change stands in the log all the same.
func (e *Env) Change(ctx context.Context, c projections.Command, o ChangeOptions) error {
	if o.Interface == "" {
		o.Interface = "cli"
	}
	r := api.Request{
		Key: uuid.NewString(), Reason: e.Reason, DryRun: e.DryRun, Interface: o.Interface, Client: "dyad/" + Version,
	}
	if !e.NoWait && !e.DryRun {
		r.Wait = e.Timeout
	}
	done := e.Progress(ctx, "waiting for "+c.Verb())
	res, err := e.Client().Do(ctx, c, r)
	done()
	if err != nil {
		return err
	}
	if o.Quiet && !e.DryRun {
		return notConverged(c.Verb(), res)
	}
	return e.Tell(c.Verb(), res)
}

// Tell says what a change led to, as [Env.Change] does.
func (e *Env) Tell(verb string, res api.Result) error {
	if err := e.result(res); err != nil {
		return err
	}
	return notConverged(verb, res)
}

func (e *Env) result(res api.Result) error {
	switch e.Output {
	case JSON, YAML:
		return e.Document(res)
	case Name:
		for _, ev := range res.Events {
			if err := e.Line("%s", Clean(ev.Stream)); err != nil {
				return err
			}
		}
		return nil
	}
	if len(res.Events) == 0 {
		return e.Line("nothing to change: it is so already")
	}
	for _, ev := range res.Events {
		line := Clean(words.Event(ev.Draft))
		if res.DryRun {
			line = "would: " + line
		} else if e.Output == Wide {
			line = fmt.Sprintf("event %d: %s", ev.Seq, line)
		}
		if err := e.Line("%s", line); err != nil {
			return err
		}
	}
	if res.DryRun {
		return e.diff(res.Diff)
	}
	for _, n := range res.Nodes {
		if err := e.nodeResult(n); err != nil {
			return err
		}
	}
	return nil
}

func (e *Env) diff(lines []api.DiffLine) error {
	if len(lines) == 0 {
		return e.Line("no announcement would change")
	}
	for _, l := range lines {
		text := words.Announcement(l.Item)
		if l.Op == "-" {
			text = "no longer " + text
		}
		if l.Was != nil {
			text += fmt.Sprintf(" (now: %s)", words.Announcement(*l.Was))
		}
		if err := e.Line("%s %s %s", l.Op, l.Item.Node, Clean(text)); err != nil {
			return err
		}
	}
	return nil
}

func (e *Env) nodeResult(n api.NodeResult) error {
	switch {
	case !n.Converged:
		return e.Line("%s: %s", n.Node, Clean(whyLate(n)))
	case len(n.Announces) == 0:
		return e.Line("%s: applied", n.Node)
	case len(n.Announces) > maxListed:
		announced := 0
		for _, a := range n.Announces {
			if a.Announced {
				announced++
			}
		}
		return e.Line("%s: announces %d, withholds %d", n.Node, announced, len(n.Announces)-announced)
	}
	for _, a := range n.Announces {
		if err := e.Line("%s: %s", n.Node, Clean(words.Announcement(a))); err != nil {
			return err
		}
	}
	return nil
}

func whyLate(n api.NodeResult) string {
	if n.Error == "" {
		return "no answer in time"
	}
	return n.Error
}

func notConverged(verb string, res api.Result) error {
	var late []string
	for _, n := range res.Nodes {
		if !n.Converged {
			late = append(late, n.Node+" has not applied it: "+whyLate(n))
		}
	}
	if len(late) == 0 {
		return nil
	}
	return Exit(ExitNotConverged, fmt.Sprintf("%s, event %d", verb, res.Seq), "it is in the log, but "+strings.Join(late, "; "), "dyad status")
}

// FindSwitch finds a switch by name, in any case if no other is meant. The
// refusal names the switches there are.
func FindSwitch(list []api.SwitchView, name string) (api.SwitchView, error) {
	var near []api.SwitchView
	var names []string
	for _, sw := range list {
		if sw.Name == name {
			return sw, nil
		}
		if strings.EqualFold(sw.Name, name) {
			near = append(near, sw)
		}
		names = append(names, sw.Name)
	}
	if len(near) == 1 {
		return near[0], nil
	}
	why := "there is no such switch; there are: " + strings.Join(names, ", ")
	if len(names) == 0 {
		why = "no switch is declared yet"
	}
	return api.SwitchView{}, &projections.Refusal{Code: "switch-unknown", What: fmt.Sprintf("switch %q", name), Why: why, Fix: "dyad switch list"}
}

// ComputeSwitch is the switch a peer goes to if none is named: the only one that
// is enabled for compute.
func ComputeSwitch(list []api.SwitchView) (string, error) {
	var names []string
	for _, sw := range list {
		if sw.Compute {
			names = append(names, sw.Name)
		}
	}
	switch len(names) {
	case 1:
		return names[0], nil
	case 0:
		return "", &projections.Refusal{
			Code: "switch-not-compute", What: "a peer", Why: "no switch is enabled for compute, which a peer needs",
			Fix: "dyad switch list, then dyad switch set NAME --compute",
		}
	}
	return "", Usage("--switch", "it is missing, and there are several: "+strings.Join(names, ", "), "--switch "+names[0])
}

// Unfound is the refusal for a name that is not in a list.
func Unfound(noun, name string) error {
	return &projections.Refusal{
		Code: noun + "-unknown", What: fmt.Sprintf("%s %q", noun, name), Why: "there is no such " + noun, Fix: "dyad " + noun + " list",
	}
}

// Find finds one of a list.
func Find[T any](noun, name string, list []T, match func(T) bool) (T, error) {
	for _, v := range list {
		if match(v) {
			return v, nil
		}
	}
	var none T
	return none, Unfound(noun, name)
}

// EventName is what -o name prints for an event.
func EventName(e eventlog.Public) string { return fmt.Sprintf("event/%d", e.Seq) }
