package fence

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"dyad/eventlog"
)

// Bounds of one call.
const (
	DefaultTimeout = 10 * time.Second
	// maxOutput bytes of the end of what the command says are kept as evidence.
	maxOutput = 2048
	// outputGrace is how long a process that left the group may hold the command's
	// output open.
	outputGrace = 200 * time.Millisecond
)

// Action is what the command is asked to do.
type Action string

// The actions.
const (
	Off    Action = "off"    // switch the peer off, and read back that it is
	Status Action = "status" // only tell whether it is
)

// Options of a [Fence].
type Options struct {
	// Command is an absolute path and its first arguments.
	Command []string
	// Timeout bounds one call; 0 is DefaultTimeout.
	Timeout time.Duration
}

// Request is one call.
type Request struct {
	Action  Action
	Peer    string // the name of the node to switch off
	Address netip.Addr
	Cluster string
	Epoch   eventlog.Epoch // at which the caller would go on alone
}

// Evidence is what a call showed. It stands beside the takeover in the log.
type Evidence struct {
	Command []string  `json:"command"`
	Action  Action    `json:"action"`
	Peer    string    `json:"peer"`
	Started time.Time `json:"started"`
	// Took is how long the call took.
	Took time.Duration `json:"took_ns"`
	// Exit is the exit status, -1 if there is none.
	Exit int `json:"exit"`
	// Output and Errors are the ends of stdout and stderr.
	Output string `json:"output,omitempty"`
	Errors string `json:"errors,omitempty"`
	// Off is true if the command read back that the peer is off.
	Off bool `json:"off"`
}

// Errors of [Fence.Do]. Test with errors.Is. None of them is a grant.
var (
	// ErrNotOff: the command ended well, and did not say that the peer is off.
	ErrNotOff = errors.New("the fence did not read the other node back as off")
	// ErrFailed: the command could not be run, or ended with another status than 0.
	ErrFailed = errors.New("the fence failed")
	// ErrTimeout: the command took too long, and was killed with its children. The
	// peer may be off; a repetition finds out.
	ErrTimeout = errors.New("the fence took too long")
)

// Fence calls the operator's command.
type Fence struct{ o Options }

// New checks the options.
func New(o Options) (*Fence, error) {
	if len(o.Command) == 0 || !strings.HasPrefix(o.Command[0], "/") {
		return nil, errors.New("the fence has no command with an absolute path\n  try: takeover.fence.command in the configuration, see docs/fencing.md")
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	return &Fence{o}, nil
}

// Do calls the command once and waits for it. Only a nil error says that the
// peer is off. The evidence is complete either way.
//
// The command gets the peer's name as its last argument, and in its environment
// DYAD_PEER, DYAD_PEER_ADDRESS, DYAD_ACTION, DYAD_CLUSTER and DYAD_EPOCH beside
// PATH and HOME.
func (f *Fence) Do(ctx context.Context, r Request) (Evidence, error) {
	e := Evidence{Command: f.o.Command, Action: r.Action, Peer: r.Peer, Started: time.Now(), Exit: -1}
	if r.Action != Off && r.Action != Status || r.Peer == "" || strings.HasPrefix(r.Peer, "-") {
		return e, fmt.Errorf("%w: %q of %q makes no sense", ErrFailed, r.Action, r.Peer)
	}
	bounded, cancel := context.WithTimeout(ctx, f.o.Timeout)
	defer cancel()
	var out, errs tail
	cmd := exec.CommandContext(bounded, f.o.Command[0], append(f.o.Command[1:len(f.o.Command):len(f.o.Command)], r.Peer)...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"),
		"DYAD_PEER=" + r.Peer, "DYAD_PEER_ADDRESS=" + r.Address.String(), "DYAD_ACTION=" + string(r.Action),
		"DYAD_CLUSTER=" + r.Cluster, "DYAD_EPOCH=" + strconv.FormatUint(uint64(r.Epoch), 10),
	}
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := runGroup(cmd)
	e.Took = time.Since(e.Started)
	e.Output, e.Errors = out.String(), errs.String()
	if cmd.ProcessState != nil {
		e.Exit = cmd.ProcessState.ExitCode()
	}
	switch {
	case bounded.Err() != nil:
		return e, fmt.Errorf("%w: %s was killed after %s\n  try: raise takeover.fence.timeout, or call it by hand", ErrTimeout, f.o.Command[0], e.Took.Round(time.Millisecond))
	case err != nil && !errors.Is(err, exec.ErrWaitDelay) || e.Exit != 0:
		return e, fmt.Errorf("%w: %s: %w: %s\n  try: call it by hand, with DYAD_ACTION=status", ErrFailed, f.o.Command[0], failure(err, e.Exit), oneLine(e.Errors))
	}
	if last := lastLine(e.Output); last != "off" {
		return e, fmt.Errorf("%w: its last line is %q", ErrNotOff, last)
	}
	e.Off = true
	return e, nil
}

func failure(err error, exit int) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("exit status %d", exit)
}

// lastLine is the last line that is not empty, without spaces around it.
func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:])
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// runGroup runs a command in a process group of its own and waits for it. When it
// has ended or its time is up, the whole group is killed: a child of a fence that
// goes on switching after its answer would make the answer a lie.
func runGroup(cmd *exec.Cmd) error {
	g := &group{cmd: cmd}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = g.kill
	cmd.WaitDelay = outputGrace
	if err := cmd.Start(); err != nil {
		return err
	}
	g.end()
	return cmd.Wait()
}
