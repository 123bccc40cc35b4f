package detect

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"dyad/eventlog"
	"dyad/failover"
)

func TestCounter(t *testing.T) {
	var c counter
	results := "+ + - - - - + + -"
	want := "T . . . T . . T ."
	for i, r := range strings.Fields(results) {
		if got := c.turned(r == "+", 2, 3); got != (strings.Fields(want)[i] == "T") {
			t.Errorf("result %d (%s): turned=%v", i, r, got)
		}
	}
}

func check(kind, target string) eventlog.Service {
	return eventlog.Service{Check: &eventlog.Check{
		Kind: kind, Target: target, Interval: 100 * time.Millisecond, Timeout: 300 * time.Millisecond, Rise: 1, Fall: 1,
	}}
}

// checks starts a checker over services and returns the next verdict on one.
func checks(t *testing.T, services map[string]eventlog.Service) (*Checker, func(name string) failover.ServiceHealth) {
	t.Helper()
	inputs := make(chan failover.Input, 64)
	c := NewChecker(func(in failover.Input) { inputs <- in }, slog.New(slog.DiscardHandler))
	t.Cleanup(c.Close)
	c.Set(context.Background(), services)
	return c, func(name string) failover.ServiceHealth {
		t.Helper()
		deadline := time.After(10 * time.Second)
		for {
			select {
			case in := <-inputs:
				if h := in.(failover.ServiceHealth); h.Service == name {
					return h
				}
			case <-deadline:
				t.Fatalf("no verdict on %s", name)
			}
		}
	}
}

func TestChecksAgainstRealServers(t *testing.T) {
	if testing.Short() {
		t.Skip("opens sockets")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	services := map[string]eventlog.Service{
		"open": check("tcp", ln.Addr().String()), "closed": check("tcp", closed.Addr().String()),
		"yes": check("exec", "true"), "no": check("exec", "echo out of order; exit 3"), "odd": check("smoke", "signal"),
	}
	for name, want := range map[string]string{"open": "", "yes": "", "closed": "refused", "no": "out of order", "odd": "does not know"} {
		_, next := checks(t, services)
		if h := next(name); h.Healthy != (want == "") || !strings.Contains(h.Why, want) {
			t.Errorf("%s: %+v, want %q", name, h, want)
		}
	}
}

func TestCheckFollowsItsTarget(t *testing.T) {
	if testing.Short() {
		t.Skip("opens sockets")
	}
	var broken atomic.Bool
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer web.Close()
	c, next := checks(t, map[string]eventlog.Service{"web": check("http", web.URL), "no": check("exec", "echo out of order; exit 3")})
	if h := next("web"); !h.Healthy {
		t.Errorf("a healthy server: %+v", h)
	}
	broken.Store(true)
	if h := next("web"); h.Healthy || !strings.Contains(h.Why, "503") {
		t.Errorf("a broken server: %+v", h)
	}
	broken.Store(false)
	if h := next("web"); !h.Healthy {
		t.Errorf("a repaired server: %+v", h)
	}
	c.Set(context.Background(), map[string]eventlog.Service{"web": {}})
	if h := next("web"); !h.Healthy {
		t.Errorf("a service without a check: %+v", h)
	}
}

func TestExecIsKilledWithItsChildren(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	pidFile := filepath.Join(t.TempDir(), "pid")
	_, next := checks(t, map[string]eventlog.Service{"slow": check("exec", "sleep 60 & echo $! > "+pidFile+"; wait")})
	if h := next("slow"); h.Healthy || !strings.Contains(h.Why, "no answer within") {
		t.Errorf("a slow command: %+v", h)
	}
	b, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for syscall.Kill(pid, 0) == nil && alive(pid) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlives its check", pid)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// alive tells a running process from one that waits to be reaped.
func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// checker returns a checker in virtual time whose checks answer what result
// says, and the verdicts it gave.
func checker(result func(eventlog.Check) error) (*Checker, func() []failover.ServiceHealth) {
	var mu sync.Mutex
	var got []failover.ServiceHealth
	c := NewChecker(func(in failover.Input) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, in.(failover.ServiceHealth))
	}, slog.New(slog.DiscardHandler))
	c.probe = func(_ context.Context, k eventlog.Check) error { return result(k) }
	return c, func() []failover.ServiceHealth {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		out := got
		got = nil
		return out
	}
}

func slow(target string) map[string]eventlog.Service {
	return map[string]eventlog.Service{"web": {Check: &eventlog.Check{
		Kind: "tcp", Target: target, Interval: time.Second, Timeout: time.Second, Rise: 2, Fall: 3,
	}}}
}

