// Command dyadtorture kills real stores under load, for as many rounds as asked,
// and ends with the first broken promise. It is a tool of the repository, run by
// "make torture"; it is not installed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"

	"dyad/chaos/torture"
	"dyad/cluster/etcdnode"
)

// tortures by name, as -only selects them.
var tortures = []struct {
	name string
	run  func(context.Context, torture.Options) (torture.Result, error)
}{{"log", torture.Run}}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The stores are processes of this program.
	if len(os.Args) > 1 && os.Args[1] == "store" {
		return etcdnode.ChildMain(ctx, os.Args[2:], os.Stdin)
	}
	only := flag.String("only", ".", "regular expression over the names of tortures: log")
	rounds := flag.Int("rounds", 1000, "how many rounds")
	seed := flag.Uint64("seed", rand.Uint64(), "what chooses the rounds; a failure names it")
	kind := flag.String("kind", "", "play only this kind of round: "+strings.Join(torture.Kinds(), ", "))
	noKeepTail := flag.Bool("no-keep-tail", false, "leave out what makes a takeover safe; it must then fail")
	dir := flag.String("dir", "", "where the nodes live; default: a new directory below the temporary one")
	flag.Parse()
	re, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if *dir == "" {
		if *dir, err = os.MkdirTemp("", "dyad-torture-"); err != nil {
			return err
		}
	}
	for _, t := range tortures {
		if !re.MatchString(t.name) {
			continue
		}
		fmt.Printf("torture %s: %d rounds, seed %d, in %s\n", t.name, *rounds, *seed, *dir)
		r, err := t.run(ctx, torture.Options{
			Dir: *dir, Seed: *seed, Rounds: *rounds, Only: *kind, NoKeepTail: *noKeepTail,
			Say: func(format string, args ...any) { fmt.Printf(format+"\n", args...) },
		})
		fmt.Printf("torture %s: %s\n", t.name, r)
		if err != nil {
			return err
		}
	}
	// Empty if everything passed.
	if err := os.Remove(*dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
