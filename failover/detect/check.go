package detect

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"dyad/eventlog"
	"dyad/failover"
)

// Bounds of the checker.
const (
	// maxChecks run at the same moment; the others wait for their turn.
	maxChecks = 64
	// maxBody of an HTTP answer is read, so that its connection can be used again.
	maxBody = 64 << 10
	// maxWords of a failing command's output end up in the reason.
	maxWords = 200
)

// Checker runs the local health checks of services. Until its first result a
// service counts as healthy; the first result counts at once, later ones when
// they came Rise or Fall times in a row.
type Checker struct {
	emit func(failover.Input)
	log  *slog.Logger
	http *http.Client
	slot chan struct{}

	mu      sync.Mutex
	running map[string]*running
	wg      sync.WaitGroup
}

type running struct {
	check  eventlog.Check
	cancel context.CancelFunc
}

// NewChecker returns a checker without checks. emit is called from its
// goroutines.
func NewChecker(emit func(failover.Input), log *slog.Logger) *Checker {
	return &Checker{
		emit: emit, log: log, running: map[string]*running{}, slot: make(chan struct{}, maxChecks),
		http: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
}

// Set makes the running checks those of the given services: new ones start,
// changed ones start over, others stop. They live until ctx ends.
func (c *Checker) Set(ctx context.Context, services map[string]eventlog.Service) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, r := range c.running {
		if s, ok := services[name]; !ok || s.Check == nil || *s.Check != r.check {
			r.cancel()
			delete(c.running, name)
			if ok && s.Check == nil {
				c.emit(failover.ServiceHealth{Service: name, Healthy: true})
			}
		}
	}
	for name, s := range services {
		if s.Check == nil || c.running[name] != nil {
			continue
		}
		own, cancel := context.WithCancel(ctx)
		c.running[name] = &running{*s.Check, cancel}
		c.wg.Go(func() { c.watch(own, name, *s.Check) })
	}
}

// Close stops all checks and waits for them.
func (c *Checker) Close() {
	c.mu.Lock()
	for _, r := range c.running {
		r.cancel()
	}
	clear(c.running)
	c.mu.Unlock()
	c.wg.Wait()
	c.http.CloseIdleConnections()
}

// watch runs one check until ctx ends.
func (c *Checker) watch(ctx context.Context, name string, k eventlog.Check) {
	var count counter
	t := time.NewTicker(k.Interval)
	defer t.Stop()
	for {
		err := c.once(ctx, k)
		if ctx.Err() != nil {
			return
		}
		if count.turned(err == nil, k.Rise, k.Fall) {
			in := failover.ServiceHealth{Service: name, Healthy: err == nil}
			if err != nil {
				in.Why = err.Error()
			}
			c.emit(in)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// counter turns a row of results into a verdict.
type counter struct {
	known, healthy bool
	opposite       int // results in a row that contradict the verdict
}

// turned takes a result and tells whether the verdict is new.
func (c *counter) turned(ok bool, rise, fall int) bool {
	if !c.known {
		c.known, c.healthy = true, ok
		return true
	}
	if ok == c.healthy {
		c.opposite = 0
		return false
	}
	c.opposite++
	if ok && c.opposite < rise || !ok && c.opposite < fall {
		return false
	}
	c.healthy, c.opposite = ok, 0
	return true
}

// once runs a check within its timeout.
func (c *Checker) once(ctx context.Context, k eventlog.Check) error {
	select {
	case c.slot <- struct{}{}:
		defer func() { <-c.slot }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, k.Timeout)
	defer cancel()
	var err error
	switch k.Kind {
	case "tcp":
		err = checkTCP(ctx, k.Target)
	case "http":
		err = c.checkHTTP(ctx, k.Target)
	case "exec":
		err = checkExec(ctx, k.Target)
	default:
		err = fmt.Errorf("this release does not know the check %q", k.Kind)
	}
	if err != nil && ctx.Err() == context.DeadlineExceeded {
		return fmt.Errorf("no answer within %s", k.Timeout)
	}
	return err
}

func checkTCP(ctx context.Context, target string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", target)
	if err != nil {
		return err
	}
	return conn.Close()
}

func (c *Checker) checkHTTP(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "dyad-check")
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxBody))
	if res.StatusCode < 200 || res.StatusCode > 399 {
		return fmt.Errorf("HTTP status %s", res.Status)
	}
	return nil
}

// checkExec runs a command in a process group of its own and, when the time is
// up, kills the whole group: a child must not outlive its check.
func checkExec(ctx context.Context, command string) error {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	words := strings.TrimSpace(string(out))
	if len(words) > maxWords {
		words = words[:maxWords]
	}
	if words == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, words)
}
