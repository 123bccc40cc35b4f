package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"dyad/chaos/lab"
	"dyad/chaos/netlab"
)

// The idle benchmark.
const (
	idleSettle = 10 * time.Second // from the last change to the first reading
	idleWindow = 20 * time.Second // between the two readings of one figure
	// ticksPerSecond is the unit of /proc/PID/stat (USER_HZ), the same on every
	// platform of Go.
	ticksPerSecond = 100
)

// idle measures what a node costs that has nothing to do: processor time with
// three services and with 1,000, and memory with 1,000.
func idle(ctx context.Context, o Options, r *Recorder) error {
	return withLab(ctx, o, func(l *lab.Lab) error {
		if err := l.Prepare(ctx); err != nil {
			return err
		}
		if err := idleCPU(ctx, l, r, "idle/"); err != nil {
			return err
		}
		file := filepath.Join(l.Dir, "scale.yaml")
		if err := os.WriteFile(file, scaleFile(), 0o600); err != nil {
			return err
		}
		if _, err := l.Dyad(ctx, netlab.NodeA, "apply", "-f", file); err != nil {
			return err
		}
		if _, err := awaitRoutes(ctx, l, scaleServices); err != nil {
			return err
		}
		if err := idleCPU(ctx, l, r, "idle-1000/"); err != nil {
			return err
		}
		return idleMemory(l, r)
	})
}

// idleRoles are the processes of a node, by the argument that makes the binary
// one of them.
var idleRoles = []string{"agent", "pulse", "store"}

// idleCPU records the processor time of both nodes' processes, in percent of one
// core. Agent and pulse count together: they are what failover costs.
func idleCPU(ctx context.Context, l *lab.Lab, r *Recorder, prefix string) error {
	if err := pause(ctx, idleSettle); err != nil {
		return err
	}
	var before, after [2]map[string]process
	var err error
	for i, name := range lab.NodeNames() {
		if before[i], err = processesOf(l, name); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := pause(ctx, idleWindow); err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	rows := map[string][]float64{}
	for i, name := range lab.NodeNames() {
		if after[i], err = processesOf(l, name); err != nil {
			return err
		}
		together := 0.0
		for _, role := range idleRoles {
			was, is := before[i][role], after[i][role]
			if was.pid != is.pid {
				return fmt.Errorf("%s: its %s was started again while it had nothing to do", name, role)
			}
			percent := 100 * (is.cpu - was.cpu).Seconds() / took
			rows[role] = append(rows[role], percent)
			if role != "store" {
				together += percent
			}
		}
		rows["agent-and-pulse"] = append(rows["agent-and-pulse"], together)
	}
	for _, row := range append(idleRoles, "agent-and-pulse") {
		r.worst(prefix+"cpu/"+row, "% of a core", rows[row])
	}
	return nil
}

// idleMemory records what both nodes' processes hold in memory, in MB.
func idleMemory(l *lab.Lab, r *Recorder) error {
	rows := map[string][]float64{}
	for _, name := range lab.NodeNames() {
		have, err := processesOf(l, name)
		if err != nil {
			return err
		}
		for _, role := range idleRoles {
			rows[role] = append(rows[role], have[role].rss)
		}
		rows["agent-and-store"] = append(rows["agent-and-store"], have["agent"].rss+have["store"].rss)
	}
	for _, row := range append(idleRoles, "agent-and-store") {
		r.worst("idle-1000/rss/"+row, "MB", rows[row])
	}
	return nil
}

// worst records the highest of a row of measurements, and keeps the row.
func (r *Recorder) worst(name, unit string, row []float64) {
	r.res.Raw[name] = row
	high := row[0]
	for _, v := range row {
		high = max(high, v)
	}
	r.Figure(name, high, unit, len(row))
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// process is one reading of a process.
type process struct {
	pid int
	cpu time.Duration // in user and kernel mode since its start
	rss float64       // resident memory in MB (10^6 bytes), files included
}

// processesOf reads a node's agent and its children, by role. Errors: one of
// them does not run.
func processesOf(l *lab.Lab, name string) (map[string]process, error) {
	n, err := l.Node(name)
	if err != nil {
		return nil, err
	}
	agent, err := n.Agent()
	if err != nil {
		return nil, err
	}
	out := map[string]process{}
	if out["agent"], err = readProcess(agent.PID); err != nil {
		return nil, fmt.Errorf("%s: its agent: %w", name, err)
	}
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", agent.PID))
	if err != nil {
		return nil, err
	}
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if err != nil {
			continue // that thread has ended
		}
		for _, word := range strings.Fields(string(b)) {
			pid, err := strconv.Atoi(word)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", list, err)
			}
			args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if err != nil {
				continue
			}
			if words := strings.Split(string(args), "\x00"); len(words) > 1 {
				if out[words[1]], err = readProcess(pid); err != nil {
					return nil, fmt.Errorf("%s: its %s: %w", name, words[1], err)
				}
			}
		}
	}
	for _, role := range idleRoles {
		if out[role].pid == 0 {
			return nil, fmt.Errorf("%s has no %s process", name, role)
		}
	}
	return out, nil
}

func readProcess(pid int) (process, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	return parseStat(pid, string(b), os.Getpagesize())
}

// parseStat reads a line of /proc/PID/stat (proc_pid_stat(5)).
func parseStat(pid int, line string, pageSize int) (process, error) {
	// The name, in brackets, may hold anything; fields are counted from its end.
	_, rest, ok := strings.Cut(line[strings.LastIndexByte(line, ')')+1:], " ")
	fields := strings.Fields(rest)
	const utime, stime, rss = 14 - 3, 15 - 3, 24 - 3 // numbered from 1; the name is 2
	if !ok || len(fields) <= rss {
		return process{}, fmt.Errorf("process %d: its stat has too few fields", pid)
	}
	var v [3]int64
	for i, at := range []int{utime, stime, rss} {
		var err error
		if v[i], err = strconv.ParseInt(fields[at], 10, 64); err != nil {
			return process{}, fmt.Errorf("process %d: field %d of its stat: %w", pid, at+3, err)
		}
	}
	return process{
		pid: pid, cpu: time.Duration(v[0]+v[1]) * (time.Second / ticksPerSecond), rss: float64(v[2]) * float64(pageSize) / 1e6,
	}, nil
}
