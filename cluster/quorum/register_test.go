package quorum

import (
	"errors"
	"strings"
	"testing"
)

func TestTheRuleOfASwap(t *testing.T) {
	pair := Claim{Cluster: "c", Epoch: 4, Mode: Pair, Seq: 10}
	a := Claim{Cluster: "c", Epoch: 5, Mode: Sole, Holder: "node-a", Seq: 12}
	b := Claim{Cluster: "c", Epoch: 5, Mode: Sole, Holder: "node-b", Seq: 12}
	later := a
	later.Seq = 99
	for name, tc := range map[string]struct {
		stands, from, to, want Claim
		err                    error
	}{
		"granted":                  {pair, pair, a, a, nil},
		"seq and hash only inform": {pair, Claim{Cluster: "c", Epoch: 4, Mode: Pair, Seq: 1}, a, a, nil},
		"repeated":                 {a, pair, later, a, nil},
		"the other was first":      {a, pair, b, a, ErrMoved},
		"from the future":          {pair, a, Claim{Cluster: "c", Epoch: 6, Mode: Pair}, pair, ErrMoved},
		"backwards":                {a, a, pair, a, ErrBadClaim},
		"the same epoch":           {a, a, b, a, ErrBadClaim},
		"another cluster":          {pair, pair, Claim{Cluster: "d", Epoch: 5, Mode: Pair}, pair, ErrBadClaim},
	} {
		got, err := tc.stands.Swap(tc.from, tc.to)
		if got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%s: %v, %v; want %v, %v", name, got, err, tc.want, tc.err)
		}
	}
}

func TestWhatIsNoClaim(t *testing.T) {
	good := Claim{Cluster: "0f5a9d7e-8f0e-4f57-93b0-b5c9e3a2a001", Epoch: 1, Mode: Solo, Holder: "node-a", Hash: strings.Repeat("ab", 32)}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, breakIt := range map[string]func(*Claim){
		"no cluster":         func(c *Claim) { c.Cluster = "" },
		"a path":             func(c *Claim) { c.Cluster = "../etc" },
		"hidden":             func(c *Claim) { c.Cluster = ".x" },
		"too long":           func(c *Claim) { c.Cluster = strings.Repeat("x", MaxCluster+1) },
		"epoch 0":            func(c *Claim) { c.Epoch = 0 },
		"mode":               func(c *Claim) { c.Mode = Stale },
		"no mode":            func(c *Claim) { c.Mode = "" },
		"solo without name":  func(c *Claim) { c.Holder = "" },
		"pair with holder":   func(c *Claim) { c.Mode = Pair },
		"a line in the name": func(c *Claim) { c.Holder = "a\nb" },
		"hash":               func(c *Claim) { c.Hash = strings.Repeat("a", MaxHash+1) },
	} {
		c := good
		breakIt(&c)
		if err := c.Check(); !errors.Is(err, ErrBadClaim) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
