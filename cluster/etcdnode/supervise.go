package etcdnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// How the child is started again, and stopped.
const (
	// RestartMin and RestartMax bound the pause before the child is started
	// again. It doubles with each death, and starts over once a child has
	// answered for stableAfter.
	RestartMin  = 100 * time.Millisecond
	RestartMax  = 2 * time.Second
	stableAfter = 10 * time.Second
	// stopBound is how long a child may take to stop before it is killed. What
	// it acknowledged is on disk either way.
	stopBound = 3 * time.Second
)

// SupervisorConfig says what to run.
type SupervisorConfig struct {
	// Exe is the program; default: this one. Args make it call [ChildMain];
	// default: store --config -.
	Exe  string
	Args []string
	// Serve is the member, until Restart says otherwise.
	Serve ServeConfig
	// Halted starts no child; Restart does. Serve is not looked at then.
	Halted bool
	// Log hears about deaths and restarts, and what the child says; default:
	// nobody.
	Log *slog.Logger
	// Notify, if given, is called when the member answers (true) and when it
	// stopped answering (false), with the reason. Calls never overlap; a child
	// that dies again before it answered is not told again. It must not call
	// Stop, Kill or Restart.
	Notify func(up bool, why string)
}

// Supervisor keeps one child running. It lives as long as the agent, while Kill
// and Restart change what the child is.
type Supervisor struct {
	cfg SupervisorConfig

	stop chan struct{} // closed by Stop
	kill chan struct{} // closed when stopping takes too long
	done chan struct{} // closed when no child runs any more

	stopOnce, killOnce sync.Once

	mu       sync.Mutex
	order    *order
	child    *child        // nil while none runs
	pid      int           // 0 while none runs
	starts   int           // children started so far
	ready    chan struct{} // closed while the member answers
	answers  bool
	told     bool // what Notify heard last
	toldOnce bool
}

