package labtest

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dyad/chaos/lab"
	"dyad/chaos/netlab"
	"dyad/cluster/api"
	"dyad/projections"
	"dyad/speaker"
)

// The doctor on real nodes: it finds them as they are, and what each router
// compares. BIRD, as the lab configures it, sends nothing back at first, and the
// embedded router never does: it sends no path to a neighbor whose ASN is in it.
func TestDoctor(t *testing.T) {
	for _, router := range []string{netlab.KindFRR, netlab.KindBIRD, netlab.KindGoBGP} {
		t.Run(router, func(t *testing.T) {
			l := up(t, router)
			c := client(t, l, netlab.NodeA)
			examined(t, c)
			if router == netlab.KindFRR {
				blackHole(t, l, c)
			}
			probe := func() api.RouterProbe {
				t.Helper()
				began := time.Now()
				p, err := c.ProbeRouter(t.Context(), api.ProbeRequest{Peer: l.Plan.RouterPeer, Reason: t.Name()})
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("in %s: %s: %s", time.Since(began).Round(time.Millisecond), p.Result, p.Text)
				for _, s := range p.Steps {
					t.Logf("%s: moved %v after %s, better on %s", s.Step, s.Moved, s.Took, s.Mover)
				}
				return p
			}
			if router != netlab.KindFRR {
				if p := probe(); p.Result != api.ResultUnknown || !strings.Contains(p.Text, "sends nothing back") || p.Fix == "" {
					t.Errorf("a router that sends nothing: %+v", p)
				}
			}
			if router == netlab.KindGoBGP {
				untouched(t, l, c)
				return
			}
			if router == netlab.KindBIRD {
				reflecting(t, l)
			}
			p := probe()
			if p.Result != api.ResultOK || len(p.Steps) != 4 || len(p.Expect) != 2 {
				t.Fatalf("%+v", p)
			}
			for _, s := range p.Steps {
				if !s.Moved || s.Took <= 0 || s.Took > time.Second {
					t.Errorf("%s did not move it: %+v", s.Step, s)
				}
			}
			if router == netlab.KindFRR {
				ignoring(t, l)
				for _, s := range probe().Steps {
					if want := s.Step != projections.StepASPath; s.Moved != want {
						t.Errorf("with the length of AS paths ignored: %+v", s)
					}
				}
				stripping(t, l)
				if p := probe(); p.Result != api.ResultOK || len(p.Steps) != 4 {
					t.Errorf("without communities: %+v", p)
				}
			}
			if router == netlab.KindBIRD {
				internal(t, l, c)
				p := probe()
				var steps []string
				for _, s := range p.Steps {
					if steps = append(steps, s.Step); !s.Moved {
						t.Errorf("a route reflector: %+v", s)
					}
				}
				if !slices.Equal(steps, []string{"origin", "local-pref", "med", "all"}) {
					t.Errorf("steps of iBGP: %v: %s", steps, p.Text)
				}
			}
			untouched(t, l, c)
		})
	}
}

// checked are the checks of a lab's node, and how many findings each has at least.
var checked = map[string]int{
	"session": 1, "pulse": 1, "pulse-path": 2, "next-hop": 1, "arp-ignore": 1, "arp-announce": 1, "rp-filter": 1, "fsync": 1,
	"interface": 2, "listener": 3, "mtu": 4,
}

// examined wants both nodes to answer, and nothing to be broken.
func examined(t *testing.T, c *api.Client) {
	t.Helper()
	nodes, err := c.Doctor(t.Context(), api.ScopeCluster)
	if err != nil || len(nodes) != 2 {
		t.Fatalf("%v %+v", err, nodes)
	}
	for _, n := range nodes {
		if n.Error != "" {
			t.Errorf("%s: %s", n.Node, n.Error)
		}
		seen := map[string]int{}
		for _, f := range n.Findings {
			seen[f.Code]++
			if f.Result != api.ResultOK {
				t.Logf("%s: %+v", n.Node, f)
			}
			// A busy machine's disk and conditions are not what this is about.
			if checked[f.Code] > 0 && f.Code != "fsync" && f.Result != api.ResultOK {
				t.Errorf("%s: %+v", n.Node, f)
			}
		}
		for code, least := range checked {
			if seen[code] < least {
				t.Errorf("%s: %d findings about %s", n.Node, seen[code], code)
			}
		}
		if len(n.Expect) != 2 || n.Expect[0].Way != api.WayNextHop {
			t.Errorf("%s expects %+v", n.Node, n.Expect)
		}
	}
}

// reflecting has BIRD send its choice to its neighbors, as a router does.
func reflecting(t *testing.T, l *lab.Lab) {
	t.Helper()
	rewrite(t, l, "export none", "export where source = RTS_BGP")
}

