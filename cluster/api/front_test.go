package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dyad/eventlog"
	"dyad/projections"
	"dyad/projections/audit"
)

// patience is how long a test waits for something that has to come.
const patience = 10 * time.Second

func receive[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}

func TestAServerThatLetsInEverybodyIsRefused(t *testing.T) {
	for name, conf := range map[string]*tls.Config{
		"none": nil, "no client certificate": {}, "unverified": {ClientAuth: tls.RequireAnyClientCert},
		"optional": {ClientAuth: tls.VerifyClientCertIfGiven},
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, ServeTCP(t.Context(), ln, conf, nil, http.NotFoundHandler(), nil), ClassUsage, "certificate-missing")
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: the listener is left open: %v", name, err)
		}
	}
}

func TestAHandlerOnItsOwnDenies(t *testing.T) {
	h := NewHandler(&fake{}, HandlerOptions{})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", PathStatus, nil))
	var e Error
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != http.StatusForbidden || e.Code != "caller-unknown" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", PathDocument, nil))
	want, err := Document()
	if err != nil || w.Code != http.StatusOK || w.Body.String() != string(want) {
		t.Errorf("%d %.80s, %v", w.Code, w.Body, err)
	}
}

func TestAStreamBringsEventsAndEndsWithItsReader(t *testing.T) {
	f := &fake{live: make(chan eventlog.Envelope), ended: make(chan error, 1)}
	c, _, _ := overUnix(t, f)
	events := chain(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan eventlog.Public)
	failed := make(chan error, 1)
	go func() {
		defer close(got)
		for e, err := range c.Follow(ctx, audit.Query{After: 1}) {
			if err != nil {
				failed <- err
				return
			}
			got <- e
		}
	}()
	for _, e := range events {
		f.live <- e
		if e.Seq > 1 { // each is delivered before the next is made
			if g := receive(t, "an event", got); g.Seq != e.Seq || g.Hash != e.Hash {
				t.Errorf("got %+v", g)
			}
		}
	}
	cancel()
	receive(t, "the end on the agent's side", f.ended)
	if _, more := <-got; more {
		t.Error("an event came from nowhere")
	}
	select {
	case err := <-failed:
		t.Errorf("the end of the context is no error: %v", err)
	default:
	}
}