// Start starts the child and keeps it running until Stop, or until ctx ends,
// which stops it as Stop does. It does not wait until the member answers: see
// [Supervisor.WaitReady]. Errors: a configuration that can't work, or a program
// that can't be started.
func Start(ctx context.Context, cfg SupervisorConfig) (*Supervisor, error) {
	serve := &cfg.Serve
	if cfg.Halted {
		serve = nil
	}
	first, err := newOrder(serve)
	if err != nil {
		return nil, err
	}
	if cfg.Exe == "" {
		exe, err := self()
		if err != nil {
			return nil, err
		}
		cfg.Exe = exe
	}
	if cfg.Args == nil {
		cfg.Args = childArgs()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Notify == nil {
		cfg.Notify = func(bool, string) {}
	}
	s := &Supervisor{
		cfg: cfg, order: first,
		stop: make(chan struct{}), kill: make(chan struct{}), done: make(chan struct{}), ready: make(chan struct{}),
	}
	started := make(chan error, 1)
	go s.run(ctx, started)
	if err := <-started; err != nil {
		<-s.done
		return nil, err
	}
	return s, nil
}

// run owns the child. It reports the first start through started.
//
// Invariant: it stays on one thread for as long as a child runs. The kernel
// sends the parent-death signal when the *thread* that forked ends.
func (s *Supervisor) run(ctx context.Context, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(s.done)
	defer context.AfterFunc(ctx, s.begin)()
	pause := RestartMin
	for first := true; first || !s.stopping(); first = false {
		o := s.current()
		if o.config == nil {
			s.tell(false, whyHalted)
			o.take()
			if first {
				started <- nil
			}
			select {
			case <-o.replaced:
			case <-s.stop:
			}
			pause = RestartMin
			continue
		}
		c, err := s.spawn()
		if first {
			started <- err
		}
		if first && err != nil {
			return
		}
		o.take()
		if stable := s.once(o, c, err, pause); stable || o.gone() {
			pause = RestartMin
		} else {
			pause = min(2*pause, RestartMax)
		}
	}
	s.tell(false, "stopped")
}

// once sees one child through, c, or the error that it could not be started
// with, and then pauses unless there is something else to do. It tells whether
// the child had answered for long enough.
func (s *Supervisor) once(o *order, c *child, err error, pause time.Duration) (stable bool) {
	began, why := time.Now(), ""
	if err != nil {
		why = err.Error()
	} else {
		why = s.attend(o, c)
	}
	if s.stopping() {
		return false // run tells
	}
	if o.gone() {
		s.tell(false, whyHalted)
		return false
	}
	if c != nil && c.again && !c.answered {
		s.cfg.Log.Info("the store is started again", "event", "store.again", "reason", "it joined by a snapshot")
		return false
	}
	s.tell(false, why)
	if stable = c != nil && c.answered && time.Since(began) >= stableAfter; stable {
		pause = RestartMin
	}
	s.cfg.Log.Warn("the store died and is started again",
		"event", "store.restart", "reason", why, "pause", pause, "restarts", s.Restarts())
	select {
	case <-time.After(pause):
	case <-s.stop:
	case <-o.replaced:
	}
	return stable
}

// spawn starts one child.
func (s *Supervisor) spawn() (*child, error) {
	cmd := exec.Command(s.cfg.Exe, s.cfg.Args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL, // the agent is gone: so is its store
		Setpgid:   true,            // an interrupt from the terminal is the agent's
	}
	c, err := newChild(cmd)
	if err != nil {
		return nil, fmt.Errorf("start the store: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.child, s.pid, s.starts = c, cmd.Process.Pid, s.starts+1
	return c, nil
}

// attend feeds c, listens to it, and returns why it ended. Stop and a newer
// order end it too.
func (s *Supervisor) attend(o *order, c *child) string {
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		// If it dies before it has read its configuration, that shows below.
		_, _ = c.stdin.Write(o.config)
	})
	wg.Go(func() { s.end(o, c.cmd.Process, over) })
	why := c.listen(s.cfg.Log, func() {
		if s.answer(o) {
			s.tell(true, "ready")
		}
	})
	close(over)
	wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.child, s.pid = nil, 0
	s.silence()
	return why
}

// end ends p when asked to: at once for a newer order; for Stop gently, and then
// not.
func (s *Supervisor) end(o *order, p *os.Process, over <-chan struct{}) {
	select {
	case <-over:
		return
	case <-o.replaced:
		_ = p.Kill()
		return
	case <-s.stop:
	}
	// A process that is already gone is what we want.
	_ = p.Signal(syscall.SIGTERM)
	select {
	case <-over:
	case <-s.kill:
		_ = p.Kill()
	case <-o.replaced:
		_ = p.Kill()
	case <-time.After(stopBound):
		s.cfg.Log.Warn("the store did not stop in time and is killed", "event", "store.kill", "reason", "timeout", "after", stopBound)
		_ = p.Kill()
	}
}

// answer notes that the child of o answers, if o still counts.
func (s *Supervisor) answer(o *order) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.order != o {
		return false
	}
	s.answers = true
	close(s.ready)
	return true
}

// tell calls Notify when something changed. It runs on one goroutine at a time.
func (s *Supervisor) tell(up bool, why string) {
	if s.toldOnce && s.told == up {
		return
	}
	s.told, s.toldOnce = up, true
	s.cfg.Notify(up, why)
}

func (s *Supervisor) begin() { s.stopOnce.Do(func() { close(s.stop) }) }

func (s *Supervisor) stopping() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// PID is the child's process ID; 0 while none runs.
func (s *Supervisor) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pid
}

// Restarts is how often the child was started again.
func (s *Supervisor) Restarts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(0, s.starts-1)
}

// WaitReady waits until the member answers, after Restart the one it started.
// Errors: ctx's, or that the supervisor was stopped. A member of a pair answers only once both run.
func (s *Supervisor) WaitReady(ctx context.Context) error {
	s.mu.Lock()
	ready := s.ready
	s.mu.Unlock()
	select {
	case <-ready:
		return nil
	case <-s.done:
		return errors.New("the store was stopped")
	case <-ctx.Done():
		return fmt.Errorf("the store does not answer yet: %w", ctx.Err())
	}
}

// Stop stops the child and waits until it is gone: SIGTERM, and SIGKILL after
// 3 s or as soon as ctx ends. With a ctx that has ended it kills at once, which
// loses nothing that was acknowledged.
func (s *Supervisor) Stop(ctx context.Context) {
	s.begin()
	select {
	case <-s.done:
	case <-ctx.Done():
		s.killOnce.Do(func() { close(s.kill) })
		<-s.done
	}
}
