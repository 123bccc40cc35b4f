package gobgp_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// labConf is how a real router is configured.
type labConf struct {
	asn, expects uint32 // its ASN, and the one it expects of us
	hold         int
}

// learned is what a router tells of one route.
type learned struct {
	asPath, origin string // "64513 64513"; igp or incomplete
	med, localPref int
	shutdown       bool // carries GRACEFUL_SHUTDOWN
	nextHop        string
}

// realRouter is a router program under test.
type realRouter interface {
	// start runs it as configured, and returns once it can be asked.
	start(l *lab, c labConf)
	// count is the number of routes from us in its table.
	count(l *lab) int
	// route is what it learned of a prefix.
	route(l *lab, prefix string) (learned, bool)
	// hold is the negotiated hold time of the IPv4 session.
	hold(l *lab) int
	// withdrawals counts withdrawn prefixes since the session came up; -1 if
	// the program does not tell.
	withdrawals(l *lab) int
}

var realRouters = []struct {
	name     string
	programs []string
	make     func() realRouter
}{
	{"FRR", []string{"ip", "vtysh", "/usr/lib/frr/zebra", "/usr/lib/frr/bgpd"}, func() realRouter { return &frr{} }},
	{"BIRD", []string{"ip", "bird", "birdc"}, func() realRouter { return &bird{} }},
	{"OpenBGPD", []string{"ip", "/usr/sbin/bgpd", "bgpctl"}, func() realRouter { return &openbgpd{} }},
}

type frr struct{}

func (frr) start(l *lab, c labConf) {
	etc, run := "/etc/frr/"+l.ns, "/var/run/frr/"+l.ns
	for dir, owner := range map[string]string{etc: "frr:frrvty", run: "frr:frr"} {
		if err := os.MkdirAll(dir, 0o775); err != nil {
			l.t.Fatal(err)
		}
		l.run("chown", owner, dir)
		if !slices.Contains(l.remove, dir) {
			l.remove = append(l.remove, dir)
		}
	}
	l.write(etc+"/vtysh.conf", "no service integrated-vtysh-config\n")
	l.write(etc+"/zebra.conf", "hostname r\n")
	l.write(etc+"/bgpd.conf", fmt.Sprintf(`hostname r
router bgp %d
 bgp router-id 10.255.1.9
 no bgp ebgp-requires-policy
 timers bgp %d %d
 neighbor %s remote-as %d
 neighbor %s remote-as %d
 address-family ipv4 unicast
  no neighbor %s activate
 exit-address-family
 address-family ipv6 unicast
  neighbor %s activate
 exit-address-family
`, c.asn, max(c.hold/3, 1), c.hold, l.our4, c.expects, l.our6, c.expects, l.our6, l.our6))
	l.run("chown", "-R", "frr:frrvty", etc)
	for _, d := range []string{"zebra", "bgpd"} {
		l.in("/usr/lib/frr/"+d, "-N", l.ns, "-d", "-A", "127.0.0.1", "-f", etc+"/"+d+".conf")
		l.pidFiles = append(l.pidFiles, run+"/"+d+".pid")
	}
	await(l.t, "FRR answers", func() bool { return strings.Contains(frrAsk(l, "show version"), "FRRouting") })
}

func frrAsk(l *lab, cmd string) string { return l.ask("vtysh", "-N", l.ns, "-c", cmd) }

func (frr) count(l *lab) int {
	var out struct{ Routes map[string]json.RawMessage }
	_ = json.Unmarshal([]byte(frrAsk(l, "show bgp ipv4 unicast json")), &out)
	return len(out.Routes)
}

func (frr) route(l *lab, prefix string) (learned, bool) {
	family := "ipv4"
	if strings.Contains(prefix, ":") {
		family = "ipv6"
	}
	var out struct {
		Paths []struct {
			AsPath    struct{ String string }
			Origin    string
			Metric    int
			LocPrf    int `json:"locPrf"`
			LocalPref int `json:"localPref"`
			Community struct{ String string }
			Nexthops  []struct{ IP, Scope string }
		}
	}
	if err := json.Unmarshal([]byte(frrAsk(l, "show bgp "+family+" unicast "+prefix+" json")), &out); err != nil || len(out.Paths) == 0 {
		return learned{}, false
	}
	p := out.Paths[0]
	v := learned{
		asPath: p.AsPath.String, origin: strings.ToLower(p.Origin), med: p.Metric, localPref: max(p.LocPrf, p.LocalPref),
		shutdown: strings.Contains(p.Community.String, "graceful-shutdown") || strings.Contains(p.Community.String, "65535:0"),
	}
	if v.asPath == "Local" {
		v.asPath = ""
	}
	for _, h := range p.Nexthops {
		if h.Scope != "link-local" {
			v.nextHop = h.IP
		}
	}
	return v, true
}

func (frr) hold(l *lab) int {
	out := map[string]struct {
		Hold int `json:"bgpTimerHoldTimeMsecs"`
	}{}
	_ = json.Unmarshal([]byte(frrAsk(l, "show bgp neighbors "+l.our4.String()+" json")), &out)
	return out[l.our4.String()].Hold / 1000
}

func (frr) withdrawals(*lab) int { return -1 }

type bird struct{}

