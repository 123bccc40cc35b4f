package doctor

import (
	"strconv"
	"time"

	"dyad/cluster/api"
	"dyad/cmd/dyad/cli"
	"dyad/eventlog"
)

// row is one finding of one node.
type row struct {
	node string
	api.Finding
}

// print shows the findings, the times to expect, and what routers do.
func print(env *cli.Env, a answer) error {
	if env.Output == cli.JSON || env.Output == cli.YAML {
		return env.Document(a)
	}
	var rows []row
	var expect []expectation
	for _, e := range a.Items {
		if e.Error != "" {
			rows = append(rows, row{e.Node, api.Finding{Code: "no-answer", Result: api.ResultProblem, Text: e.Error, Fix: "dyad status"}})
		}
		for _, f := range e.Findings {
			rows = append(rows, row{e.Node, f})
		}
		for _, x := range e.Expect {
			expect = append(expect, expectation{e.Node, x})
		}
	}
	for _, r := range a.Routers {
		rows = append(rows, row{"both", api.Finding{Code: "router", Result: r.Result, Subject: r.Peer.String(), Text: r.Text, Fix: r.Fix}})
	}
	if err := findings.Print(env, rows); err != nil || env.Output == cli.Name {
		return err
	}
	if len(expect) > 0 {
		if err := env.Line("\nIf the other node dies without a word, traffic is away for"); err != nil {
			return err
		}
		if err := expectations.Print(env, measured(expect, a.Routers)); err != nil {
			return err
		}
	}
	return printRouters(env, a.Routers)
}

var findings = cli.List[row]{
	Name: func(r row) string {
		if r.Subject == "" {
			return r.node + "/" + r.Code
		}
		return r.node + "/" + r.Code + "/" + r.Subject
	},
	Empty: "nothing was examined",
	Columns: []cli.Column[row]{
		{Head: "NODE", Value: func(r row) string { return r.node }},
		{Head: "RESULT", Value: func(r row) string { return r.Result }},
		{Head: "CHECK", Value: func(r row) string { return r.Code }},
		{Head: "SUBJECT", Value: func(r row) string { return r.Subject }},
		{Head: "TEXT", Value: func(r row) string { return r.Text }},
		{Head: "FIX", Value: func(r row) string { return r.Fix }},
	},
}

type expectation struct {
	node string
	api.Expectation
}

// measured puts what a probe measured in the place of what was not known.
func measured(list []expectation, routers []api.RouterProbe) []expectation {
	for i, x := range list {
		for _, r := range routers {
			for _, m := range r.Expect {
				if r.Peer == x.Peer && m.Way == x.Way {
					list[i].Expectation = m
				}
			}
		}
	}
	return list
}

var expectations = cli.List[expectation]{
	Columns: []cli.Column[expectation]{
		{Head: "NODE", Value: func(x expectation) string { return x.node }},
		{Head: "ROUTER", Value: func(x expectation) string { return x.Peer.String() }},
		{Head: "BY", Value: func(x expectation) string { return x.Way }},
		{Head: "AT LEAST", Right: true, Value: func(x expectation) string { return ms(x.Least) }},
		{Head: "AT MOST", Right: true, Value: func(x expectation) string { return ms(x.Most) }},
		{Head: "TEXT", Value: func(x expectation) string { return x.Text }},
	},
}

// step is one difference that a router was asked about.
type step struct {
	router api.RouterProbe
	eventlog.ProbedStep
}

func printRouters(env *cli.Env, routers []api.RouterProbe) error {
	var rows []step
	for _, r := range routers {
		for _, s := range r.Steps {
			rows = append(rows, step{r, s})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	if err := env.Line("\nWhat makes a router move, and how long it took until the change was heard back"); err != nil {
		return err
	}
	return cli.List[step]{Columns: []cli.Column[step]{
		{Head: "ROUTER", Value: func(s step) string { return s.router.Peer.String() }},
		{Head: "ATTRIBUTES", Value: func(s step) string { return s.Step }},
		{Head: "HONOURED", Value: func(s step) string { return cli.YesNo(s.Moved) }},
		{Head: "TOOK", Right: true, Value: func(s step) string {
			if !s.Moved {
				return ""
			}
			return ms(s.Took)
		}},
		{Head: "BETTER ON", Value: func(s step) string { return s.Mover }},
		{Head: "PREFIX", Wide: true, Value: func(s step) string { return s.router.Prefix.String() }},
	}}.Print(env, rows)
}

func ms(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 1, 64) + " ms"
}
