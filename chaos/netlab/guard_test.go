package netlab

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func guardedConfig(bfd *BFD, announce ...netip.Prefix) RouterConfig {
	return RouterConfig{
		NS: "x-node-a", Dir: "/tmp/x", ASN: 64513, RouterID: netip.MustParseAddr("10.126.77.11"), HoldTime: 90,
		Peers: []RouterPeer{{netip.MustParseAddr("10.126.77.125"), 64512}},
		BFD:   bfd, Announce: announce, MED: 50,
	}
}

// What a router is told with and without BFD, and with a prefix of its own.
func TestGuardedConfig(t *testing.T) {
	bfd := &BFD{Interval: 10 * time.Millisecond, Multiplier: 3}
	service := netip.MustParsePrefix("198.51.100.1/32")
	cases := []struct {
		name, text string
		want, not  []string
	}{
		{
			"frr", (&frr{guardedConfig(bfd, service)}).config(),
			[]string{
				"transmit-interval 10\n", "receive-interval 10\n", "detect-multiplier 3\n", "neighbor 10.126.77.125 bfd profile lab\n",
				"network 198.51.100.1/32\n", " set metric 50\n", "neighbor 10.126.77.125 route-map out out\n",
			},
			nil,
		},
		{"frr, plain", (&frr{guardedConfig(nil)}).config(), []string{"neighbor 10.126.77.125 activate\n"}, []string{"bfd", "network", "route-map"}},
		{
			"bird", (&bird{guardedConfig(bfd, service)}).config(),
			[]string{"interval 10 ms; multiplier 3;", "bfd on;", "route 198.51.100.1/32 blackhole;", "bgp_med = 50;"},
			nil,
		},
		{"bird, plain", (&bird{guardedConfig(nil)}).config(), []string{"export none;"}, []string{"bfd", "blackhole", "bgp_med"}},
	}
	for _, c := range cases {
		for _, w := range c.want {
			if !strings.Contains(c.text, w) {
				t.Errorf("%s: no %q in\n%s", c.name, w, c.text)
			}
		}
		for _, w := range c.not {
			if strings.Contains(c.text, w) {
				t.Errorf("%s: %q in\n%s", c.name, w, c.text)
			}
		}
	}
}

func TestGuardedNeedsBFD(t *testing.T) {
	if _, err := NewGuarded(KindFRR, guardedConfig(nil)); err == nil {
		t.Error("FRR without BFD counts as guarded")
	}
	if _, err := NewRouter(KindGoBGP, guardedConfig(&BFD{})); err == nil {
		t.Error("the embedded router takes BFD")
	}
}

func TestBirdBFD(t *testing.T) {
	got := birdBFD(`BIRD 2.0.12 ready.
bfd1:
IP address                Interface  State      Since         Interval  Timeout
10.126.77.11              br-nodes   Up         00:36:01.123    0.010    0.030
10.126.77.12              br-nodes   Down       00:36:02.456    1.000    0.000
`)
	a, b := netip.MustParseAddr("10.126.77.11"), netip.MustParseAddr("10.126.77.12")
	if len(got) != 2 || got[a] != "Up" || got[b] != "Down" {
		t.Errorf("read %v", got)
	}
}
