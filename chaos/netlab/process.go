package netlab

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a process that outlives whoever started it. Its start time tells
// it from a later process with the same number.
type Process struct {
	PID int `json:"pid"`
	// Start is the start time in clock ticks since boot (proc(5), field 22).
	Start uint64 `json:"start"`
}

// ErrNoProcess means that a process is not there (any more).
var ErrNoProcess = errors.New("no such process")

// FindProcess identifies the running process of that number.
func FindProcess(pid int) (Process, error) {
	st, err := readStat(pid)
	if err != nil || st.state == 'Z' {
		return Process{}, fmt.Errorf("%w: %d", ErrNoProcess, pid)
	}
	return Process{PID: pid, Start: st.start}, nil
}

type stat struct {
	state byte
	ppid  int
	start uint64
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	// The command's name may hold blanks and brackets: count from its end.
	i := bytes.LastIndexByte(b, ')')
	f := strings.Fields(string(b[i+1:]))
	if i < 0 || len(f) < 20 {
		return stat{}, fmt.Errorf("cannot read /proc/%d/stat", pid)
	}
	ppid, err1 := strconv.Atoi(f[1])
	start, err2 := strconv.ParseUint(f[19], 10, 64)
	return stat{state: f[0][0], ppid: ppid, start: start}, errors.Join(err1, err2)
}

// Alive tells whether p still runs. It reaps p if p is a dead child of ours.
func (p Process) Alive() bool {
	if p.PID <= 0 {
		return false
	}
	st, err := readStat(p.PID)
	if err != nil || st.start != p.Start {
		return false
	}
	if st.state == 'Z' {
		_, _ = unix.Wait4(p.PID, nil, unix.WNOHANG, nil)
		return false
	}
	return true
}

// Signal sends s to p, unless p is gone.
func (p Process) Signal(s unix.Signal) error {
	if !p.Alive() {
		return fmt.Errorf("%w: %d", ErrNoProcess, p.PID)
	}
	return unix.Kill(p.PID, s)
}

// Stop asks p to end, waits up to grace, then kills it. That it is gone
// already is no error.
func (p Process) Stop(grace time.Duration) error {
	gone := func() (bool, error) { return !p.Alive(), nil }
	if p.Signal(unix.SIGTERM) != nil {
		return nil
	}
	if poll(grace, "", gone) == nil {
		return nil
	}
	_ = p.Signal(unix.SIGKILL)
	return poll(killWait, fmt.Sprintf("process %d to end after SIGKILL", p.PID), gone)
}

// killWait is how long a process may take to disappear after SIGKILL.
const killWait = 5 * time.Second

// Tree lists p and all its descendants, parents first.
func (p Process) Tree() []Process {
	pids, err := allPIDs()
	if err != nil || !p.Alive() {
		return nil
	}
	children := map[int][]int{}
	for _, pid := range pids {
		if st, err := readStat(pid); err == nil {
			children[st.ppid] = append(children[st.ppid], pid)
		}
	}
	out := []Process{p}
	for i := 0; i < len(out); i++ {
		for _, c := range children[out[i].PID] {
			if q, err := FindProcess(c); err == nil && !slices.Contains(out, q) {
				out = append(out, q)
			}
		}
	}
	return out
}

// Resume lets p and all its descendants go on that were stopped by SIGSTOP. That
// they are gone is no error.
func (p Process) Resume() error {
	var errs []error
	for _, q := range p.Tree() {
		if err := q.Signal(unix.SIGCONT); err != nil && !errors.Is(err, ErrNoProcess) && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("resume process %d: %w", q.PID, err))
		}
	}
	return errors.Join(errs...)
}

// KillTree kills p and all its descendants, and waits until they are gone.
func (p Process) KillTree() error {
	all := p.Tree()
	// Stopped first: a parent must not restart what we are about to kill.
	for _, q := range all {
		_ = q.Signal(unix.SIGSTOP)
	}
	for _, q := range p.Tree() {
		if !slices.Contains(all, q) {
			all = append(all, q)
		}
	}
	for _, q := range all {
		_ = q.Signal(unix.SIGKILL)
	}
	for _, q := range all {
		if err := poll(killWait, fmt.Sprintf("process %d to end after SIGKILL", q.PID), func() (bool, error) { return !q.Alive(), nil }); err != nil {
			return err
		}
	}
	return nil
}

func allPIDs() ([]int, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer func() { _ = d.Close() }()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var out []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			out = append(out, pid)
		}
	}
	return out, nil
}

// Detach starts cmd inside the namespace in a session of its own, so that it
// outlives the caller, with its output appended to the file log.
func Detach(ns string, cmd *exec.Cmd, log string) (Process, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return Process{}, fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = f.Close() }()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := Start(ns, cmd); err != nil {
		return Process{}, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	p, err := FindProcess(cmd.Process.Pid)
	if err != nil {
		_, _ = unix.Wait4(cmd.Process.Pid, nil, unix.WNOHANG, nil)
		return Process{}, fmt.Errorf("%s ended at once; its log: %s", cmd.Path, log)
	}
	return p, nil
}

// Save writes p to a file, for another command to find.
func (p Process) Save(path string) error {
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode process: %w", err)
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return fmt.Errorf("save process: %w", err)
	}
	return os.Rename(tmp, path)
}

// LoadProcess reads what [Process.Save] wrote. The process may have ended.
func LoadProcess(path string) (Process, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Process{}, fmt.Errorf("read process: %w", err)
	}
	var p Process
	if err := json.Unmarshal(b, &p); err != nil {
		return Process{}, fmt.Errorf("read process from %s: %w", path, err)
	}
	return p, nil
}
