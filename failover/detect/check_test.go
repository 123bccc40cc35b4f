package detect

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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
