package detect

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"dyad/eventlog"
	"dyad/failover"
)

// Bounds of the checker.
const (
	// maxChecks run at the same moment; the others wait for their turn.
	maxChecks = 64
	// maxHeader bytes of an HTTP answer are read; its body is not.
	maxHeader = 64 << 10
	// minInterval bounds what an odd event in the log can ask for.
	minInterval = 100 * time.Millisecond
)

// Checker runs the local health checks of services. Until its first result a
// service counts as healthy; the first result counts at once, later ones when
// they came Rise or Fall times in a row.
//
// A bad verdict is said again with every result: whoever forgot it, because it
// folded the log anew, must not take the service for healthy.
type Checker struct {
	emit  func(failover.Input)
	log   *slog.Logger
	http  *http.Client
	slot  chan struct{}
	probe func(ctx context.Context, k eventlog.Check) error

	mu      sync.Mutex
	running map[string]*running
	closed  bool
	wg      sync.WaitGroup
}

type running struct {
	check  eventlog.Check
	ctx    context.Context
	cancel context.CancelFunc
}

// NewChecker returns a checker without checks. emit is called from its
// goroutines, one call at a time, and must not block for long or call the
// checker. An HTTP check asks the service itself, without a proxy, and over a
// new connection each time, as its users do.
func NewChecker(emit func(failover.Input), log *slog.Logger) *Checker {
	c := &Checker{
		emit: emit, log: log, running: map[string]*running{}, slot: make(chan struct{}, maxChecks),
		http: &http.Client{
			Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: maxHeader},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	c.probe = c.ask
	return c
}

// Set makes the running checks those of the given services: new ones start,
// changed ones start over, others stop. They live until ctx ends. After Close it
// does nothing.
func (c *Checker) Set(ctx context.Context, services map[string]eventlog.Service) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	for name, r := range c.running {
		if s, ok := services[name]; !ok || s.Check == nil || *s.Check != r.check || r.ctx.Err() != nil {
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
		r := &running{*s.Check, own, cancel}
		c.running[name] = r
		c.log.Debug("a check starts", "event", "check.start", "reason", "it is new or changed", "service", name, "kind", s.Check.Kind)
		c.wg.Go(func() { c.watch(own, name, r) })
	}
}

// Close stops all checks and waits for them.
func (c *Checker) Close() {
	c.mu.Lock()
	c.closed = true
	for _, r := range c.running {
		r.cancel()
	}
	clear(c.running)
	c.mu.Unlock()
	c.wg.Wait()
}

// watch runs one check until ctx ends.
func (c *Checker) watch(ctx context.Context, name string, r *running) {
	var count counter
	in := failover.ServiceHealth{Service: name}
	t := time.NewTicker(max(r.check.Interval, minInterval))
	defer t.Stop()
	for {
		err := c.once(ctx, r.check)
		if ctx.Err() != nil {
			return
		}
		turned := count.turned(err == nil, r.check.Rise, r.check.Fall)
		if turned {
			in.Healthy, in.Why = err == nil, ""
			if err != nil {
				in.Why = err.Error()
			}
		}
		if turned || !count.healthy {
			c.say(name, r, in)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// say emits a verdict.
//
// Invariant: once Set has stopped a check, nothing is emitted for it, or its
// last bad word would stand for ever.
func (c *Checker) say(name string, r *running, in failover.ServiceHealth) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running[name] == r {
		c.emit(in)
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
	timeout := max(k.Timeout, minInterval)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := c.probe(ctx, k)
	if err != nil && ctx.Err() == context.DeadlineExceeded {
		return fmt.Errorf("no answer within %s", timeout)
	}
	return err
}

// ask carries out a check of any kind.
func (c *Checker) ask(ctx context.Context, k eventlog.Check) error {
	switch k.Kind {
	case "tcp":
		return checkTCP(ctx, k.Target)
	case "http":
		return c.checkHTTP(ctx, k.Target)
	case "exec":
		return checkExec(ctx, k.Target)
	}
	return fmt.Errorf("this release does not know the check %q; try: install the newest dyad on both nodes", k.Kind)
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
	_ = res.Body.Close()
	if res.StatusCode < 200 || res.StatusCode > 399 {
		return fmt.Errorf("HTTP status %s", res.Status)
	}
	return nil
}
