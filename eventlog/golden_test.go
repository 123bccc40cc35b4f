package eventlog_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dyad/eventlog"
)

var rewrite = flag.Bool("rewrite", false, "add golden files for event types that have none; never changes one")

var (
	recorded = time.Date(2026, 3, 4, 5, 6, 7, 123456789, time.UTC)
	observed = recorded.Add(-1500 * time.Millisecond)
)

// samples has one payload for every type, with every field set.
func samples() map[eventlog.Type]any {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	node := eventlog.Node{
		Name: "node-a", Address: addr("10.0.0.1"),
		Addresses: []netip.Prefix{prefix("10.0.0.1/24"), prefix("2001:db8::1/64")},
		API:       "10.0.0.1:7946", Version: "v1.2.3",
	}
	peer := eventlog.Peer{Switch: "vSwitch1", Address: addr("10.126.77.125"), PeerASN: 64512, SelfASN: 4200000000, HoldTime: 15}
	sw := eventlog.Switch{
		Name: "vSwitch1", ID: "0f5a9d7e-8f0e-4f57-93b0-b5c9e3a2a001", Compute: true, Management: true, Source: "config",
		Ports: []eventlog.Port{{Node: "node-a", Interface: "eth1", Alias: "Port3", Addresses: []netip.Prefix{prefix("10.126.77.1/24")}}},
	}
	ranged := func(s string) eventlog.Range {
		r, err := eventlog.ParseRange(s)
		if err != nil {
			panic(err)
		}
		return r
	}
	pool := eventlog.Pool{Name: "web", Ranges: []eventlog.Range{ranged("192.0.2.0/28"), ranged("2001:db8::5-2001:db8::9")}, Switch: "vSwitch1", Manual: true}
	svc := eventlog.Service{
		Name: "shop/front", Pool: "web", Addresses: []netip.Addr{addr("192.0.2.1"), addr("2001:db8::5")},
		Placement: eventlog.ActiveStandby, Preferred: "node-b", Pinned: true,
		Check: &eventlog.Check{Kind: "tcp", Target: "127.0.0.1:80", Interval: time.Second, Timeout: 200 * time.Millisecond, Rise: 2, Fall: 3},
	}
	return map[eventlog.Type]any{
		eventlog.TypeEpochStarted:   eventlog.EpochPayload{Epoch: 3, Mode: "PAIR", Writers: []string{"node-a", "node-b"}, Cluster: "c-1"},
		eventlog.TypeNodeJoined:     node,
		eventlog.TypeNodeRemoved:    eventlog.Removed{Name: "node-a"},
		eventlog.TypeNodeDrained:    eventlog.NodeRef{Name: "node-a"},
		eventlog.TypeNodeUndrained:  eventlog.NodeRef{Name: "node-a"},
		eventlog.TypeNodeFailback:   eventlog.NodeRef{Name: "node-a"},
		eventlog.TypeSwitchDeclared: sw,
		eventlog.TypeSwitchRemoved:  eventlog.Removed{Name: "vSwitch1"},
		eventlog.TypePeerSet:        peer,
		eventlog.TypePeerRemoved:    eventlog.Removed{Switch: "vSwitch1", Address: peer.Address},
		eventlog.TypePoolSet:        pool,
		eventlog.TypePoolRemoved:    eventlog.Removed{Name: "web"},
		eventlog.TypeServiceSet:     svc,
		eventlog.TypeServiceRemoved: eventlog.Removed{Name: "shop/front"},
		eventlog.TypeVoterJoined:    eventlog.Node{Name: "voter-c", Address: addr("10.0.0.3"), API: "10.0.0.3:7944", Version: "v1.2.3"},
		eventlog.TypeVoterRemoved:   eventlog.Removed{Name: "voter-c"},
		eventlog.TypeWitnessSet:     eventlog.Witness{URL: "https://witness.example:7990", Fingerprint: strings.Repeat("0a", 32)},
		eventlog.TypeWitnessRemoved: eventlog.Removed{Name: "https://witness.example:7990"},
		eventlog.TypeLogTrimmed: eventlog.TrimPayload{
			UpTo: eventlog.Head{Seq: 40, Hash: strings.Repeat("cd", 32), Epoch: 2}, Sealed: map[string]eventlog.Seq{"node-a": 41, "node-b": 40},
		},

		eventlog.TypeAgentStarted:       eventlog.AgentPayload{Version: "v1.2.3", PID: 4711, Planned: true},
		eventlog.TypeAgentStopped:       eventlog.AgentPayload{Version: "v1.2.3", PID: 4711, Planned: true},
		eventlog.TypeCommandRejected:    eventlog.RejectedPayload{Command: "SetPeer", Code: "asn", What: "peer ASN 0", Why: "1–65534 or 131072–4294967294"},
		eventlog.TypeSessionUp:          eventlog.SessionPayload{Peer: peer.Address, HoldTime: 9, Why: "open"},
		eventlog.TypeSessionDown:        eventlog.SessionPayload{Peer: peer.Address, HoldTime: 9, Why: "hold timer <expired> & gone"},
		eventlog.TypeNodeVerdict:        eventlog.VerdictPayload{Node: "node-b", Verdict: "dead-data", Was: "alive", Sensor: "heartbeat", Silence: 27 * time.Millisecond},
		eventlog.TypeStanceChanged:      eventlog.StancePayload{Stance: "survivor", Was: "normal", Code: "peer-dead"},
		eventlog.TypeRoutesAnnounced:    eventlog.RoutesPayload{Announced: 3, Withdrawn: 1, Changed: 2, Rung: "P0", Took: 180 * time.Microsecond},
		eventlog.TypeServiceHealth:      eventlog.HealthPayload{Service: "shop/front", Healthy: true, Why: "tcp ok"},
		eventlog.TypeStoreDown:          eventlog.StorePayload{Why: "signal: killed", Restarts: 2},
		eventlog.TypeStoreUp:            eventlog.StorePayload{Why: "ready", Restarts: 2},
		eventlog.TypeNodeFenced:         eventlog.FencePayload{Node: "node-b", Off: true, Why: "the BMC does not answer"},
		eventlog.TypeLogMode:            eventlog.ModePayload{Mode: "SUSPENDED", Was: "PAIR", Epoch: 3, Writable: true, Why: "node-b is silent"},
		eventlog.TypeNextHopTaken:       eventlog.NextHopPayload{Node: "node-b", Address: addr("10.126.77.2"), Interface: "eth1"},
		eventlog.TypeNextHopGiven:       eventlog.NextHopPayload{Node: "node-b", Address: addr("10.126.77.2"), Interface: "eth1"},
		eventlog.TypeAddressTaken:       eventlog.AddressPayload{Addresses: svc.Addresses, Switch: "vSwitch1", Interface: "eth1", Why: "nobody answers for it"},
		eventlog.TypeAddressGiven:       eventlog.AddressPayload{Addresses: svc.Addresses, Switch: "vSwitch1", Interface: "eth1", MAC: "02:00:00:00:00:0b", Why: "claimed"},
		eventlog.TypeAddressConflict:    eventlog.AddressPayload{Addresses: svc.Addresses, Switch: "vSwitch1", Interface: "eth1", MAC: "02:00:00:00:00:ee", Why: "claimed"},
		eventlog.TypeAddressCleared:     eventlog.AddressPayload{Addresses: svc.Addresses, Switch: "vSwitch1", Interface: "eth1", MAC: "02:00:00:00:00:ee", Why: "gone"},
		eventlog.TypePulseDown:          eventlog.PulsePayload{Why: "signal: killed", Restarts: 2},
		eventlog.TypePulseUp:            eventlog.PulsePayload{Why: "ready", Restarts: 2},
		eventlog.TypeDrillStarted:       eventlog.DrillPayload{Drill: "kill-node", Node: "node-b", Result: map[string]any{"planned": true}},
		eventlog.TypeDrillEnded:         eventlog.DrillPayload{Drill: "kill-node", Node: "node-b", Result: map[string]any{"outage_ms": 31.5}},
		eventlog.TypeRouterProbeStarted: eventlog.RouterProbePayload{Peer: peer.Address, Prefix: prefix("192.0.2.254/32")},
		eventlog.TypeRouterProbeEnded: eventlog.RouterProbePayload{
			Peer: peer.Address, Prefix: prefix("192.0.2.254/32"), Result: "warning", Why: "it ignores the MED",
			Steps: []eventlog.ProbedStep{{Step: "origin", Mover: "node-b", Moved: true, Took: 62 * time.Millisecond}},
		},
		eventlog.TypeLogOrphaned: map[string]any{"from": 7, "events": []string{"…"}},

		eventlog.TypeTokenCreated: eventlog.TokenPayload{
			ID: "0a1b2c3d4e5f", Fingerprint: strings.Repeat("0a", 32), Purpose: "join", Created: recorded, Expires: recorded.Add(15 * time.Minute),
		},
		eventlog.TypeTokenUsed:    eventlog.TokenUse{ID: "0a1b2c3d4e5f", Node: "node-b", Key: strings.Repeat("0b", 32)},
		eventlog.TypeTokenRevoked: eventlog.TokenRef{ID: "0a1b2c3d4e5f"},
		eventlog.TypeAccessDenied: eventlog.DeniedPayload{What: "peer set", Need: "operator", Have: "viewer"},
		eventlog.TypeCertificateIssued: eventlog.CertificatePayload{
			Name: "alice", Kind: "user", Role: "operator", Fingerprint: strings.Repeat("0c", 32), Expires: recorded.Add(24 * time.Hour),
		},
		eventlog.TypeCertificateRevoked: eventlog.RevokedPayload{
			Name: "alice", Kind: "user", Fingerprint: strings.Repeat("0c", 32), At: recorded, Before: recorded.Add(time.Minute), Until: recorded.Add(24 * time.Hour),
		},
		eventlog.TypeGossipKeyRotated: eventlog.KeyRef{Fingerprint: strings.Repeat("0d", 32)},
	}
}

