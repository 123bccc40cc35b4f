package gobgp_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lab is one router in a network namespace of its own, joined to this process's
// namespace by a veth pair.
type lab struct {
	t                *testing.T
	ns, dir          string
	our4, router4    netip.Addr
	our6, router6    netip.Addr
	foreground       []*exec.Cmd
	pidFiles, remove []string
}

// newLab makes the namespace and deletes it with the test. It skips the test if
// it cannot be made, or if a program is missing.
func newLab(t *testing.T, programs ...string) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: runs a real router in a network namespace")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs %s: it is not installed", p)
		}
	}
	b := make([]byte, 3)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	l := &lab{
		t: t, ns: fmt.Sprintf("dyadgb%x", b), dir: t.TempDir(),
		our4: netip.AddrFrom4([4]byte{198, 18 + b[0]&1, b[1], b[2]&0xfc | 1}), router4: netip.AddrFrom4([4]byte{198, 18 + b[0]&1, b[1], b[2]&0xfc | 2}),
	}
	six := [16]byte{0: 0xfd, 1: 0xdb, 2: b[0], 3: b[1], 4: b[2], 15: 1}
	l.our6 = netip.AddrFrom16(six)
	l.router6 = l.our6.Next()
	if err := os.Chmod(l.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	dev := fmt.Sprintf("dgb%x", b)
	l.run("ip", "netns", "add", l.ns)
	t.Cleanup(func() {
		l.stop(syscall.SIGKILL)
		_ = exec.Command("ip", "link", "del", dev).Run()
		_ = exec.Command("ip", "netns", "del", l.ns).Run()
		for _, p := range l.remove {
			_ = os.RemoveAll(p)
		}
	})
	l.run("ip", "link", "add", dev, "type", "veth", "peer", "name", "up0", "netns", l.ns)
	l.run("ip", "addr", "add", l.our4.String()+"/30", "dev", dev)
	l.run("ip", "addr", "add", l.our6.String()+"/64", "dev", dev, "nodad")
	l.run("ip", "link", "set", dev, "up")
	l.in("ip", "link", "set", "lo", "up")
	l.in("ip", "addr", "add", l.router4.String()+"/30", "dev", "up0")
	l.in("ip", "addr", "add", l.router6.String()+"/64", "dev", "up0", "nodad")
	l.in("ip", "link", "set", "up0", "up")
	return l
}

func (l *lab) run(name string, args ...string) string {
	l.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// in runs a command in the namespace.
func (l *lab) in(args ...string) string {
	l.t.Helper()
	return l.run("ip", append([]string{"netns", "exec", l.ns}, args...)...)
}

// ask runs a command in the namespace and returns what it printed, or nothing.
func (l *lab) ask(args ...string) string {
	var out bytes.Buffer
	c := exec.Command("ip", append([]string{"netns", "exec", l.ns}, args...)...)
	c.Stdout = &out
	_ = c.Run()
	return out.String()
}

// spawn runs a daemon that stays in the foreground.
func (l *lab) spawn(args ...string) {
	l.t.Helper()
	c := exec.Command("ip", append([]string{"netns", "exec", l.ns}, args...)...)
	log, err := os.OpenFile(l.dir+"/daemon.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.foreground = append(l.foreground, c)
}

func (l *lab) write(path, text string) {
	l.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// stop ends the daemons this lab started, by their process IDs, and waits.
func (l *lab) stop(sig syscall.Signal) {
	for _, c := range l.foreground {
		_ = c.Process.Signal(sig)
		_ = c.Wait()
	}
	l.foreground = nil
	for _, f := range l.pidFiles {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil || pid < 2 {
			continue
		}
		_ = syscall.Kill(pid, sig)
		_ = os.Remove(f)
		gone := time.NewTicker(5 * time.Millisecond)
		for range 1000 {
			if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				break
			}
			<-gone.C
		}
		gone.Stop()
	}
	l.pidFiles = nil
}