func (bird) start(l *lab, c labConf) {
	session := func(name, channel string, us, router netip.Addr) string {
		return fmt.Sprintf(`protocol bgp %s {
  local %s as %d; neighbor %s as %d; hold time %d; connect retry time 2;
  error wait time 1,2; error forget time 1;
  %s { import all; export none; };
}
`, name, router, c.asn, us, c.expects, c.hold, channel)
	}
	l.write(l.dir+"/bird.conf", "router id 10.255.1.9;\nprotocol device {}\n"+
		session("up4", "ipv4", l.our4, l.router4)+session("up6", "ipv6", l.our6, l.router6))
	l.in("bird", "-c", l.dir+"/bird.conf", "-s", l.dir+"/bird.ctl", "-P", l.dir+"/bird.pid")
	l.pidFiles = append(l.pidFiles, l.dir+"/bird.pid")
	await(l.t, "BIRD answers", func() bool { return strings.Contains(birdAsk(l, "show status"), "up and running") })
}

func birdAsk(l *lab, cmd ...string) string {
	return l.ask(append([]string{"birdc", "-s", l.dir + "/bird.ctl"}, cmd...)...)
}

// number is the first submatch as a number, or otherwise.
func number(pattern, text string, otherwise int) int {
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		return otherwise
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return otherwise
	}
	return n
}

func text(pattern, s string) string {
	if m := regexp.MustCompile(pattern).FindStringSubmatch(s); m != nil {
		return strings.TrimSpace(m[1])
	}
	return ""
}

func (bird) count(l *lab) int {
	return number(`(\d+) of \d+ routes for \d+ networks in table master4`, birdAsk(l, "show", "route", "count", "table", "master4"), 0)
}

func (bird) route(l *lab, prefix string) (learned, bool) {
	out := birdAsk(l, "show", "route", "all", prefix)
	if !strings.Contains(out, "BGP.origin") {
		return learned{}, false
	}
	return learned{
		asPath: text(`BGP.as_path:(.*)`, out), origin: strings.ToLower(text(`BGP.origin:(.*)`, out)),
		med: number(`BGP.med: (\d+)`, out, -1), localPref: number(`BGP.local_pref: (\d+)`, out, -1),
		shutdown: strings.Contains(out, "(65535,0)"), nextHop: text(`BGP.next_hop: (\S+)`, out),
	}, true
}

func (bird) hold(l *lab) int {
	return number(`Hold timer:\s+[\d.]+/(\d+)`, birdAsk(l, "show", "protocols", "all", "up4"), -1)
}

func (bird) withdrawals(l *lab) int {
	return number(`Import withdraws:\s+(\d+)`, birdAsk(l, "show", "protocols", "all", "up4"), -1)
}

type openbgpd struct{}

func (openbgpd) start(l *lab, c labConf) {
	sock := l.dir + "/bgpd.sock"
	l.write(l.dir+"/bgpd.conf", fmt.Sprintf(`AS %d
router-id 10.255.1.9
socket "%s"
fib-update no
holdtime %d
neighbor %s {
  remote-as %d
  announce IPv4 unicast
}
neighbor %s {
  remote-as %d
  announce IPv6 unicast
}
allow from any
`, c.asn, sock, c.hold, l.our4, c.expects, l.our6, c.expects))
	// Its unprivileged parts chroot here; the service would make it.
	if err := os.MkdirAll("/run/openbgpd", 0o755); err != nil {
		l.t.Fatal(err)
	}
	l.spawn("/usr/sbin/bgpd", "-d", "-f", l.dir+"/bgpd.conf")
	await(l.t, "OpenBGPD answers", func() bool { return strings.Contains(obgpAsk(l, "show", "summary"), l.our4.String()) })
}

func obgpAsk(l *lab, cmd ...string) string {
	return l.ask(append([]string{"bgpctl", "-s", l.dir + "/bgpd.sock"}, cmd...)...)
}

func (openbgpd) count(l *lab) int {
	return strings.Count(obgpAsk(l, "show", "rib", "ipv4"), l.our4.String())
}

func (openbgpd) route(l *lab, prefix string) (learned, bool) {
	var out struct {
		Rib []struct {
			ASPath      string `json:"aspath"`
			NextHop     string `json:"exit_nexthop"`
			Origin      string
			Metric      int
			LocalPref   int
			Communities []string
		}
	}
	if err := json.Unmarshal([]byte(obgpAsk(l, "-j", "show", "rib", "detail", prefix)), &out); err != nil || len(out.Rib) == 0 {
		return learned{}, false
	}
	r := out.Rib[0]
	return learned{
		asPath: r.ASPath, origin: strings.ToLower(r.Origin), med: r.Metric, localPref: r.LocalPref,
		shutdown: slices.Contains(r.Communities, "GRACEFUL_SHUTDOWN"), nextHop: r.NextHop,
	}, true
}

// neighbor is what OpenBGPD tells of the IPv4 session.
func (openbgpd) neighbor(l *lab) (hold, withdraws int) {
	var out struct {
		Neighbors []struct {
			Stats struct {
				Update struct{ Received struct{ Withdraws int } }
			}
			Session struct{ Holdtime int }
		}
	}
	if err := json.Unmarshal([]byte(obgpAsk(l, "-j", "show", "neighbor", l.our4.String())), &out); err != nil || len(out.Neighbors) == 0 {
		return -1, -1
	}
	n := out.Neighbors[0]
	return n.Session.Holdtime, n.Stats.Update.Received.Withdraws
}

func (o openbgpd) hold(l *lab) int {
	h, _ := o.neighbor(l)
	return h
}

func (o openbgpd) withdrawals(l *lab) int {
	_, w := o.neighbor(l)
	return w
}