// The first result counts at once; a bad verdict is said again with each result.
func TestVerdictsRiseAndFall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sick atomic.Bool
		c, said := checker(func(eventlog.Check) error {
			if sick.Load() {
				return errors.New("out")
			}
			return nil
		})
		defer c.Close()
		c.Set(t.Context(), slow("x"))
		if got := said(); len(got) != 1 || !got[0].Healthy {
			t.Fatalf("first result: %+v", got)
		}
		time.Sleep(time.Minute)
		if got := said(); len(got) != 0 {
			t.Fatalf("healthy all the time: %+v", got)
		}
		sick.Store(true)
		time.Sleep(2 * time.Second)
		if got := said(); len(got) != 0 {
			t.Fatalf("two failures, three are needed: %+v", got)
		}
		time.Sleep(3 * time.Second)
		if got := said(); len(got) != 3 || got[0].Healthy || got[2] != got[0] || got[0].Why != "out" {
			t.Fatalf("three failures, and two more: %+v", got)
		}
		sick.Store(false)
		time.Sleep(3 * time.Second)
		if got := said(); len(got) != 2 || got[0].Healthy || !got[1].Healthy || got[1].Why != "" {
			t.Fatalf("two successes: %+v", got)
		}
	})
}

// A check that was stopped while it ran has no last word.
func TestStoppedChecksAreSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := make(chan struct{})
		c, said := checker(func(k eventlog.Check) error {
			if k.Target == "old" {
				<-late
				return errors.New("old")
			}
			return nil
		})
		c.Set(t.Context(), slow("old"))
		synctest.Wait()
		c.Set(t.Context(), slow("new"))
		if got := said(); len(got) != 1 || !got[0].Healthy {
			t.Fatalf("the new check: %+v", got)
		}
		close(late)
		if got := said(); len(got) != 0 {
			t.Fatalf("the old check spoke: %+v", got)
		}
		c.Close()
		c.Set(t.Context(), slow("newer"))
		if got := said(); len(got) != 0 {
			t.Fatalf("a closed checker spoke: %+v", got)
		}
	})
}

// An odd check in the log must not stop the agent or make it spin.
func TestOddChecksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		c, said := checker(func(eventlog.Check) error { n.Add(1); return nil })
		defer c.Close()
		c.Set(t.Context(), map[string]eventlog.Service{"web": {Check: &eventlog.Check{Kind: "tcp"}}})
		time.Sleep(time.Second + time.Millisecond)
		if got := said(); len(got) != 1 || n.Load() > 11 {
			t.Fatalf("%+v after %d checks", got, n.Load())
		}
	})
}

// At most maxChecks run at the same moment.
func TestChecksTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int64
		c, _ := checker(func(eventlog.Check) error {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(10 * time.Millisecond)
			now.Add(-1)
			return nil
		})
		services := map[string]eventlog.Service{}
		for i := range 3 * maxChecks {
			services[strconv.Itoa(i)] = slow("x")["web"]
		}
		c.Set(t.Context(), services)
		time.Sleep(500 * time.Millisecond)
		c.Close()
		if most.Load() != maxChecks {
			t.Errorf("%d checks at once, want %d", most.Load(), maxChecks)
		}
	})
}

// A command that succeeds leaves nobody behind, and talk costs no memory.
func TestExecIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	pidFile := filepath.Join(t.TempDir(), "pid")
	from := time.Now()
	if err := checkExec(t.Context(), "sleep 60 & echo $! > "+pidFile); err != nil {
		t.Errorf("a command with a child in the background: %v", err)
	}
	if took := time.Since(from); took > 5*time.Second {
		t.Errorf("it took %s, as if it had waited for the child", took)
	}
	b, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for alive(pid) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlives its check", pid)
		}
		<-time.After(10 * time.Millisecond)
	}
	err = checkExec(t.Context(), "head -c 20000000 /dev/zero | tr '\\0' 'é '; exit 7")
	if err == nil || len(err.Error()) > 2*maxOutput || !utf8.ValidString(err.Error()) || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("a talkative command: %v", err)
	}
}

// A proxy meant for other traffic has no say in a check.
func TestHTTPChecksGoDirect(t *testing.T) {
	if testing.Short() {
		t.Skip("opens sockets")
	}
	c := NewChecker(func(failover.Input) {}, slog.New(slog.DiscardHandler))
	if p := c.http.Transport.(*http.Transport).Proxy; p != nil {
		t.Error("checks go through a proxy")
	}
	var conns atomic.Int64
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	web.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	web.Start()
	defer web.Close()
	for range 3 {
		if err := c.once(t.Context(), *check("http", web.URL).Check); err != nil {
			t.Error(err)
		}
	}
	if conns.Load() != 3 {
		t.Errorf("3 checks over %d connections", conns.Load())
	}
}
