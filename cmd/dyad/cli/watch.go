package cli

import (
	"bytes"
	"context"
	"sync"
	"time"
)

// WatchEvery is how often --watch asks again.
const WatchEvery = time.Second

// progressAfter is how long a step may take before stderr says what it is.
const progressAfter = time.Second

// Answer runs f once, or with --watch again and again.
func (e *Env) Answer(ctx context.Context, f func(context.Context) error) error {
	once := func(ctx context.Context) error {
		bound, cancel := e.Bound(ctx)
		defer cancel()
		return f(bound)
	}
	if !e.Watch {
		return once(ctx)
	}
	return e.Repeat(ctx, WatchEvery, once)
}

// Repeat runs f every so often until ctx ends, and prints what f prints
// whenever that differs from the time before: on a terminal in the place of it,
// else below it. An error after the first answer goes to stderr, and f is tried
// again: an agent that restarts does not end a watch.
func (e *Env) Repeat(ctx context.Context, every time.Duration, f func(context.Context) error) error {
	out := e.Out
	defer func() { e.Out = out }()
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last []byte
	complaint := ""
	for first := true; ; first = false {
		var b bytes.Buffer
		e.Out = &b
		err := f(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first && ExitCode(err) != ExitDegraded:
			return err
		case err != nil && err.Error() != complaint:
			e.Note("dyad: %s", err)
		}
		if complaint = ""; err != nil {
			complaint = err.Error()
		}
		if b.Len() > 0 && !bytes.Equal(b.Bytes(), last) {
			if err := e.refresh(out, b.Bytes(), last != nil); err != nil {
				return err
			}
			last = bytes.Clone(b.Bytes())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (e *Env) refresh(out interface{ Write([]byte) (int, error) }, answer []byte, again bool) error {
	lead := ""
	switch {
	case e.Terminal:
		lead = "\x1b[H\x1b[2J"
	case again && e.Output != JSON && e.Output != Name:
		lead = "\n"
		if e.Output == YAML {
			lead = "---\n"
		}
	}
	_, err := out.Write(append([]byte(lead), answer...))
	return err
}

// Progress says on stderr what is being waited for, if it takes longer than a
// second. The caller calls done.
func (e *Env) Progress(ctx context.Context, text string) (done func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTimer(progressAfter)
		defer t.Stop()
		select {
		case <-t.C:
			e.Note("%s…", text)
		case <-ctx.Done():
		}
	})
	return func() { cancel(); wg.Wait() }
}
