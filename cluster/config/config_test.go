package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dyad.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const good = `
node: node-a
address: 192.168.0.1
switches:
- {name: vSwitch1, interface: eth1, alias: Port3, compute: true}
failover: {failbackDelay: 3s}
`

func TestLoad(t *testing.T) {
	c, err := Load(write(t, good), func(k string) string {
		return map[string]string{"DYAD_SOCKET": "/tmp/x.sock"}[k]
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Socket != "/tmp/x.sock" || c.RouterID != c.Address || c.Failover.FailbackDelay.Std() != 3*time.Second ||
		c.Ports.API != 7944 || !c.Switches[0].Compute {
		t.Errorf("%+v", c)
	}
}

func TestBadConfigurations(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"unknown field":  {good + "colour: red\n", `unknown field "colour"`},
		"duplicate key":  {good + "node: other\n", "already set"},
		"malformed":      {"node: [", "yaml"},
		"no address":     {"node: a\n", "address:"},
		"port range":     {good + "ports: {api: 70000}\n", "ports.api"},
		"port twice":     {good + "ports: {api: 7946}\n", "ports.gossip"},
		"relative dir":   {good + "dataDir: data\n", "absolute"},
		"interval":       {strings.Replace(good, "failbackDelay: 3s", "probeInterval: 1ms", 1), "probeInterval"},
		"not a duration": {strings.Replace(good, "3s", "soon", 1), "soon"},
		"IPv6 alone":     {"node: a\naddress: 2001:db8::1\n", "routerID"},
		"authority":      {good + "takeover: {authority: luck}\n", "takeover.authority"},
		"hold-down":      {good + "takeover: {holdDown: 100ms}\n", "takeover.holdDown"},
		"tor hold-down":  {good + "takeover: {authority: tor, holdDown: 2s}\n", "takeover.holdDown"},
		"no fence":       {good + "takeover: {authority: fence}\n", "takeover.fence.command"},
		"fence path":     {good + "takeover: {fence: {command: [fence-bmc]}}\n", "absolute"},
		"fence timeout":  {good + "takeover: {fence: {command: [/bin/true], timeout: 10m}}\n", "takeover.fence.timeout"},
		"role":           {good + "access: {groups: {noc: boss}}\n", "access.groups: noc"},
		"level":          {good + "log: {level: loud}\n", "log.level"},
		"switch twice":   {good + "", ""},
		"hot events":     {good + "retention: {hotEvents: 100}\n", "retention.hotEvents"},
		"hot age":        {good + "retention: {hotAge: 1m}\n", "retention.hotAge"},
		"quota":          {good + "retention: {quotaMiB: 1}\n", "retention.quotaMiB"},
		"too large":      {good + "# " + strings.Repeat("x", MaxFile), "larger"},
	} {
		if tc.want == "" {
			tc.text, tc.want = strings.Replace(good, "failover:", "- {name: vSwitch1, interface: eth1}\nfailover:", 1), "twice"
		}
		_, err := Load(write(t, tc.text), func(string) string { return "" })
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", name, err, tc.want)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none"), func(string) string { return "" }); err == nil ||
		!strings.Contains(err.Error(), "try:") {
		t.Errorf("an absent file: %v", err)
	}
}
