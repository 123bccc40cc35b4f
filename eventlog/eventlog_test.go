package eventlog_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dyad/eventlog"
)

// withHash puts the right hash before a body, as Encode does.
func withHash(body string) []byte {
	sum := sha256.Sum256([]byte(body))
	return []byte(hex.EncodeToString(sum[:]) + " " + body)
}

func TestDecodeRefuses(t *testing.T) {
	body := `{"seq":1}`
	for name, b := range map[string][]byte{
		"nothing":        nil,
		"no body":        withHash(""),
		"null":           withHash("null"),
		"a list":         withHash("[]"),
		"no sequence":    withHash("{}"),
		"two bodies":     withHash(body + body),
		"upper-case":     []byte(strings.ToUpper(string(withHash(body)[:64])) + " " + body),
		"another hash":   append(withHash(`{"seq":2}`)[:65], body...),
		"tab after hash": bytes.Replace(withHash(body), []byte(" "), []byte("\t"), 1),
	} {
		if _, err := eventlog.Decode(b); !errors.Is(err, eventlog.ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", name, err)
		}
	}
	if _, err := eventlog.Encode(eventlog.Envelope{Seq: 1}); err == nil {
		t.Error("an envelope that was never sealed was encoded")
	}
}

// A newer release's type and field survive a reader that knows neither.
func TestUnknownIsKept(t *testing.T) {
	stored := withHash(`{"seq":7,"epoch":1,"stream_rev":1,"time":"2031-01-01T00:00:00Z","id":"x","type":"pump.primed","v":9,` +
		`"stream":"pump/1","actor":{"name":"a","auth":"key"},"source":{"node":"n"},"data":{"litres": 3},"novel":{"a":[1,2]},"prev_hash":""}`)
	e, err := eventlog.Decode(stored)
	if err != nil {
		t.Fatal(err)
	}
	if e.Type.Known() || e.Type.Class() != eventlog.Fact {
		t.Errorf("%s: known %v, class %s; want unknown and a fact", e.Type, e.Type.Known(), e.Type.Class())
	}
	if string(e.Data) != `{"litres": 3}` {
		t.Errorf("data %s, want it raw", e.Data)
	}
	again, err := eventlog.Encode(e)
	if err != nil || !bytes.Equal(again, stored) {
		t.Errorf("re-encoded %s (%v), want the stored bytes", again, err)
	}
	again[70] ^= 1
	if b, _ := eventlog.Encode(e); !bytes.Equal(b, stored) {
		t.Error("Encode handed out its own bytes")
	}
}

