package address_test

import (
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"dyad/speaker/address"
)

// inNetns moves the test into a network namespace of its own. The thread is
// never unlocked, so it ends with the test, and the namespace with it.
func inNetns(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a network namespace and puts addresses on interfaces in it")
	}
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	run(t, "ip link set lo up")
}

func run(t *testing.T, line string) string {
	t.Helper()
	f := strings.Fields(line)
	out, err := exec.Command(f[0], f[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

func manager(t *testing.T, dev, file string) *address.Manager {
	t.Helper()
	m, err := address.New(address.Options{Interface: dev, StateFile: file, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func addrs(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, x := range s {
		out = append(out, netip.MustParseAddr(x))
	}
	return out
}

// onHost asks ip(8), not the code under test, what an interface holds.
func onHost(t *testing.T, dev string) []string {
	t.Helper()
	var links []struct {
		Info []struct {
			Local     string `json:"local"`
			Prefixlen int    `json:"prefixlen"`
			Tentative bool   `json:"tentative"`
			Preferred uint32 `json:"preferred_life_time"`
		} `json:"addr_info"`
	}
	if err := json.Unmarshal([]byte(run(t, "ip -json addr show dev "+dev)), &links); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range links {
		for _, i := range l.Info {
			a := netip.MustParseAddr(i.Local)
			if a.IsLoopback() || a.IsLinkLocalUnicast() {
				continue
			}
			if i.Tentative {
				t.Errorf("%s is tentative", a)
			}
			out = append(out, netip.PrefixFrom(a, i.Prefixlen).String())
		}
	}
	slices.Sort(out)
	return out
}

func expect(t *testing.T, dev string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := onHost(t, dev); !slices.Equal(got, want) {
		t.Fatalf("%s holds %v, want %v", dev, got, want)
	}
}

func TestOnlyOursIsRemoved(t *testing.T) {
	inNetns(t)
	file := filepath.Join(t.TempDir(), "addresses.json")
	run(t, "ip addr add 10.9.0.1/32 dev lo")
	run(t, "ip addr add 10.9.0.2/24 dev lo")
	m := manager(t, "lo", file)
	added, removed, err := m.Set(t.Context(), addrs("10.0.0.1", "10.0.0.2", "fd00::1", "10.9.0.1", "10.9.0.2"))
	if err != nil || added != 3 || removed != 0 {
		t.Fatalf("%d, %d, %v", added, removed, err)
	}
	expect(t, "lo", "10.0.0.1/32", "10.0.0.2/32", "fd00::1/128", "10.9.0.1/32", "10.9.0.2/24")
	if f := m.Foreign(); !slices.Equal(f, addrs("10.9.0.1", "10.9.0.2")) {
		t.Fatalf("foreign: %v", f)
	}
	if added, removed, err = m.Set(t.Context(), addrs("10.0.0.1", "10.0.0.2", "fd00::1", "10.9.0.1", "10.9.0.2")); err != nil || added+removed != 0 {
		t.Fatalf("again: %d, %d, %v", added, removed, err)
	}
	run(t, "ip addr del 10.0.0.2/32 dev lo") // somebody takes one of ours
	if added, removed, err = m.Set(t.Context(), addrs("10.0.0.2", "fd00::1")); err != nil || added != 1 || removed != 1 {
		t.Fatalf("repair: %d, %d, %v", added, removed, err)
	}
	expect(t, "lo", "10.0.0.2/32", "fd00::1/128", "10.9.0.1/32", "10.9.0.2/24")
	if err := m.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, "lo", "10.9.0.1/32", "10.9.0.2/24")
}

func TestACrashLosesNoOwner(t *testing.T) {
	inNetns(t)
	file := filepath.Join(t.TempDir(), "addresses.json")
	m := manager(t, "lo", file)
	if _, _, err := m.Set(t.Context(), addrs("10.0.0.1", "10.0.0.2")); err != nil {
		t.Fatal(err)
	}
	m.Close() // as good as a crash: nothing is written here
	n := manager(t, "lo", file)
	if got := n.Owned(); !slices.Equal(got, addrs("10.0.0.1", "10.0.0.2")) {
		t.Fatalf("owned after a restart: %v", got)
	}
	if added, removed, err := n.Set(t.Context(), addrs("10.0.0.2", "10.0.0.3")); err != nil || added != 1 || removed != 1 {
		t.Fatalf("%d, %d, %v", added, removed, err)
	}
	expect(t, "lo", "10.0.0.2/32", "10.0.0.3/32")

	// A crash between the file and the address: it is claimed, but not there.
	n.Close()
	run(t, "ip addr del 10.0.0.3/32 dev lo")
	o := manager(t, "lo", file)
	if added, _, err := o.Set(t.Context(), addrs("10.0.0.3")); err != nil || added != 1 {
		t.Fatalf("%d, %v", added, err)
	}
	expect(t, "lo", "10.0.0.3/32")
	o.Close()

	// After a reboot the same address may be there by the host's own doing.
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var raw map[string]any
	if err := json.Unmarshal(b, &raw); err != nil {
		t.Fatal(err)
	}
	raw["boot"] = "an earlier one"
	if b, err = json.Marshal(raw); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	p := manager(t, "lo", file)
	if err := p.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, "lo", "10.0.0.3/32")
}

func TestAnotherInterface(t *testing.T) {
	inNetns(t)
	file := filepath.Join(t.TempDir(), "addresses.json")
	run(t, "ip link add br0 type bridge")
	run(t, "ip link set br0 up")
	m := manager(t, "br0", file)
	if _, _, err := m.Set(t.Context(), addrs("10.0.0.1", "fd00::1")); err != nil {
		t.Fatal(err)
	}
	expect(t, "br0", "10.0.0.1/32", "fd00::1/128")
	m.Close()
	n := manager(t, "lo", file) // the configuration changed
	expect(t, "br0")
	if added, _, err := n.Set(t.Context(), addrs("10.0.0.1", "fd00::1")); err != nil || added != 2 {
		t.Fatalf("%d, %v", added, err)
	}
	n.Close()
	o := manager(t, "br0", file)
	if _, _, err := o.Set(t.Context(), addrs("10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	expect(t, "lo")
	run(t, "ip link del br0") // made anew: nothing on it is ours
	run(t, "ip link add br0 type bridge")
	run(t, "ip addr add 10.0.0.1/32 dev br0")
	if err := o.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, "br0", "10.0.0.1/32")
	if _, _, err := manager(t, "nosuch0", filepath.Join(t.TempDir(), "a")).Set(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "nosuch0") {
		t.Fatalf("%v", err)
	}
}

func TestIPv6SwitchedOffIsTold(t *testing.T) {
	inNetns(t)
	run(t, "sysctl -q -w net.ipv6.conf.lo.disable_ipv6=1")
	m := manager(t, "lo", filepath.Join(t.TempDir(), "a"))
	added, _, err := m.Set(t.Context(), addrs("10.0.0.1", "fd00::1"))
	if err == nil || !strings.Contains(err.Error(), "disable_ipv6=0") || added != 1 {
		t.Fatalf("%d, %v", added, err)
	}
	if got := m.Owned(); !slices.Equal(got, addrs("10.0.0.1")) {
		t.Fatalf("owned: %v", got)
	}
	expect(t, "lo", "10.0.0.1/32")
}

func TestAThousandAddresses(t *testing.T) {
	inNetns(t)
	m := manager(t, "lo", filepath.Join(t.TempDir(), "a"))
	var want []netip.Addr
	a4, a6 := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd00:1::1")
	for range 500 {
		want = append(want, a4, a6)
		a4, a6 = a4.Next(), a6.Next()
	}
	start := time.Now()
	added, _, err := m.Set(t.Context(), want)
	took := time.Since(start)
	if err != nil || added != 1000 {
		t.Fatalf("%d, %v", added, err)
	}
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil || len(list) < 1000 {
		t.Fatalf("%d addresses, %v", len(list), err)
	}
	start = time.Now()
	if err := m.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("1,000 addresses added in %v, removed in %v", took, time.Since(start))
	expect(t, "lo")
	if took > 5*time.Second {
		t.Fatalf("adding took %v", took)
	}
}
