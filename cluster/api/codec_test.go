package api

import (
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dyad/eventlog"
	"dyad/projections"
)

func ptr[T any](v T) *T { return &v }

var (
	genText = rapid.StringMatching(`[a-zA-Z0-9 "<>&äß/\\-]{0,12}`)
	genAddr = rapid.Custom(func(t *rapid.T) netip.Addr {
		if rapid.Bool().Draw(t, "v4") {
			return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "b")))
		}
		return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "b"))).Unmap()
	})
	genPrefix = rapid.Custom(func(t *rapid.T) netip.Prefix {
		a := genAddr.Draw(t, "addr")
		return netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
	})
	genRange = rapid.Custom(func(t *rapid.T) eventlog.Range { return eventlog.PrefixRange(genPrefix.Draw(t, "p")) })
)

// some draws nil or a list that is not empty: a list that is empty and left out
// comes back as nil, which means the same.
func some[T any](t *rapid.T, g *rapid.Generator[T], label string) []T {
	v := rapid.SliceOfN(g, 0, 3).Draw(t, label)
	if len(v) == 0 {
		return nil
	}
	return v
}

func optional[T any](t *rapid.T, g *rapid.Generator[T], label string) *T {
	if !rapid.Bool().Draw(t, label+"?") {
		return nil
	}
	return ptr(g.Draw(t, label))
}

var genPlain = rapid.Custom(func(t *rapid.T) projections.Command {
	text := func(l string) string { return genText.Draw(t, l) }
	yes := func(l string) bool { return rapid.Bool().Draw(t, l) }
	switch rapid.IntRange(0, 15).Draw(t, "which") {
	case 0:
		return projections.SetPeer{
			Switch: text("switch"), Address: genAddr.Draw(t, "addr"), PeerASN: rapid.Int64().Draw(t, "peer"),
			SelfASN: rapid.Int64().Draw(t, "self"), HoldTime: optional(t, rapid.Int64(), "hold"), New: yes("new"),
		}
	case 1:
		return projections.RemovePeer{Switch: text("switch"), Address: genAddr.Draw(t, "addr")}
	case 2:
		return projections.SetPool{
			Name: text("name"), Ranges: some(t, genRange, "ranges"), Switch: text("switch"), Manual: yes("manual"), New: yes("new"),
		}
	case 3:
		return projections.RemovePool{Name: text("name")}
	case 4:
		return genService(t, text("name"))
	case 5:
		return projections.RemoveService{Name: text("name")}
	case 6:
		return projections.DeclareSwitch{Switch: eventlog.Switch{
			Name: text("name"), ID: text("id"), Compute: yes("c"), Storage: yes("s"), Management: yes("m"), Source: text("source"),
			Ports: some(t, rapid.Custom(func(t *rapid.T) eventlog.Port {
				return eventlog.Port{Node: genText.Draw(t, "n"), Interface: genText.Draw(t, "i"), Addresses: some(t, genPrefix, "p")}
			}), "ports"),
		}}
	case 7:
		return projections.RemoveSwitch{Name: text("name")}
	case 8:
		return projections.JoinNode{Node: eventlog.Node{
			Name: text("name"), Address: genAddr.Draw(t, "addr"), Addresses: some(t, genPrefix, "ps"), API: text("api"), Version: text("v"),
		}}
	case 9:
		return projections.RemoveNode{Name: text("name")}
	case 10:
		return projections.DrainNode{Node: text("node"), On: yes("on")}
	case 11:
		return projections.CreateToken{Fingerprint: text("f"), TTL: time.Duration(rapid.Int64().Draw(t, "ttl")), Purpose: text("purpose")}
	case 12:
		return projections.RevokeToken{ID: text("id")}
	case 14:
		return projections.FailBack{Node: text("node")}
	case 13:
		return projections.MoveServices{Services: some(t, genText, "services"), All: yes("all"), To: text("to")}
	}
	return projections.StartEpoch{
		Epoch: eventlog.Epoch(rapid.Uint64().Draw(t, "epoch")), Mode: text("mode"), Writers: some(t, genText, "w"), Cluster: text("c"),
	}
})

func genService(t *rapid.T, name string) projections.Command {
	return projections.SetService{
		Name: name, Pool: genText.Draw(t, "pool"), Addresses: some(t, genAddr, "addrs"), Family: genText.Draw(t, "family"),
		Placement: eventlog.Placement(genText.Draw(t, "placement")), Prefer: genText.Draw(t, "prefer"), New: rapid.Bool().Draw(t, "new"),
		Check: optional(t, rapid.Custom(func(t *rapid.T) eventlog.Check {
			return eventlog.Check{
				Kind: genText.Draw(t, "k"), Target: genText.Draw(t, "t"), Rise: rapid.Int().Draw(t, "r"), Fall: rapid.Int().Draw(t, "f"),
				Interval: time.Duration(rapid.Int64().Draw(t, "i")), Timeout: time.Duration(rapid.Int64().Draw(t, "to")),
			}
		}), "check"),
	}
}

