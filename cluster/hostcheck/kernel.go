package hostcheck

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"dyad/cluster/api"
	"dyad/eventlog"
)

// setting is one of the kernel's for each interface. Of the interface's own value
// and that of all, the higher counts (ip-sysctl of the kernel's documentation).
type setting struct {
	name string // below net.ipv4.conf.IF
	good func(int) bool
	want string // the value to set
	why  string // what happens otherwise
}

var settings = []setting{
	{"arp_ignore", func(v int) bool { return v >= 1 }, "1", "this node answers ARP for service addresses, which are on both nodes"},
	{"arp_announce", func(v int) bool { return v == 2 }, "2", "this node may ask for others in the name of a service address, and draw its traffic"},
	{"rp_filter", func(v int) bool { return v != 1 }, "0", "packets that come in on another interface than their answer leaves by are dropped"},
}

// kernel looks at the settings of the switches' interfaces.
func (c *Checker) kernel(ports []eventlog.Port) []api.Finding {
	var out []api.Finding
	for _, s := range settings {
		out = append(out, c.setting(s, ports))
	}
	return append(out, c.forwarding())
}

func (c *Checker) setting(s setting, ports []eventlog.Port) api.Finding {
	f := api.Finding{Code: strings.ReplaceAll(s.name, "_", "-"), Result: api.ResultOK}
	all, err := c.read("net/ipv4/conf/all/" + s.name)
	if err != nil {
		f.Result, f.Text = api.ResultUnknown, "it can't be read: "+err.Error()
		return f
	}
	var bad []string
	for _, p := range ports {
		// An interface that is gone has a finding of its own.
		own, err := c.read("net/ipv4/conf/" + p.Interface + "/" + s.name)
		if err == nil && !s.good(max(all, own)) {
			bad = append(bad, p.Interface)
		}
	}
	f.Text = fmt.Sprintf("net.ipv4.conf.all.%s is %d", s.name, all)
	switch {
	case len(bad) > 0:
		f.Result, f.Subject = api.ResultWarning, strings.Join(bad, ",")
		f.Text += ": " + s.why
		// A higher value of the interface itself would go on to count.
		f.Fix = fmt.Sprintf("sysctl -w net.ipv4.conf.all.%s=%s", s.name, s.want)
		if s.want == "0" {
			f.Fix += fmt.Sprintf(" net.ipv4.conf.%s.%s=0", strings.Join(bad, "."+s.name+"=0 net.ipv4.conf."), s.name)
		}
	case len(ports) == 0:
		f.Text += "; this node has no port on a switch"
	}
	return f
}

// forwarding is needed only where services run elsewhere than on this host.
func (c *Checker) forwarding() api.Finding {
	f := api.Finding{Code: "ip-forward", Result: api.ResultOK, Text: "on"}
	v, err := c.read("net/ipv4/ip_forward")
	switch {
	case err != nil:
		f.Result, f.Text = api.ResultUnknown, "it can't be read: "+err.Error()
	case v == 0:
		f.Text = "off: only programs on this host can serve; pods and virtual machines need net.ipv4.ip_forward=1"
	}
	return f
}

func (c *Checker) read(name string) (int, error) {
	b, err := os.ReadFile(filepath.Join(c.proc, "sys", name))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}
