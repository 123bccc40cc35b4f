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

func external(endpoints string) string {
	return "store: {endpoints: ['" + strings.ReplaceAll(endpoints, ",", "', '") + "'], ca: /pki/ca, cert: /pki/cert, key: /pki/key}\n"
}

func TestExternalStore(t *testing.T) {
	for given, want := range map[string]string{"": "dyad/", ", prefix: site-1": "site-1/", ", prefix: a/b/": "a/b/"} {
		c, err := Load(write(t, good+strings.Replace(external("https://[2001:db8::1]:2379,https://etcd-2:2379"), "}", given+"}", 1)), func(string) string { return "" })
		if err != nil || !c.Store.External() || c.Store.Prefix != want {
			t.Errorf("%q: %+v %v", given, c.Store, err)
		}
	}
	if c, err := Load(write(t, good), func(string) string { return "" }); err != nil || c.Store.External() {
		t.Errorf("without endpoints: %+v %v", c.Store, err)
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
		"no endpoint":    {good + "store: {prefix: x/}\n", "store.endpoints"},
		"plain endpoint": {good + external("http://10.0.0.9:2379"), `"http://10.0.0.9:2379" is not https://HOST:PORT`},
		"endpoint path":  {good + external("https://10.0.0.9:2379/v3"), "is not https://HOST:PORT"},
		"endpoint port":  {good + external("https://10.0.0.9"), "is not https://HOST:PORT"},
		"endpoint user":  {good + external("https://me:word@10.0.0.9:2379"), "is not https://HOST:PORT"},
		"endpoint twice": {good + external("https://a:1,https://a:1"), "named twice"},
		"endpoints":      {good + external(strings.Repeat("https://a:1,", maxEndpoints)+"https://b:1"), "more than 16"},
		"no store key":   {good + "store: {endpoints: ['https://a:1'], ca: /ca, cert: /cert}\n", "store.key"},
		"store prefix":   {good + strings.Replace(external("https://a:1"), "}", ", prefix: a b}", 1), "store.prefix"},
		"store field":    {good + "store: {endpoint: x}\n", `unknown field "endpoint"`},
		"external tor":   {good + external("https://a:1") + "takeover: {authority: tor}\n", "nobody takes it over"},
		"external fence": {good + external("https://a:1") + "takeover: {fence: {command: [/bin/true]}}\n", "nobody is fenced"},
		"beacon":         {good + "beacon: {prefix: 192.0.2.0/24}\n", "beacon.prefix"},
		"beacon address": {good + "beacon: {prefix: 127.0.0.1/32}\n", "beacon.prefix"},
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
