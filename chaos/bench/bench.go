package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"dyad/chaos/lab"
	"dyad/chaos/netlab"
)

// Options of Run.
type Options struct {
	// Only selects benchmarks by name; nil runs all.
	Only *regexp.Regexp
	// Systems selects what dyad is measured beside, and its variants, by name; nil
	// runs all.
	Systems *regexp.Regexp
	// Dyad is the binary under test, Go the toolchain for micro benchmarks.
	Dyad, Go string
	// Dir is where raw timelines go.
	Dir string
	// Repetitions of each drill and death; 0 leaves each row its own number.
	Repetitions int
	// Lull is how long systems run under load while nothing fails; 0 is 3 minutes.
	Lull time.Duration
	// Say is told the progress.
	Say func(format string, args ...any)
}

// Bench is one benchmark.
type Bench struct {
	Name string
	Run  func(ctx context.Context, o Options, r *Recorder) error
}

// Benches lists all benchmarks in the order they run.
func Benches() []Bench {
	return []Bench{
		{"micro", micro},
		{"death", death},
		{"stop", stop},
		{"layer2", segment},
		{"idle", idle},
		{"scale-1000", scale},
		{"takeover", takeover},
		{"append", appends},
		{"api", throughput},
		{"peers", rivals},
		{"load", underLoad},
		{"cut", cut},
		{"many", many},
	}
}

// times is how often something is repeated: as told, else its own number.
func (o Options) times(own int) int {
	if o.Repetitions > 0 {
		return o.Repetitions
	}
	return own
}

// Run runs the selected benchmarks. One that fails does not stop the others.
func Run(ctx context.Context, o Options, r *Recorder) error {
	var failed []string
	for _, b := range Benches() {
		if o.Only != nil && !o.Only.MatchString(b.Name) {
			continue
		}
		o.Say("%s", b.Name)
		if err := b.Run(ctx, o, r); err != nil {
			o.Say("%s failed: %v", b.Name, err)
			failed = append(failed, b.Name)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("failed: %s", strings.Join(failed, ", "))
	}
	return nil
}

// microPackages hold Go benchmarks.
var microPackages = []string{"./eventlog/...", "./projections", "./failover", "./speaker"}

var benchLine = regexp.MustCompile(`^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+([0-9.]+) ns/op`)

// micro runs the Go benchmarks and takes their figures over.
func micro(ctx context.Context, o Options, r *Recorder) error {
	args := append([]string{"test", "-run", "^$", "-bench", ".", "-benchtime", "0.5s"}, microPackages...)
	out, err := exec.CommandContext(ctx, o.Go, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	pkg := ""
	sc := bufio.NewScanner(bytes.NewReader(out))
	for sc.Scan() {
		line := sc.Text()
		if p, ok := strings.CutPrefix(line, "pkg: dyad/"); ok {
			pkg = p
		}
		m := benchLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		ns, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return err
		}
		r.Figure("micro/"+pkg+"/"+m[1], ns/1e6, "ms", 1)
	}
	return sc.Err()
}

// withLab brings a lab up in a directory of its own, and takes it down.
func withLab(ctx context.Context, o Options, do func(*lab.Lab) error) (err error) {
	dir, err := os.MkdirTemp("", "dyad-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := lab.Up(ctx, lab.Options{Dir: dir, Router: netlab.KindFRR, Binary: o.Dyad, Say: o.Say})
	if err != nil {
		return err
	}
	defer func() {
		if _, derr := lab.Down(context.WithoutCancel(ctx), dir, o.Say); derr != nil && err == nil {
			err = derr
		}
	}()
	return do(l)
}
