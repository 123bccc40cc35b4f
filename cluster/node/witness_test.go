package node

import (
	"errors"
	"strings"
	"testing"

	"dyad/cluster/quorum"
	"dyad/cluster/witness/registertest"
	"dyad/eventlog"
)

func TestTheNodeReachesAWitness(t *testing.T) {
	w := &witnesses{release: "1.0"}
	fp := strings.Repeat("0A", 32)
	got, err := w.Parse("https://w.example:7990/#" + fp)
	if want := (eventlog.Witness{URL: "https://w.example:7990", Fingerprint: strings.ToLower(fp)}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := w.Enrol(t.Context(), got, "", registertest.Pair("c", 1)); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a node without a certificate: %v", err)
	}
	at, err := w.Parse("file://" + t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if s, err := w.Check(t.Context(), at, "c"); !errors.Is(err, quorum.ErrUnknown) || s.Kind != "file" || s.Claim != nil {
		t.Errorf("%+v, %v", s, err)
	}
	pair := registertest.Pair("c", 1)
	if c, err := w.Enrol(t.Context(), at, "", pair); err != nil || c != pair {
		t.Errorf("%v, %v", c, err)
	}
	if s, err := w.Check(t.Context(), at, "c"); err != nil || s.Claim == nil || *s.Claim != pair || s.Latency <= 0 {
		t.Errorf("%+v, %v", s, err)
	}
}
