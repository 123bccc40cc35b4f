package hostcheck

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dyad/cluster"
	"dyad/cluster/api"
	"dyad/eventlog"
)

// fakeProc makes a /proc with these settings.
func fakeProc(t *testing.T, values map[string]string) *Checker {
	t.Helper()
	dir := t.TempDir()
	for name, v := range values {
		path := filepath.Join(dir, "sys", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(v+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &Checker{proc: dir}
}

func byCode(t *testing.T, found []api.Finding) map[string]api.Finding {
	t.Helper()
	out := map[string]api.Finding{}
	for _, f := range found {
		out[f.Code] = f
		if f.Text == "" || f.Result == "" {
			t.Errorf("it says nothing: %+v", f)
		}
	}
	return out
}

// The higher of an interface's value and that of all counts.
func TestKernelSettings(t *testing.T) {
	ports := []eventlog.Port{{Interface: "eth0"}, {Interface: "eth1"}}
	conf := "net/ipv4/conf/"
	good := map[string]string{
		"net/ipv4/ip_forward":   "1",
		conf + "all/arp_ignore": "0", conf + "eth0/arp_ignore": "1", conf + "eth1/arp_ignore": "2",
		conf + "all/arp_announce": "2", conf + "eth0/arp_announce": "0", conf + "eth1/arp_announce": "0",
		conf + "all/rp_filter": "0", conf + "eth0/rp_filter": "0", conf + "eth1/rp_filter": "2",
	}
	for code, f := range byCode(t, fakeProc(t, good).kernel(ports)) {
		if f.Result != api.ResultOK || f.Fix != "" {
			t.Errorf("%s: %+v", code, f)
		}
	}
	good[conf+"eth1/arp_ignore"], good[conf+"all/arp_announce"], good[conf+"eth0/rp_filter"] = "0", "1", "1"
	good["net/ipv4/ip_forward"] = "0"
	got := byCode(t, fakeProc(t, good).kernel(ports))
	for code, want := range map[string][2]string{
		"arp-ignore":   {"eth1", "sysctl -w net.ipv4.conf.all.arp_ignore=1"},
		"arp-announce": {"eth0,eth1", "sysctl -w net.ipv4.conf.all.arp_announce=2"},
		"rp-filter":    {"eth0", "sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0"},
	} {
		if f := got[code]; f.Result != api.ResultWarning || f.Subject != want[0] || f.Fix != want[1] {
			t.Errorf("%s: %+v", code, f)
		}
	}
	if f := got["ip-forward"]; f.Result != api.ResultOK || !strings.HasPrefix(f.Text, "off") {
		t.Errorf("%+v", f)
	}
	for code, f := range byCode(t, fakeProc(t, nil).kernel(ports)) {
		if f.Result != api.ResultUnknown {
			t.Errorf("%s without /proc: %+v", code, f)
		}
	}
}

func TestDisk(t *testing.T) {
	dir := t.TempDir()
	got := byCode(t, disk(t.Context(), dir))
	if f := got["fsync"]; f.Result == api.ResultUnknown || !strings.Contains(f.Text, "median") || (f.Fix == "") != (f.Result == api.ResultOK) {
		t.Errorf("%+v", f)
	}
	if f := got["disk-space"]; !strings.Contains(f.Text, "MiB free") {
		t.Errorf("%+v", f)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it left %v %v", left, err)
	}
	if f := disk(t.Context(), filepath.Join(dir, "nowhere"))[0]; f.Result != api.ResultProblem || f.Fix == "" {
		t.Errorf("%+v", f)
	}
}

func TestListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := cluster.Listener{Name: "api of node-b", Address: netip.MustParseAddrPort(ln.Addr().String())}
	if f := listener(t.Context(), l); f.Result != api.ResultOK || f.Subject != l.Name {
		t.Errorf("%+v", f)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if f := listener(t.Context(), l); f.Result != api.ResultProblem || f.Fix == "" {
		t.Errorf("%+v", f)
	}
}

func TestPort(t *testing.T) {
	if f := port(eventlog.Port{Interface: "nosuch0"}); f.Result != api.ResultProblem || f.Fix == "" {
		t.Errorf("%+v", f)
	}
	lo := eventlog.Port{Interface: "lo", Addresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}}
	if f := port(lo); f.Result != api.ResultOK {
		t.Errorf("%+v", f)
	}
	lo.Addresses = append(lo.Addresses, netip.MustParsePrefix("192.0.2.77/24"))
	if f := port(lo); f.Result != api.ResultWarning || !strings.Contains(f.Text, "192.0.2.77/24") {
		t.Errorf("%+v", f)
	}
}

// Echo requests to this host itself, at its full MTU.
func TestFullSize(t *testing.T) {
	for _, a := range []string{"127.0.0.1", "::1"} {
		addr := netip.MustParseAddr(a)
		n := cluster.Neighbor{Name: "here", Interface: "lo", Own: addr, Address: addr}
		f := fullSize(t.Context(), n)
		if strings.Contains(f.Fix, "CAP_NET_RAW") {
			t.Skip("needs CAP_NET_RAW: it sends echo requests")
		}
		// The largest IPv4 packet is 65,535 bytes, and lo's MTU 65,536.
		if want := map[bool]string{true: api.ResultProblem, false: api.ResultOK}[addr.Is4()]; f.Result != want {
			t.Errorf("%s: %+v", a, f)
		}
	}
	none := cluster.Neighbor{Name: "x", Own: netip.MustParseAddr("192.0.2.1"), Address: netip.MustParseAddr("192.0.2.2")}
	if f := fullSize(t.Context(), none); f.Result != api.ResultUnknown {
		t.Errorf("%+v", f)
	}
}

func TestChecksum(t *testing.T) {
	b := []byte{8, 0, 0, 0, 0x12, 0x34, 0, 1, 'a', 'b', 'c'}
	sum := checksum(b)
	b[2], b[3] = byte(sum>>8), byte(sum)
	if got := checksum(b); got != 0 {
		t.Errorf("with its checksum in it, it sums up to %#x", got)
	}
}
