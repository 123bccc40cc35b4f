package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

const (
	// calmBelow is how busy, in percent of all processors, a calm machine is at
	// most, and calmOver the time it is looked at.
	calmBelow = 40
	calmOver  = 250 * time.Millisecond
	// calmTries bounds waiting for a calm machine: after it the death comes anyway,
	// and its record says how busy the machine was.
	calmTries = 20
)

// calm waits until the machine is calm, if wanted, and tells how busy it is. What
// an earlier death left to do must not weigh on the next one.
func calm(ctx context.Context, wanted bool) (percent float64, err error) {
	for range calmTries {
		if percent, err = busy(ctx, calmOver); err != nil || percent <= calmBelow || !wanted {
			return percent, err
		}
	}
	return percent, nil
}

// busy measures how busy the machine is over a time, in percent of all its
// processors.
func busy(ctx context.Context, over time.Duration) (float64, error) {
	before, err := cpuTimes()
	if err != nil {
		return 0, err
	}
	t := time.NewTimer(over)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-t.C:
	}
	after, err := cpuTimes()
	if err != nil {
		return 0, err
	}
	return busyBetween(before, after), nil
}

// ticks are the processors' clock ticks since boot: of all kinds, and idle ones.
type ticks struct{ all, idle uint64 }

func cpuTimes() (ticks, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return ticks{}, err
	}
	return parseTicks(string(b))
}

// parseTicks reads the first line of /proc/stat (proc(5)): user, nice, system,
// idle, iowait, irq, softirq, steal; what follows is part of user and nice. Who is
// nice gives way, and counts as idle.
func parseTicks(text string) (t ticks, err error) {
	line, _, _ := strings.Cut(text, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return t, fmt.Errorf("cannot read /proc/stat: its first line is %q", line)
	}
	for i, s := range f[1:9] {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return t, fmt.Errorf("cannot read /proc/stat: %w", err)
		}
		t.all += n
		if i == 1 || i == 3 || i == 4 {
			t.idle += n
		}
	}
	return t, nil
}

// busyBetween is 0 if no time passed.
func busyBetween(a, b ticks) float64 {
	all, idle := b.all-a.all, b.idle-a.idle
	if b.all <= a.all || idle > all {
		return 0
	}
	return 100 * float64(all-idle) / float64(all)
}

// Burn keeps processors busy with n loops at normal priority until stop is called.
func Burn(n int) (stop func() error, err error) {
	var loops []*exec.Cmd
	stop = func() error {
		var errs []error
		for _, c := range loops {
			errs = append(errs, c.Process.Kill())
		}
		for _, c := range loops {
			_ = c.Wait() // it was killed
		}
		return errors.Join(errs...)
	}
	for range n {
		c := exec.Command("sh", "-c", "while :; do :; done")
		if err := c.Start(); err != nil {
			return nil, errors.Join(fmt.Errorf("start a busy loop: %w", err), stop())
		}
		loops = append(loops, c)
	}
	return stop, nil
}
