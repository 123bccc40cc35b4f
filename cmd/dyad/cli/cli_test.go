package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dyad/cluster/api"
	"dyad/projections"
)

func testEnv(out, errs io.Writer) *Env {
	return &Env{
		In: strings.NewReader(""), Out: out, Err: errs, Getenv: func(string) string { return "" },
		Now: func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }, Output: Table, Timeout: DefaultTimeout,
	}
}

func TestExitCodes(t *testing.T) {
	class := func(c string) error { return fmt.Errorf("send: %w", &api.Error{Class: c}) }
	for want, list := range map[int][]error{
		ExitOK:           {nil},
		ExitFailed:       {errors.New("x"), class(api.ClassFailed), class("new"), &ExitError{Code: ExitFailed}},
		ExitUsage:        {Usage("a", "b", "c"), class(api.ClassUsage)},
		ExitRefused:      {&projections.Refusal{}, class(api.ClassRefused)},
		ExitUnreachable:  {class(api.ClassUnavailable), class(api.ClassDenied), context.DeadlineExceeded},
		ExitPromise:      {Exit(ExitPromise, "a", "b", "")},
		ExitDegraded:     {fmt.Errorf("x: %w", &ExitError{Code: ExitDegraded})},
		ExitNotConverged: {class(api.ClassNotConverged)},
	} {
		for _, err := range list {
			if got := ExitCode(err); got != want {
				t.Errorf("%v: %d, want %d", err, got, want)
			}
		}
	}
}

func TestReportsSayWhatWhyAndWhatToTry(t *testing.T) {
	var b bytes.Buffer
	report(&b, Usage("what", "why", "fix"))
	report(&b, &ExitError{Code: ExitDegraded})
	report(&b, nil)
	if got, want := b.String(), "dyad: what: why\n  try: fix\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTables(t *testing.T) {
	list := List[[2]string]{Empty: "none", Name: func(r [2]string) string { return r[0] }, Columns: []Column[[2]string]{
		{Head: "NAME", Value: func(r [2]string) string { return r[0] }},
		{Head: "N", Right: true, Value: func(r [2]string) string { return r[1] }},
		{Head: "MORE", Wide: true, Value: func([2]string) string { return "" }},
	}}
	rows := [][2]string{{"ä", "1"}, {"evil\x1b[2J\nrow", "200"}}
	for output, want := range map[string]string{
		Table: "NAME                N\nä                   1\nevil\\x1b[2J\\nrow  200\n",
		Wide:  "NAME                N  MORE\nä                   1  -\nevil\\x1b[2J\\nrow  200  -\n",
		Name:  "ä\nevil\\x1b[2J\\nrow\n",
		JSON:  "{\n  \"items\": [\n    [\n      \"ä\",\n      \"1\"\n    ],\n    [\n      \"evil\\u001b[2J\\nrow\",\n      \"200\"\n    ]\n  ]\n}\n",
	} {
		var out bytes.Buffer
		e := testEnv(&out, io.Discard)
		e.Output = output
		if err := list.Print(e, rows); err != nil || out.String() != want {
			t.Errorf("%s: %v, got\n%q, want\n%q", output, err, out.String(), want)
		}
	}
	var out, errs bytes.Buffer
	if err := list.Print(testEnv(&out, &errs), nil); err != nil || out.Len() > 0 || errs.String() != "none\n" {
		t.Errorf("an empty list: %v, %q, %q", err, out.String(), errs.String())
	}
}

func TestTimes(t *testing.T) {
	e := testEnv(io.Discard, io.Discard)
	at := e.Now().Add(-90 * time.Second)
	if got := e.Time(at); got != "2026-01-02T03:02:35Z" {
		t.Errorf("in a pipe: %q", got)
	}
	e.Terminal = true
	for ago, want := range map[time.Duration]string{
		5 * time.Second: "5s ago", 90 * time.Second: "1m ago", 3 * time.Hour: "3h ago", 72 * time.Hour: "3d ago",
	} {
		if got := e.Time(e.Now().Add(-ago)); got != want {
			t.Errorf("%s: %q, want %q", ago, got, want)
		}
	}
}

// A watch prints what changed, says an error once, and ends with its context.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out, errs bytes.Buffer
		e := testEnv(&out, &errs)
		e.Watch = true
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		err := e.Answer(ctx, func(context.Context) error {
			switch n++; n {
			case 3, 4:
				return errors.New("away")
			case 6:
				cancel()
			}
			return e.Line("state %d", n/2)
		})
		if err != nil {
			t.Error(err)
		}
		if got, want := out.String(), "state 0\n\nstate 1\n\nstate 2\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got, want := errs.String(), "dyad: away\n"; got != want {
			t.Errorf("got %q on stderr, want %q", got, want)
		}
	})
}

func TestProgressOnlySpeaksWhenItTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var errs bytes.Buffer
		e := testEnv(io.Discard, &errs)
		e.Progress(t.Context(), "waiting")()
		if errs.Len() > 0 {
			t.Errorf("a quick step says %q", errs.String())
		}
		done := e.Progress(t.Context(), "waiting")
		time.Sleep(2 * progressAfter) // virtual
		done()
		if errs.String() != "waiting…\n" {
			t.Errorf("a slow step says %q", errs.String())
		}
	})
}
