package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dyad/cluster/quorum"
	"dyad/cluster/witness"
	"dyad/cluster/witness/registertest"
	"dyad/eventlog"
)

// childDir makes this test program a witness on that directory.
const childDir = "DYAD_TEST_WITNESS_DIR"

func mainOrChild(_ *testing.M, tests func()) {
	dir := os.Getenv(childDir)
	if dir == "" {
		tests()
		return
	}
	if err := childMain(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func childMain(dir string) error {
	store, err := OpenStore(dir, 0)
	if err != nil {
		return err
	}
	o := ample
	o.Log = slog.New(slog.DiscardHandler)
	if o.Certificate, err = Certificate(dir, "", "", time.Now()); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("https://%s#%s\n", ln.Addr(), witness.Fingerprint(o.Certificate.Certificate[0]))
	return Serve(context.Background(), ln, store, o)
}

// child starts a witness as a process of its own and returns its URL.
func child(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Fatalf("the child says %q: %v", line, err)
	}
	return cmd, strings.TrimSpace(line)
}

// TestKilled kills a witness in the middle of swaps, again and again. After each
// start what stands is at least the newest claim that anybody was told yes for,
// no claim was given to two, and a repetition settles what was open.
func TestKilled(t *testing.T) {
	const rounds, clusters = 8, 4
	dir, ca := t.TempDir(), registertest.NewCA(t)
	acked := make([]quorum.Claim, clusters) // the newest yes of each cluster
	for i := range acked {
		acked[i] = registertest.Pair(fmt.Sprintf("c%d", i), 1)
	}
	answered := 0
	for round := range rounds {
		cmd, url := child(t, dir)
		var wg sync.WaitGroup
		var mu sync.Mutex
		enough := make(chan struct{})
		here := 0
		for i := range acked {
			w := client(t, url, acked[i].Cluster, ca.Node(acked[i].Cluster, "node-a"), "")
			if round == 0 { // before any kill
				if _, err := w.Create(t.Context(), acked[i]); err != nil {
					t.Fatal(err)
				}
			}
			wg.Go(func() {
				acked[i] = swapUntilDown(t, w, acked[i], func() {
					mu.Lock()
					defer mu.Unlock()
					answered++
					if here++; here == 5*(round+1) {
						close(enough)
					}
				})
			})
		}
		select {
		case <-enough:
		case <-time.After(30 * time.Second):
			t.Error("too few swaps in 30 s")
		}
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		wg.Wait()
		if t.Failed() {
			return
		}
	}
	held, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range acked {
		if now := held[c.Cluster].Claim; now.Epoch < c.Epoch || now.Epoch > c.Epoch+1 {
			t.Errorf("%s: %s stands, and yes was said for %s", c.Cluster, now, c)
		}
	}
	t.Logf("%d swaps answered, %d kills", answered, rounds)
}

// swapUntilDown swaps from the newest yes on, until the witness is gone. The
// first swap after a start settles the one that the kill left open.
func swapUntilDown(t *testing.T, w witness.Witness, last quorum.Claim, answered func()) quorum.Claim {
	ctx := context.Background()
	for {
		next := registertest.Sole(last.Cluster, last.Epoch+1, "node-a")
		got, err := w.Swap(ctx, last, next)
		switch {
		case err == nil:
			last = got
			answered()
		case errors.Is(err, quorum.ErrUnavailable):
			return last
		default:
			t.Errorf("%s, from %s: %v", last.Cluster, last, err)
			return last
		}
	}
}

// A crash between any two steps of writing the file anew leaves one that holds
// every claim.
func TestLeftoversOfACrashAreHarmless(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	if _, err := s.Create(t.Context(), "ca", "node-a", registertest.Pair("c", 1), now); err != nil {
		t.Fatal(err)
	}
	closed(t, s)
	for _, text := range []string{"", header, header + "half a fra"} {
		if err := os.WriteFile(filepath.Join(dir, claimsFile+".new"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, 0)
		if r, err := s.Get("c", "ca"); err != nil || r.Claim.Epoch != eventlog.Epoch(1) {
			t.Errorf("%q: %+v, %v", text, r, err)
		}
		closed(t, s)
	}
}
