package projections

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"dyad/eventlog"
)

func TestAClusterHasOneWitnessAtATime(t *testing.T) {
	fp := strings.Repeat("0a", 32)
	p := NewPlanner(State{})
	set := SetWitness{URL: "https://w:7990", Fingerprint: fp}
	for i, tc := range []struct {
		c      Command
		events int
		code   string
	}{
		{RemoveWitness{}, 0, "witness-unknown"},
		{set, 1, ""},
		{set, 0, ""},
		{SetWitness{URL: "https://w:7990"}, 0, "witness-set"},
		{SetWitness{URL: "file:///mnt/dyad/"}, 0, "witness-set"},
		{RemoveWitness{}, 1, ""},
		{SetWitness{URL: "file:///mnt/dyad/"}, 1, ""},
		{SetWitness{URL: "file:///mnt/dyad/", Fingerprint: fp}, 0, "witness-url"},
		{SetWitness{URL: "https://w:1#token=x"}, 0, "witness-url"},
		{SetWitness{URL: "https://me:pass@w:1"}, 0, "witness-url"},
		{SetWitness{URL: "https://w:1", Fingerprint: "abc"}, 0, "witness-url"},
		{SetWitness{URL: "ftp://w"}, 0, "witness-url"},
		{SetWitness{URL: "https://" + strings.Repeat("w", maxWitnessURL)}, 0, "witness-url"},
		{SetWitness{}, 0, "witness-url"},
	} {
		drafts, err := p.Decide(tc.c)
		code := ""
		var r *Refusal
		if errors.As(err, &r) {
			code = r.Code
			if r.Fix == "" {
				t.Errorf("%d: no fix in %v", i, r)
			}
		}
		if len(drafts) != tc.events || code != tc.code {
			t.Errorf("%d: %d events, %v; want %d, %q", i, len(drafts), err, tc.events, tc.code)
		}
	}
	if _, err := p.Decide(SetWitness{URL: "https://w:1", Replace: true, Epoch: 7}); refusalCode(err) != "epoch-moved" {
		t.Errorf("registered at another epoch: %v", err)
	}
	if got := p.State().Witness; got != (eventlog.Witness{URL: "file:///mnt/dyad/"}) {
		t.Errorf("%+v", got)
	}
	b, err := json.Marshal(p.State())
	var back State
	if err := errors.Join(err, json.Unmarshal(b, &back)); err != nil || back.Witness != p.State().Witness {
		t.Errorf("a checkpoint keeps %+v, %v", back.Witness, err)
	}
}

func refusalCode(err error) string {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

// A pair changes its witness together with its epoch.
func TestAPairsWitnessGoesWithItsEpoch(t *testing.T) {
	s := State{Mode: modePair, Writers: []string{"node-a", "node-b"}, Witness: eventlog.Witness{URL: "file:///w/"}}
	s.Head.Epoch = 4
	p := NewPlanner(s)
	for what, c := range map[string]Command{
		"another witness": RaiseEpoch{To: 5, Witness: eventlog.Witness{URL: "file:///x/"}},
		"another epoch":   RemoveWitness{Epoch: 3},
	} {
		if _, err := p.Decide(c); refusalCode(err) != "epoch-moved" {
			t.Errorf("%s: %v", what, err)
		}
	}
	alone := s
	alone.Mode, alone.Writers = "SOLE", []string{"node-a"}
	if _, err := Decide(alone, RaiseEpoch{To: 5, Witness: s.Witness}); refusalCode(err) != "epoch-moved" {
		t.Errorf("no pair: %v", err)
	}
	if d, err := Decide(alone, RemoveWitness{}); err != nil || len(d) != 1 {
		t.Errorf("removed by a node alone: %d events, %v", len(d), err)
	}
	if d, err := p.Decide(RaiseEpoch{To: 4, Witness: s.Witness}); err != nil || len(d) != 0 {
		t.Errorf("raised already: %v %v", d, err)
	}
	for _, c := range []Command{RaiseEpoch{To: 5, Witness: s.Witness}, RemoveWitness{Epoch: 4}} {
		d, err := Decide(s, c)
		if err != nil || len(d) == 0 {
			t.Fatalf("%v %v", d, err)
		}
		got, err := eventlog.Payload[eventlog.EpochPayload](d[len(d)-1])
		if err != nil || got.Epoch != 5 || got.Mode != modePair || len(got.Writers) != 2 {
			t.Errorf("%s: %+v %v", c.Verb(), got, err)
		}
	}
}
