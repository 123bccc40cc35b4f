package words

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"dyad/eventlog"
)

// Every type that this release writes has words of its own, also for an empty
// payload.
func TestEveryTypeHasWords(t *testing.T) {
	for _, typ := range eventlog.Types() {
		if _, ok := renderers[typ]; !ok {
			t.Errorf("%s has no words", typ)
			continue
		}
		d := eventlog.Draft{Type: typ, Data: json.RawMessage(`{}`), Prev: json.RawMessage(`{}`)}
		if got := Event(d); got == "" || strings.Contains(got, "{") {
			t.Errorf("%s: %q", typ, got)
		}
	}
}

func TestWhatIsNotUnderstoodIsShownRaw(t *testing.T) {
	for _, d := range []eventlog.Draft{
		{Type: "weather.changed", Data: json.RawMessage(`{"sun":true}`)},
		{Type: eventlog.TypePeerSet, Data: json.RawMessage(`{"address":7}`)},
	} {
		if got := Event(d); got != string(d.Data) {
			t.Errorf("%s: %q", d.Type, got)
		}
	}
	long := Event(eventlog.Draft{Type: "x.y", Data: json.RawMessage(`"` + strings.Repeat("a", 5000) + `"`)})
	if len(long) > maxRaw+len("…") {
		t.Errorf("%d bytes are shown", len(long))
	}
}

func TestCoalescedFactsSayHowMany(t *testing.T) {
	d, err := eventlog.NewDraft(eventlog.TypeStoreDown, "store", eventlog.StorePayload{Why: "killed"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.Repeats = &eventlog.Repeats{Count: 7, First: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	if got, want := Event(d), "store down: killed (7 times since 2026-01-02T03:04:05Z)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
