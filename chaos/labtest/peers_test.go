package labtest

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"dyad/chaos/netlab"
	"dyad/chaos/peers"
)

// What dyad is measured beside dies and comes back as it is meant to: the survivor
// takes over within its own detection and some, and the dead one is a peer again.
func TestPeers(t *testing.T) {
	if os.Geteuid() != 0 || testing.Short() {
		t.Skip("needs root and a minute: it makes network namespaces")
	}
	dir := t.TempDir()
	guard := netlab.BFD{Interval: 50 * time.Millisecond, Multiplier: 3}
	systems := []peers.System{
		peers.Routed(netlab.KindFRR, guard, dir, binary),
		peers.Routed(netlab.KindBIRD, guard, dir, binary),
	}
	if _, err := exec.LookPath("keepalived"); err == nil {
		systems = append(systems, peers.VRRP(50*time.Millisecond, false, dir, binary))
	} else {
		t.Log("keepalived is not installed: left out; make bench ONLY=peers installs it")
	}
	for _, s := range systems {
		t.Run(s.Name(), func(t *testing.T) {
			defer func() {
				if err := s.Down(context.Background()); err != nil {
					t.Error(err)
				}
			}()
			if err := s.Up(t.Context()); err != nil {
				t.Fatal(err)
			}
			strikeTwice(t, s)
		})
	}
}

func strikeTwice(t *testing.T, s peers.System) {
	for range 2 {
		if err := peers.AwaitReady(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		before, err := s.Count(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		d, err := peers.Strike(t.Context(), s, peers.Probes{Flows: 4, Hz: 200}, false)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s died: %.0f ms, %d lost", d.Node, d.OutageMS, d.LostPackets)
		// Generous: the machine may be busy. The hold time would be 90 s.
		if !d.Returned || d.LostPackets == 0 || d.OutageMS < 20 || d.OutageMS > 3000 {
			t.Errorf("away for %.0f ms, returned %v, %d lost", d.OutageMS, d.Returned, d.LostPackets)
		}
		after, err := s.Count(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if after.Verdicts <= before.Verdicts {
			t.Errorf("a death was not counted: %+v, before %+v", after, before)
		}
	}
}
