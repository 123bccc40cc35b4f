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
	if got := p.State().Witness; got != (eventlog.Witness{URL: "file:///mnt/dyad/"}) {
		t.Errorf("%+v", got)
	}
	b, err := json.Marshal(p.State())
	var back State
	if err := errors.Join(err, json.Unmarshal(b, &back)); err != nil || back.Witness != p.State().Witness {
		t.Errorf("a checkpoint keeps %+v, %v", back.Witness, err)
	}
}