func TestAStreamKeepsItsConnectionToItself(t *testing.T) {
	f := &fake{live: make(chan eventlog.Envelope), err: eventlog.ErrUnavailable}
	c, _, _ := overUnix(t, f)
	close(f.live)
	resp, err := c.send(t.Context(), "GET", PathEventsFollow, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if !resp.Close || resp.Header.Get("Content-Type") != streamType {
		t.Errorf("close %t, %v", resp.Close, resp.Header)
	}
}

func TestAStreamThatFailsSaysWhy(t *testing.T) {
	f := &fake{live: make(chan eventlog.Envelope), err: eventlog.ErrUnavailable}
	c, _, _ := overUnix(t, f)
	close(f.live)
	var errs []error
	for _, err := range c.Follow(t.Context(), audit.Query{}) {
		errs = append(errs, err)
	}
	if len(errs) != 1 {
		t.Fatalf("%v", errs)
	}
	wantError(t, errs[0], ClassUnavailable, "log-unavailable")
}

func TestAServerThatStopsEndsStreamsAndLetsCommandsFinish(t *testing.T) {
	f := &fake{live: make(chan eventlog.Envelope), ended: make(chan error, 1), block: make(chan struct{}), inside: make(chan struct{}, 1)}
	c, path, stop := overUnix(t, f)
	var wg sync.WaitGroup
	defer wg.Wait()
	first, broke, done := make(chan struct{}), make(chan error, 1), make(chan error, 1)
	wg.Go(func() {
		for _, err := range c.Follow(t.Context(), audit.Query{}) {
			if err != nil {
				broke <- err
				return
			}
			close(first)
		}
	})
	wg.Go(func() {
		_, err := c.Do(t.Context(), projections.RemovePool{Name: "web"}, Request{})
		done <- err
	})
	f.live <- chain(t, 1)[0]
	receive(t, "the event", first)
	receive(t, "the command", f.inside)
	stopped := make(chan error, 1)
	wg.Go(func() { stopped <- stop() })
	receive(t, "the stream's end", f.ended)
	wantError(t, receive(t, "the reader's news", broke), ClassUnavailable, "connection-lost")
	select {
	case err := <-done:
		t.Fatalf("the command was cut off: %v", err)
	default:
	}
	close(f.block)
	if err := receive(t, "the command's answer", done); err != nil {
		t.Error(err)
	}
	if err := receive(t, "the stop", stopped); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
	_, err := c.Peers(t.Context())
	if e := wantError(t, err, ClassUnavailable, "no-agent"); !strings.Contains(e.Fix, "systemctl start dyad") || !strings.Contains(e.What, path) {
		t.Errorf("%+v", e)
	}
}

func TestTooManyRequestsAreToldToComeBack(t *testing.T) {
	f := &fake{block: make(chan struct{}), inside: make(chan struct{}, MaxInFlight)}
	_, path, _ := overUnix(t, f)
	var wg sync.WaitGroup
	clients := make([]*Client, MaxInFlight)
	for i := range clients {
		clients[i] = NewClient(ClientOptions{Socket: path})
		wg.Go(func() {
			if _, err := clients[i].Do(t.Context(), projections.RemovePool{Name: "web"}, Request{}); err != nil {
				t.Error(err)
			}
		})
	}
	for range clients {
		receive(t, "a command", f.inside)
	}
	one := NewClient(ClientOptions{Socket: path})
	defer one.Close()
	_, err := one.Peers(t.Context())
	wantError(t, err, ClassUnavailable, "busy")
	close(f.block)
	wg.Wait()
	for _, c := range clients {
		c.Close()
	}
	if _, err := one.Peers(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAClientThatGivesUpCancelsItsCommand(t *testing.T) {
	f := &fake{block: make(chan struct{}), inside: make(chan struct{}, 1)}
	_, path, stop := overUnix(t, f)
	c := NewClient(ClientOptions{Socket: path, Timeout: 50 * time.Millisecond})
	defer c.Close()
	_, err := c.Do(t.Context(), projections.RemovePool{Name: "web"}, Request{})
	wantError(t, err, ClassUnavailable, "timeout")
	// The handler is still blocked unless it was cancelled; then stopping
	// could not be orderly.
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestAPanicIsAnAnswerAndALine(t *testing.T) {
	var log bytes.Buffer
	f := &fake{panics: true}
	h := NewHandler(f, HandlerOptions{Log: slog.New(slog.NewTextHandler(&log, nil))})
	r := httptest.NewRequest("GET", PathStatus+"?scope=node", nil)
	r = r.WithContext(WithCaller(r.Context(), Caller{Actor: eventlog.Actor{Name: "root", Auth: AuthUnix}, Role: RoleAdmin}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var e Error
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != http.StatusInternalServerError || e.Code != "panic" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if s := log.String(); !strings.Contains(s, "event=api.panic") || !strings.Contains(s, "the fake fell over") {
		t.Errorf("log: %s", s)
	}
}

func TestAStaleSocketIsReplacedALiveOneIsNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dyad.sock")
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	ln, err := ListenUnix(path)
	if err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	_, err = ListenUnix(path)
	wantError(t, err, ClassFailed, "socket-live")
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = ListenUnix(path)
	wantError(t, err, ClassFailed, "socket-path")
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file was touched: %q, %v", b, err)
	}
}

func TestTheSocketHasItsModeUnderAnyUmask(t *testing.T) {
	for _, mask := range []int{0, 0o077} {
		path := filepath.Join(t.TempDir(), "dyad.sock")
		old := unix.Umask(mask)
		ln, err := ListenUnix(path)
		unix.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o660 {
			t.Errorf("umask %o: %v, %v", mask, info.Mode(), err)
		}
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
	}
}

// dialAs connects as another user: the thread that does it is thrown away.
func dialAs(uid int, path string) (net.Conn, error) {
	type result struct {
		c   net.Conn
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		id, keep := uintptr(uid), ^uintptr(0)
		for _, call := range [][4]uintptr{{unix.SYS_SETGROUPS, 0, 0, 0}, {unix.SYS_SETRESGID, keep, id, keep}, {unix.SYS_SETRESUID, keep, id, keep}} {
			if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
				done <- result{nil, errno}
				return
			}
		}
		c, err := net.Dial("unix", path)
		done <- result{c, err}
	}()
	r := <-done
	return r.c, r.err
}

func TestTheKernelSaysWhoAsks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it connects as another user")
	}
	const stranger = 54321 // no user has it
	f := &fake{}
	c, path, _ := overUnix(t, f)
	for d := filepath.Dir(path); len(d) > len(os.TempDir()); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if conn, err := dialAs(stranger, path); err == nil {
		t.Fatal(conn.Close(), "a stranger may use the socket")
	} else {
		wantError(t, c.broken(err), ClassDenied, "socket-permission")
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	asStranger := NewClient(ClientOptions{Socket: path})
	defer asStranger.Close()
	asStranger.tr.DialContext = func(context.Context, string, string) (net.Conn, error) { return dialAs(stranger, path) }
	_, err := asStranger.Do(t.Context(), projections.RemovePool{Name: "web"}, Request{})
	wantError(t, err, ClassDenied, "role")
	same(t, "caller", f.caller(), Caller{Actor: eventlog.Actor{Name: "uid:54321", Auth: AuthUnix}, Role: RoleViewer})
	if _, err := asStranger.Pools(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNoAgentIsUnavailable(t *testing.T) {
	c := NewClient(ClientOptions{Socket: filepath.Join(t.TempDir(), "no.sock")})
	defer c.Close()
	_, err := c.Status(t.Context(), "")
	wantError(t, err, ClassUnavailable, "no-agent")
	for _, err := range c.Follow(t.Context(), audit.Query{}) {
		wantError(t, err, ClassUnavailable, "no-agent")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Status(ctx, "")
	if AsError(err).Class != ClassUnavailable {
		t.Errorf("%v", err)
	}
}

func TestSomethingElseThatAnswersIsNotAnAgent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == PathPeers {
			_, _ = w.Write([]byte("hello"))
			return
		}
		http.NotFound(w, r)
	}), ReadHeaderTimeout: time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	defer func() { _ = srv.Close(); <-served }()
	c := NewClient(ClientOptions{Socket: path})
	defer c.Close()
	_, err = c.Peers(t.Context())
	wantError(t, err, ClassFailed, "bad-answer")
	_, err = c.Pools(t.Context())
	wantError(t, err, ClassFailed, "bad-answer")
}

// timed remembers the read deadline of its connection.
type timed struct {
	*httptest.ResponseRecorder
	deadline time.Time
	sets     int
}

func (d *timed) SetReadDeadline(t time.Time) error {
	d.deadline = t
	d.sets++
	return nil
}

// A read deadline that passes while a command waits for the nodes would cancel
// the command.
func TestNoReadDeadlineOutlivesTheBody(t *testing.T) {
	h := NewHandler(&fake{}, HandlerOptions{})
	for path, body := range map[string]string{
		PathCommand: `{"verb":"pool remove","args":{"name":"web"}}`,
		PathFacts:   `{"type":"drill.started","data":{"drill":"power"}}`,
	} {
		r := httptest.NewRequest("POST", path, strings.NewReader(body))
		r = r.WithContext(WithCaller(r.Context(), Caller{Actor: eventlog.Actor{Name: "root", Auth: AuthUnix}, Role: RoleAdmin}))
		w := &timed{ResponseRecorder: httptest.NewRecorder()}
		h.ServeHTTP(w, r)
		if w.Code >= 300 || w.sets < 2 || !w.deadline.IsZero() {
			t.Errorf("%s: status %d, %d deadlines, the last %v", path, w.Code, w.sets, w.deadline)
		}
	}
}

func TestABodyMayComeInParts(t *testing.T) {
	f := &fake{}
	c, _, _ := overUnix(t, f)
	body := io.MultiReader(strings.NewReader(`{"verb":"pool remove",`), strings.NewReader(`"args":{"name":"web"}}`))
	req, err := http.NewRequestWithContext(t.Context(), "POST", c.base+PathCommand, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK || f.req.Verb != "pool remove" {
		t.Errorf("%s, %+v", resp.Status, f.req)
	}
}

// A busy agent that accepts nothing for the moment is alive.
func TestASocketWithAFullQueueIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dyad.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for {
		conn, err := net.Dial("unix", path)
		if err != nil {
			break // the queue is full
		}
		defer func() { _ = conn.Close() }()
	}
	_, err = ListenUnix(path)
	wantError(t, err, ClassFailed, "socket-live")
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the socket was taken away: %v", err)
	}
}
