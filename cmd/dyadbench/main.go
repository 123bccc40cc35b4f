// Command dyadbench measures dyad and holds the figures against the targets.
// It is a tool of the repository, run by "make bench"; it is not installed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"

	"dyad/chaos/bench"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	only := flag.String("only", ".", "regular expression over the names of benchmarks")
	systems := flag.String("systems", ".", "regular expression over the names of systems, where several are measured beside each other")
	dyad := flag.String("dyad", "bin/dyad", "the binary to measure")
	out := flag.String("out", "build/bench/results.json", "where the results go")
	n := flag.Int("n", 0, "repetitions of each drill and death; 0 leaves each row its own number")
	lull := flag.Duration("lull", 0, "how long systems run under load while nothing fails; 0 is 3 minutes")
	goTool := flag.String("go", "go", "the Go toolchain")
	flag.Parse()
	re, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	among, err := regexp.Compile(*systems)
	if err != nil {
		return fmt.Errorf("-systems: %w", err)
	}
	binary, err := filepath.Abs(*dyad)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r := bench.NewRecorder(os.Stdout)
	runErr := bench.Run(ctx, bench.Options{
		Only: re, Systems: among, Dyad: binary, Go: *goTool, Repetitions: *n, Lull: *lull, Dir: filepath.Dir(*out),
		Say: func(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) },
	}, r)
	if err := r.Save(*out); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "bench: %d targets missed; results in %s\n", r.Misses(), *out)
	return runErr
}