// rewrite changes BIRD's configuration and has it read it again.
func rewrite(t *testing.T, l *lab.Lab, from, to string) {
	t.Helper()
	dir := filepath.Join(l.Dir, netlab.Router)
	conf := filepath.Join(dir, "bird.conf")
	b, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, []byte(strings.ReplaceAll(string(b), from, to)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ip", "netns", "exec", l.NS(netlab.Router), "birdc", "-s", filepath.Join(dir, "bird.ctl"), "configure").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// blackHole has the other node's port drop large packets, as a switch with a
// smaller MTU does, and puts it right again.
func blackHole(t *testing.T, l *lab.Lab, c *api.Client) {
	t.Helper()
	mtu := func(bytes string) {
		t.Helper()
		out, err := exec.Command("ip", "-n", l.NS(netlab.NodeB), "link", "set", netlab.PortCluster, "mtu", bytes).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	mtu("1400")
	defer mtu("1500")
	nodes, err := c.Doctor(t.Context(), api.ScopeNode)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range nodes[0].Findings {
		want := api.ResultOK
		if f.Subject == netlab.NodeB+" on interlink" {
			want = api.ResultProblem
		}
		if f.Code == "mtu" && (f.Result != want || (f.Fix == "") != (want == api.ResultOK)) {
			t.Errorf("with a port that drops large packets: %+v", f)
		}
	}
}

// internal makes BIRD a route reflector of the nodes, with one ASN for all.
func internal(t *testing.T, l *lab.Lab, c *api.Client) {
	t.Helper()
	rewrite(t, l, fmt.Sprintf("as %d;", l.Plan.NodeASN), fmt.Sprintf("as %d; rr client;", l.Plan.RouterASN))
	asn := int64(l.Plan.RouterASN)
	_, err := c.Do(t.Context(), projections.SetPeer{Switch: l.Plan.SwitchName, Address: l.Plan.RouterPeer, PeerASN: asn, SelfASN: asn}, api.Request{Wait: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	until(t, 30*time.Second, "the sessions with the route reflector", func() bool {
		nodes, err := c.Status(t.Context(), api.ScopeCluster)
		up := 0
		for _, n := range nodes {
			if n.Status == nil {
				continue
			}
			for _, s := range n.Status.Sessions {
				if s.SelfASN == l.Plan.RouterASN && s.State == speaker.Established {
					up++
				}
			}
		}
		return err == nil && up == 2
	})
}

// ignoring has FRR not look at the length of AS paths.
func ignoring(t *testing.T, l *lab.Lab) {
	t.Helper()
	vtysh(t, l, "bgp bestpath as-path ignore")
}

// stripping has FRR look at everything again, and take communities away: a path
// then says only by its next hop whose it is, which the nodes' segment keeps.
func stripping(t *testing.T, l *lab.Lab) {
	t.Helper()
	lines := []string{"no bgp bestpath as-path ignore", "address-family ipv4 unicast"}
	for _, peer := range l.Plan.NodePeer {
		lines = append(lines, "no neighbor "+peer.String()+" send-community")
	}
	vtysh(t, l, lines...)
}

// vtysh changes the configuration of FRR's BGP.
func vtysh(t *testing.T, l *lab.Lab, lines ...string) {
	t.Helper()
	args := []string{"netns", "exec", l.NS(netlab.Router), "vtysh", "-N", l.NS(netlab.Router), "-c", "configure terminal", "-c", fmt.Sprintf("router bgp %d", l.Plan.RouterASN)}
	for _, line := range lines {
		args = append(args, "-c", line)
	}
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// untouched wants the router's table as it was: the services, and no test route.
// A prefix that a service has is refused.
func untouched(t *testing.T, l *lab.Lab, c *api.Client) {
	t.Helper()
	until(t, 10*time.Second, "the test route to leave the router's table", func() bool {
		routes, err := netlab.Table(l.NS(netlab.Router))
		if err != nil {
			t.Fatal(err)
		}
		_, there := routes[projections.TestPrefix(l.Plan.RouterPeer)]
		return !there && len(routes) >= 2
	})
	services, err := c.Services(t.Context())
	if err != nil || len(services) == 0 {
		t.Fatalf("%v %v", services, err)
	}
	_, err = c.ProbeRouter(t.Context(), api.ProbeRequest{Peer: l.Plan.RouterPeer, Prefix: netip.PrefixFrom(services[0].Addresses[0], 32)})
	if e := api.AsError(err); e == nil || e.Code != "test-in-use" {
		t.Errorf("a probe with a service's address: %v", err)
	}
}