func TestVerify(t *testing.T) {
	var head eventlog.Head
	var run []eventlog.Envelope
	for i := range 4 {
		e, err := eventlog.Seal(head, 1, uint64(i+1), recorded, eventlog.Draft{Type: "t", Stream: "s"})
		if err != nil {
			t.Fatal(err)
		}
		run, head = append(run, e), eventlog.HeadOf(e)
	}
	got, err := eventlog.VerifyRun(eventlog.Head{}, run)
	if err != nil || got != head {
		t.Fatalf("VerifyRun = %v, %v; want %v", got, err, head)
	}
	at := eventlog.HeadOf(run[1])
	for name, c := range map[string]struct {
		head eventlog.Head
		next eventlog.Envelope
		want error
	}{
		"gap":       {at, run[3], eventlog.ErrGap},
		"repeated":  {at, run[1], eventlog.ErrGap},
		"elsewhere": {eventlog.Head{Seq: 2, Hash: run[0].Hash, Epoch: 1}, run[2], eventlog.ErrCorrupt},
		"old epoch": {eventlog.Head{Seq: 2, Hash: run[1].Hash, Epoch: 2}, run[2], eventlog.ErrCorrupt},
		"good":      {at, run[2], nil},
	} {
		if err := eventlog.Verify(c.head, c.next); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestEpochAfter(t *testing.T) {
	start := func(n eventlog.Epoch) eventlog.Draft {
		d, err := eventlog.NewDraft(eventlog.TypeEpochStarted, "epoch", eventlog.EpochPayload{Epoch: n}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, c := range []struct {
		at, to, want eventlog.Epoch
		err          error
	}{
		{0, 1, 1, nil},
		{0, 0, 0, nil},
		{3, 4, 4, nil},
		{3, 9, 9, nil},
		{3, 3, 3, eventlog.ErrEpoch},
		{3, 1, 3, eventlog.ErrEpoch},
	} {
		got, err := eventlog.EpochAfter(c.at, start(c.to))
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("EpochAfter(%d, %d) = %d, %v; want %d, %v", c.at, c.to, got, err, c.want, c.err)
		}
	}
	if _, err := eventlog.EpochAfter(1, eventlog.Draft{Type: eventlog.TypeEpochStarted, Data: json.RawMessage(`"x"`)}); !errors.Is(err, eventlog.ErrCorrupt) {
		t.Errorf("unreadable payload: got %v, want ErrCorrupt", err)
	}
	if got, err := eventlog.EpochAfter(5, eventlog.Draft{Type: eventlog.TypePeerSet}); got != 5 || err != nil {
		t.Errorf("another type: %d, %v; want 5", got, err)
	}
}

// The order of refusals: a duplicate is told even if everything moved on.
func TestSealBatch(t *testing.T) {
	at := eventlog.Base{
		Head:    eventlog.Head{Seq: 9, Hash: "h9", Epoch: 2},
		Streams: map[string]uint64{"a": 4},
		Keys:    map[string]eventlog.Seq{"k": 7},
	}
	eight, nine := eventlog.Seq(8), eventlog.Seq(9)
	a := eventlog.Draft{Type: "t", Stream: "a"}
	for name, c := range map[string]struct {
		b    eventlog.Batch
		want error
	}{
		"duplicate first": {eventlog.Batch{Drafts: []eventlog.Draft{a, {Type: "t", Stream: "b", Key: "k"}}, ExpectedHead: &eight, Epoch: 1}, eventlog.ErrDuplicate},
		"then epoch":      {eventlog.Batch{Drafts: []eventlog.Draft{a}, ExpectedHead: &eight, Epoch: 1}, eventlog.ErrEpoch},
		"then head":       {eventlog.Batch{Drafts: []eventlog.Draft{a}, ExpectedHead: &eight, Epoch: 2}, eventlog.ErrConflict},
		"then stream":     {eventlog.Batch{Drafts: []eventlog.Draft{a}, ExpectedStreams: map[string]uint64{"a": 3}, Epoch: 2}, eventlog.ErrConflict},
		"none expected":   {eventlog.Batch{Drafts: []eventlog.Draft{a}, ExpectedStreams: map[string]uint64{"b": 1}, Epoch: 2}, eventlog.ErrConflict},
		"too many":        {eventlog.Batch{Drafts: make([]eventlog.Draft, eventlog.MaxBatch+1), Epoch: 2}, eventlog.ErrTooLarge},
		"broken JSON":     {eventlog.Batch{Drafts: []eventlog.Draft{{Type: "t", Data: json.RawMessage(`{`)}}, Epoch: 2}, eventlog.ErrCorrupt},
		"good":            {eventlog.Batch{Drafts: []eventlog.Draft{a}, ExpectedHead: &nine, ExpectedStreams: map[string]uint64{"a": 4, "b": 0}, Epoch: 2}, nil},
	} {
		if got, err := eventlog.SealBatch(at, recorded, c.b); !errors.Is(err, c.want) || (err != nil && got != nil) {
			t.Errorf("%s: got %d events, %v; want %v", name, len(got), err, c.want)
		}
	}
	start, err := eventlog.NewDraft(eventlog.TypeEpochStarted, "epoch", eventlog.EpochPayload{Epoch: 3}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := eventlog.SealBatch(at, recorded, eventlog.Batch{Drafts: []eventlog.Draft{a, start, a}, Epoch: 2})
	if err != nil {
		t.Fatal(err)
	}
	var epochs []eventlog.Epoch
	var revs []uint64
	for _, e := range got {
		epochs, revs = append(epochs, e.Epoch), append(revs, e.StreamRev)
	}
	if !slices.Equal(epochs, []eventlog.Epoch{2, 3, 3}) || !slices.Equal(revs, []uint64{5, 1, 6}) {
		t.Errorf("epochs %v, stream revisions %v; want [2 3 3] and [5 1 6]", epochs, revs)
	}
}

func TestTypes(t *testing.T) {
	seen := map[eventlog.Type]bool{}
	for _, typ := range eventlog.Types() {
		if seen[typ] {
			t.Errorf("%s is listed twice", typ)
		}
		seen[typ] = true
		if !typ.Known() {
			t.Errorf("%s is listed and not known", typ)
		}
		if samples()[typ] == nil {
			t.Errorf("%s has no sample", typ)
		}
	}
	if c := eventlog.TypePeerSet.Class(); c != eventlog.Intent {
		t.Errorf("peer.set is a %s", c)
	}
}

// Payloads come back as the values they were made from.
func TestPayloadRoundTrip(t *testing.T) {
	for typ, v := range samples() {
		d, err := eventlog.NewDraft(typ, "s", v, nil)
		if err != nil {
			t.Fatal(err)
		}
		back := reflect.New(reflect.TypeOf(v))
		if err := json.Unmarshal(d.Data, back.Interface()); err != nil {
			t.Errorf("%s: %v", typ, err)
			continue
		}
		// JSON decides equality: a map's numbers change their Go type.
		again, err := json.Marshal(back.Elem().Interface())
		if err != nil || !bytes.Equal(again, d.Data) {
			t.Errorf("%s: %s became %s (%v)", typ, d.Data, again, err)
		}
	}
	d, err := eventlog.NewDraft(eventlog.TypePeerSet, "s", samples()[eventlog.TypePeerSet], nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := eventlog.Payload[eventlog.Peer](d)
	if err != nil || p != samples()[eventlog.TypePeerSet] {
		t.Errorf("Payload = %+v, %v", p, err)
	}
	if _, err := eventlog.Payload[eventlog.Peer](eventlog.Draft{}); !errors.Is(err, eventlog.ErrCorrupt) {
		t.Errorf("no data: got %v, want ErrCorrupt", err)
	}
	if _, err := eventlog.NewDraft("t", "s", make(chan int), nil); err == nil {
		t.Error("a channel was encoded as data")
	}
	if _, err := eventlog.NewDraft("t", "s", 1, make(chan int)); err == nil {
		t.Error("a channel was encoded as what was before")
	}
}

func TestPublicCarriesTheHash(t *testing.T) {
	e := sample(t, eventlog.TypeNodeVerdict)
	b, err := json.Marshal(eventlog.Public(e))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf(`"hash":%q`, e.Hash); !strings.Contains(string(b), want) {
		t.Errorf("%s lacks %s", b, want)
	}
	var back eventlog.Public
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if back.Hash != e.Hash || back.Seq != e.Seq || back.Type != e.Type || !back.Time.Equal(e.Time) {
		t.Errorf("came back as %+v", back)
	}
	if err := json.Unmarshal([]byte(`{"seq":"x"}`), &back); err == nil {
		t.Error("a sequence of letters was read")
	}
}

func TestObserved(t *testing.T) {
	if e := sample(t, eventlog.TypeNodeVerdict); !e.Observed().Equal(observed) {
		t.Errorf("a fact was observed %v, want %v", e.Observed(), observed)
	}
	if e := sample(t, eventlog.TypePeerSet); !e.Observed().Equal(recorded) {
		t.Errorf("an intent was observed %v, want when it was recorded, %v", e.Observed(), recorded)
	}
}

// raw draws JSON as it is written to the log, or as a caller may give it.
func raw(t *rapid.T, label string) json.RawMessage {
	b, err := json.Marshal(rapid.MapOf(rapid.SampledFrom([]string{"data", "prev", "x", "a b"}), rapid.String()).Draw(t, label))
	if err != nil {
		t.Fatal(err)
	}
	switch rapid.IntRange(0, 4).Draw(t, label+" form") {
	case 0:
		return nil
	case 1:
		return append(append([]byte(" "), b...), '\n')
	case 2:
		return json.RawMessage(rapid.SampledFrom([]string{`null`, `[1, 2]`, `[1,2]`, `"<"`, `{"data":[1, 2]}`, `{"data":{"a": 1}}`, "\"\xff\"", `"\ufffd"`, "\"\u2029\"", `1`, `12`}).Draw(t, label+" odd"))
	}
	return b
}

func drafts() *rapid.Generator[eventlog.Draft] {
	return rapid.Custom(func(t *rapid.T) eventlog.Draft {
		d := eventlog.Draft{
			ID:     rapid.String().Draw(t, "id"),
			Type:   rapid.SampledFrom(append(eventlog.Types(), "x.unknown")).Draw(t, "type"),
			Stream: rapid.SampledFrom([]string{"a", "b", "c/d e", "ünï"}).Draw(t, "stream"),
			Reason: rapid.String().Draw(t, "reason"),
			Key:    rapid.SampledFrom([]string{"", "k1", "k2"}).Draw(t, "key"),
		}
		if d.Type == eventlog.TypeEpochStarted {
			d.Type = eventlog.TypePeerSet
		}
		d.Data, d.Prev, d.Evidence = raw(t, "data"), raw(t, "prev"), raw(t, "evidence")
		if rapid.Bool().Draw(t, "odd") {
			d.Reason = rapid.SampledFrom([]string{"\xff", "\ufffd", `\ufffd`, "<b>", `"data":[1, 2]`, `"data": {}`, "\u2028"}).Draw(t, "odd reason")
			d.Actor.Name = rapid.SampledFrom([]string{"", "root", "a\xc3"}).Draw(t, "name")
			d.Source.Address = rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("::ffff:192.0.2.1")}).Draw(t, "address")
			if rapid.Bool().Draw(t, "repeated") {
				d.Repeats = &eventlog.Repeats{Count: 2, First: time.Unix(1, 0).In(time.FixedZone("x", 3600)), Last: time.Unix(2, 0)}
			}
		}
		if rapid.Bool().Draw(t, "fact") {
			d.ObservedAt = time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "at"), 5).In(time.FixedZone("x", 3600))
			d.Origin = &eventlog.Origin{Node: "n", Boot: "b", N: rapid.Uint64().Draw(t, "n")}
		}
		return d
	})
}

// Whatever is sealed decodes to itself, and a run of it verifies.
func TestSealedRunProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ds := rapid.SliceOfN(drafts(), 0, 12).Draw(t, "drafts")
		run, err := eventlog.SealBatch(eventlog.Base{}, recorded, eventlog.Batch{Drafts: ds})
		if err != nil {
			t.Fatal(err)
		}
		revs := map[string]uint64{}
		for i, e := range run {
			stored, err := eventlog.Encode(e)
			if err != nil {
				t.Fatal(err)
			}
			back, err := eventlog.Decode(stored)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(back, e) {
				t.Fatalf("sealed %+v, decoded %+v", e, back)
			}
			if revs[e.Stream]++; e.StreamRev != revs[e.Stream] || e.Stream != ds[i].Stream {
				t.Fatalf("event %d: %s revision %d, want %d", i, e.Stream, e.StreamRev, revs[e.Stream])
			}
		}
		if _, err := eventlog.VerifyRun(eventlog.Head{}, run); err != nil {
			t.Fatal(err)
		}
		// Take one out, or swap two: the chain says so.
		if n := len(run); n > 2 {
			i := rapid.IntRange(0, n-2).Draw(t, "i")
			if _, err := eventlog.VerifyRun(eventlog.Head{}, slices.Delete(slices.Clone(run), i, i+1)); err == nil {
				t.Fatalf("event %d was taken out unnoticed", i)
			}
			swapped := slices.Clone(run)
			swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
			if _, err := eventlog.VerifyRun(eventlog.Head{}, swapped); err == nil {
				t.Fatalf("events %d and %d were swapped unnoticed", i, i+1)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, typ := range []eventlog.Type{eventlog.TypePeerSet, eventlog.TypeLogOrphaned} {
		b, err := eventlog.Encode(sample(f, typ))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, false)
		f.Add(b[65:], true)
	}
	f.Add([]byte(`{"SEQ":1,"seq":2,"time":null}`), true)
	f.Fuzz(func(t *testing.T, b []byte, hash bool) {
		if hash { // let the fuzzer get past the hash
			b = withHash(string(b))
		}
		e, err := eventlog.Decode(b)
		if err != nil {
			if !errors.Is(err, eventlog.ErrCorrupt) {
				t.Fatalf("got %v, want ErrCorrupt", err)
			}
			return
		}
		again, err := eventlog.Encode(e)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q became %q (%v)", b, again, err)
		}
		if e.Seq == 0 || len(e.Hash) != 64 {
			t.Fatalf("accepted %q with sequence %d and hash %q", b, e.Seq, e.Hash)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	stored, err := eventlog.Encode(sample(b, eventlog.TypeServiceSet))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(stored)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := eventlog.Decode(stored); err != nil {
			b.Fatal(err)
		}
	}
}

// Orphans are kept exactly as they were stored.
func TestOrphans(t *testing.T) {
	var head eventlog.Head
	var run []eventlog.Envelope
	for i := range 3 {
		e, err := eventlog.Seal(head, 1, 1, recorded, eventlog.Draft{ID: strings.Repeat("x", i), Type: eventlog.TypePeerSet, Reason: "<&> \n"})
		if err != nil {
			t.Fatal(err)
		}
		head, run = eventlog.HeadOf(e), append(run, e)
	}
	p, err := eventlog.Orphan("node-b", "boot-1", "store.orphaned-1", run[1:])
	if err != nil || p.From != 2 || p.Last != 3 || p.Count != 2 {
		t.Fatal(p, err)
	}
	d, err := eventlog.NewDraft(eventlog.TypeLogOrphaned, "log", p, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p, err = eventlog.Payload[eventlog.OrphanedPayload](d); err != nil {
		t.Fatal(err)
	}
	got, err := p.Envelopes()
	if err != nil || len(got) != 2 || got[0].Hash != run[1].Hash || got[1].Hash != run[2].Hash {
		t.Fatal(got, err)
	}
	p.Events[1] = strings.Replace(p.Events[1], "xx", "xy", 1)
	if _, err := p.Envelopes(); !errors.Is(err, eventlog.ErrCorrupt) {
		t.Errorf("a changed orphan: %v", err)
	}
}
