package beat

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"dyad/failover"
)

// How the process is started again, and stopped.
const (
	restartMin  = 50 * time.Millisecond
	restartMax  = 2 * time.Second
	stableAfter = 10 * time.Second
	// stopBound is how long the process may take to say goodbye.
	stopBound = 500 * time.Millisecond
	// maxLine bounds one line of what the process says, in bytes.
	maxLine = 64 << 10
)

// Config of a [Supervisor].
type Config struct {
	// Exe is the program; default: this one. Args make it call [ChildMain];
	// default: pulse.
	Exe  string
	Args []string
	// Emit takes the inputs of the machine, one call at a time, from the
	// supervisor's goroutine; at is when it was seen.
	Emit func(at time.Time, in failover.Input)
	Log  *slog.Logger
}

// Supervisor keeps one pulse process running.
type Supervisor struct {
	cfg  Config
	stop chan struct{}
	done chan struct{}
	once sync.Once

	setups, feeds chan []byte // each has room for one: the newest

	mu     sync.Mutex
	setup  []byte // the newest, for a new process
	peer   string
	status Status
	starts int
}

// Start starts the process and keeps it running until Stop. Errors: a program
// that can't be started at all.
func Start(cfg Config) (*Supervisor, error) {
	if cfg.Exe == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program to start the pulse from: %w", err)
		}
		cfg.Exe = exe
	}
	if cfg.Args == nil {
		cfg.Args = []string{"pulse"}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Supervisor{
		cfg: cfg, stop: make(chan struct{}), done: make(chan struct{}),
		setups: make(chan []byte, 1), feeds: make(chan []byte, 1), status: newStatus(),
	}
	first, err := s.spawn()
	if err != nil {
		return nil, err
	}
	go s.run(first)
	return s, nil
}

// Set replaces what the process is to do. It never blocks. Errors: a setup that
// is too large.
func (s *Supervisor) Set(setup Setup) error {
	b, err := encodeSetup(setup)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if bytes.Equal(b, s.setup) {
		return nil
	}
	s.setup, s.peer = b, setup.Peer
	maps.DeleteFunc(s.status.Paths, func(name string, _ PathStatus) bool { return !setup.names(name) })
	renew(s.setups, b)
	return nil
}

// Feed tells the process that the agent lives, and what it says of itself. It
// must come several times within [FeedBound], and never blocks.
func (s *Supervisor) Feed(f Feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	renew(s.feeds, encodeFeed(f))
}

// renew replaces what waits in c. The caller holds the lock that makes it the
// only one to send.
func renew(c chan []byte, b []byte) {
	select {
	case <-c:
	default:
	}
	c <- b
}

// Stop says goodbye to the other node and waits until the process is gone.
func (s *Supervisor) Stop(context.Context) {
	s.once.Do(func() { close(s.stop) })
	<-s.done
}

// proc is one run of the process.
type proc struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    io.ReadCloser
	errors io.ReadCloser
}

// spawn starts the process. It gets no parent-death signal: the end of its input
// tells it that the agent is gone, and its last words tell the other node.
func (s *Supervisor) spawn() (*proc, error) {
	cmd := exec.Command(s.cfg.Exe, s.cfg.Args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is the agent's
	p := &proc{cmd: cmd}
	var errIn, errOut, errErr error
	p.in, errIn = cmd.StdinPipe()
	p.out, errOut = cmd.StdoutPipe()
	p.errors, errErr = cmd.StderrPipe()
	if err := errors.Join(errIn, errOut, errErr); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the pulse: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starts++
	s.status = newStatus()
	s.status.PID, s.status.Restarts = cmd.Process.Pid, s.starts-1
	if s.setup != nil {
		renew(s.setups, s.setup)
	}
	return p, nil
}

func (s *Supervisor) run(p *proc) {
	defer close(s.done)
	pause := restartMin
	for {
		began, why := time.Now(), "it can't be started"
		if p != nil {
			why = s.attend(p)
		}
		s.down(why)
		if s.stopping() {
			return
		}
		if time.Since(began) >= stableAfter {
			pause = restartMin
		}
		s.cfg.Log.Warn("the pulse died and is started again", "event", "pulse.restart", "reason", why, "pause", pause)
		select {
		case <-time.After(pause):
		case <-s.stop:
			return
		}
		pause = min(2*pause, restartMax)
		var err error
		if p, err = s.spawn(); err != nil {
			s.cfg.Log.Error("the pulse can't be started", "event", "pulse.start", "reason", err)
		}
	}
}

func (s *Supervisor) stopping() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// down notes that no process runs.
func (s *Supervisor) down(why string) {
	s.mu.Lock()
	restarts := max(0, s.starts-1)
	s.status = newStatus()
	s.status.Why, s.status.Restarts = why, restarts
	s.mu.Unlock()
	if !s.stopping() {
		s.cfg.Emit(time.Now(), failover.PulseLost{Why: why, Restarts: restarts})
	}
}

// attend feeds p, listens to it, and returns why it ended. Stop ends it too.
func (s *Supervisor) attend(p *proc) string {
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { s.write(p, over) })
	var words string
	wg.Go(func() {
		in := bufio.NewScanner(p.errors)
		for in.Scan() {
			words = in.Text()
			s.cfg.Log.Warn(words, "event", "pulse.says", "reason", "its standard error")
		}
		_, _ = io.Copy(io.Discard, p.errors)
	})
	in := bufio.NewScanner(p.out)
	in.Buffer(make([]byte, 0, maxLine), maxLine)
	for in.Scan() {
		var r Report
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			s.cfg.Log.Warn("the pulse says something unknown", "event", "pulse.says", "reason", err)
			continue
		}
		s.take(r)
	}
	if err := in.Err(); err != nil { // it would block on a pipe nobody reads
		_ = p.cmd.Process.Kill()
	}
	close(over)
	wg.Wait()
	err := p.cmd.Wait()
	switch {
	case err == nil:
		return "exit status 0"
	case words != "":
		return err.Error() + ": " + words
	}
	return err.Error()
}

// write sends the process what is new. When told to stop it says goodbye, and
// ends a process that does not follow.
func (s *Supervisor) write(p *proc, over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		case b := <-s.setups:
			_ = writeFrame(p.in, frameSetup, b) // if it has died, attend sees it
		case b := <-s.feeds:
			_ = writeFrame(p.in, frameFeed, b)
		case <-s.stop:
			_ = writeFrame(p.in, frameBye, nil)
			select {
			case <-over:
			case <-time.After(stopBound):
				_ = p.cmd.Process.Kill()
			}
			return
		}
	}
}
