package demo

import (
	"strings"
	"testing"

	"dyad/chaos"
)

func TestQuote(t *testing.T) {
	got := quote([]string{"drill", "run", "--reason", "show what it costs", "it's"})
	if want := `drill run --reason 'show what it costs' 'it'\''s'`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestSummary(t *testing.T) {
	r := chaos.Report{
		Node: "node-b", ProbeHz: 1000, Addresses: make([]chaos.AddressReport, 2),
		Figures: chaos.Figures{OutageMS: 297.6, DetectMS: 236, DecideMS: 0.1, AnnounceMS: 0.4, ConvergeMS: 61, LostPackets: 298},
	}
	got := Summary(r, "build/demo/report.json")
	for _, want := range []string{"worst outage 298 ms of 2 addresses", "298 probes lost", "0 lost at failback", "build/demo/report.json"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
	if strings.Contains(got, "\n") {
		t.Errorf("more than one line: %q", got)
	}
}