// sample is a full event of type t, the way every field can stand in the log.
func sample(t testing.TB, typ eventlog.Type) eventlog.Envelope {
	t.Helper()
	d, err := eventlog.NewDraft(typ, "sample/"+string(typ), samples()[typ], map[string]string{"before": "β"})
	if err != nil {
		t.Fatal(err)
	}
	d.ID = "0195f3a0-0000-7000-8000-000000000001"
	d.Actor = eventlog.Actor{Name: "root", Auth: "unix"}
	d.Source = eventlog.Source{Node: "node-a", Address: netip.MustParseAddr("10.0.0.1"), Interface: "cli", Client: "dyad v1.2.3"}
	d.Reason, d.Correlation, d.Causation, d.Key = "planned work", "corr-1", "cause-1", "key-1"
	d.Outcome, d.Evidence = "refused", json.RawMessage(`{"missed":3}`)
	if typ.Class() == eventlog.Fact {
		d.ObservedAt = observed
		d.Origin = &eventlog.Origin{Node: "node-a", Boot: "boot-1", N: 9}
		d.Repeats = &eventlog.Repeats{Count: 4, First: observed.Add(-time.Minute), Last: observed}
	}
	e, err := eventlog.Seal(eventlog.Head{Seq: 41, Hash: strings.Repeat("ab", 32), Epoch: 2}, 2, 5, recorded, d)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func goldenPath(typ eventlog.Type) string {
	return filepath.Join("testdata", "golden", string(typ)+".event")
}

// Every released encoding decodes for ever, and comes back byte for byte.
func TestGolden(t *testing.T) {
	for _, typ := range eventlog.Types() {
		t.Run(string(typ), func(t *testing.T) {
			want, err := eventlog.Encode(sample(t, typ))
			if err != nil {
				t.Fatal(err)
			}
			file, err := os.ReadFile(goldenPath(typ))
			if errors.Is(err, fs.ErrNotExist) && *rewrite {
				file = append(bytes.Clone(want), '\n')
				err = os.WriteFile(goldenPath(typ), file, 0o644)
			}
			if err != nil {
				t.Fatalf("%v (a new type? go test ./eventlog -run TestGolden -rewrite)", err)
			}
			stored := bytes.TrimSuffix(file, []byte("\n"))
			e, err := eventlog.Decode(stored)
			if err != nil {
				t.Fatal(err)
			}
			if e.Type != typ {
				t.Errorf("type %q in the file of %q", e.Type, typ)
			}
			again, err := eventlog.Encode(e)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again, stored) {
				t.Errorf("re-encoded:\n%s\nstored:\n%s", again, stored)
			}
			// The fields as this release knows them give the same body, so no
			// wire name was renamed and no field lost.
			body, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			if got := stored[65:]; !bytes.Equal(body, got) {
				t.Errorf("this release writes:\n%s\nstored:\n%s", body, got)
			}
			if !bytes.Equal(want, stored) {
				t.Errorf("the sample now seals to:\n%s\nstored:\n%s", want, stored)
			}
		})
	}
}

func TestGoldenHasNoStrangers(t *testing.T) {
	files, err := filepath.Glob("testdata/golden/*.event")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(eventlog.Types()) {
		t.Errorf("%d golden files for %d types: a released type was renamed or removed", len(files), len(eventlog.Types()))
	}
}

// Whoever flips one bit in the stored form is found out.
func TestTamper(t *testing.T) {
	stored, err := eventlog.Encode(sample(t, eventlog.TypePeerSet))
	if err != nil {
		t.Fatal(err)
	}
	for i := range stored {
		for bit := range 8 {
			bad := bytes.Clone(stored)
			bad[i] ^= 1 << bit
			if _, err := eventlog.Decode(bad); !errors.Is(err, eventlog.ErrCorrupt) {
				t.Fatalf("byte %d bit %d flipped: got %v, want ErrCorrupt", i, bit, err)
			}
		}
	}
	for n := range stored {
		if _, err := eventlog.Decode(stored[:n]); !errors.Is(err, eventlog.ErrCorrupt) {
			t.Fatalf("cut at %d: got %v, want ErrCorrupt", n, err)
		}
	}
}