var genCommand = rapid.Custom(func(t *rapid.T) projections.Command {
	if rapid.IntRange(0, 3).Draw(t, "apply") > 0 {
		return genPlain.Draw(t, "plain")
	}
	return projections.Apply{Commands: some(t, genPlain, "commands")}
})

func TestDecodeIsTheInverseOfEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genCommand.Draw(t, "command")
		verb, args, err := EncodeCommand(want)
		if err != nil {
			t.Fatal(err)
		}
		if verb != want.Verb() {
			t.Fatalf("verb %q for %q", verb, want.Verb())
		}
		got, err := DecodeCommand(verb, args)
		if err != nil {
			t.Fatalf("%s %s: %v", verb, args, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s %s\n got %#v\nwant %#v", verb, args, got, want)
		}
	})
}

func TestDecodeRefusesWhatItDoesNotUnderstand(t *testing.T) {
	big := `{"commands":[` + strings.Repeat(`{"verb":"pool remove","args":{"name":"a"}},`, MaxCommands) +
		`{"verb":"pool remove","args":{"name":"a"}}]}`
	for _, c := range []struct{ verb, args, code, why string }{
		{"pool burn", `{}`, "verb-unknown", "no such command"},
		{"", `{}`, "verb-unknown", "no such command"},
		{"pool remove", `{"name":"a","colour":"red"}`, "args", `no field "colour"`},
		{"pool remove", `{"name":"a"} {}`, "args", "something follows"},
		{"pool remove", `{"name":"a"}]`, "args", "something follows"},
		{"pool remove", ``, "args", "without args"},
		{"pool remove", `null`, "args", "not a JSON object"},
		{"pool remove", `["a"]`, "args", "not a JSON object"},
		{"pool remove", `{"name":7}`, "args", `"name" can't be a number`},
		{"pool remove", `{"name":`, "args", "end in the middle"},
		{"pool set", `{"name":"a","ranges":["192.0.2.9-192.0.2.1"]}`, "args", "runs backwards"},
		{"peer set", `{"address":"nowhere"}`, "args", "nowhere"},
		{"node drain", `{"node":"a","on":false}`, "args", "opposite of the verb"},
		{"node undrain", `{"node":"a","on":true}`, "args", "opposite of the verb"},
		{"apply", `{"commands":[{"verb":"apply","args":{"commands":[]}}]}`, "apply-nested", "another apply"},
		{"apply", `{"commands":[{"verb":"pool remove","args":{"nam":"a"}}]}`, "args", `no field "nam"`},
		{"apply", `{"commands":[{"verb":"pool remove","args":{"name":"a"},"why":1}]}`, "args", `no field "why"`},
		{"apply", `{"command":[]}`, "args", `no field "command"`},
		{"apply", big, "apply-too-large", "4097 commands"},
	} {
		cmd, err := DecodeCommand(c.verb, json.RawMessage(c.args))
		var e *Error
		if !errors.As(err, &e) {
			t.Fatalf("%s %.60s: got %v, %v", c.verb, c.args, cmd, err)
		}
		if e.Class != ClassUsage || e.Code != c.code || !strings.Contains(e.Why, c.why) || e.Fix == "" {
			t.Errorf("%s %.60s: %+v", c.verb, c.args, e)
		}
	}
}

func TestAnErrorInsideAnApplyNamesTheCommand(t *testing.T) {
	_, err := DecodeCommand("apply", json.RawMessage(
		`{"commands":[{"verb":"pool remove","args":{"name":"a"}},{"verb":"pool remove","args":{"x":1}}]}`))
	if e := AsError(err); e == nil || e.What != "apply, command 2: pool remove" {
		t.Fatalf("%v", err)
	}
}

func TestADrainNeedsNoDirectionBesideItsVerb(t *testing.T) {
	for verb, on := range map[string]bool{"node drain": true, "node undrain": false} {
		got, err := DecodeCommand(verb, json.RawMessage(`{"node":"node-a"}`))
		if want := (projections.DrainNode{Node: "node-a", On: on}); err != nil || got != want {
			t.Errorf("%s: %v, %v", verb, got, err)
		}
	}
}

type stranger struct{}

func (stranger) Verb() string { return "pool burn" }

func TestEncodeRefusesWhatCanNotBeSent(t *testing.T) {
	for code, c := range map[string]projections.Command{
		"verb-unknown": stranger{},
		"apply-nested": projections.Apply{Commands: []projections.Command{projections.Apply{}}},
	} {
		if _, _, err := EncodeCommand(c); err == nil || AsError(err).Code != code {
			t.Errorf("%v: %v", c, err)
		}
	}
	if _, _, err := EncodeCommand(nil); err == nil {
		t.Error("nothing was encoded")
	}
}

func TestEveryVerbIsListed(t *testing.T) {
	v := Verbs()
	if len(v) != 21 || !slices.IsSorted(v) || !slices.Contains(v, "apply") {
		t.Fatalf("%q", v)
	}
}
