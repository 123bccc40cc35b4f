package projections

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"dyad/eventlog"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func print64(two string) string { return strings.Repeat(two, 32) }

func newToken(two string, at time.Time) CreateToken {
	return CreateToken{Fingerprint: print64(two), TTL: 15 * time.Minute, Now: at}
}

func TestATokenIsGoodForOneNodeAndItsTime(t *testing.T) {
	w := pair(t)
	w.do(newToken("0a", noon))
	id := TokenID(print64("0a"))
	use := UseToken{ID: id, Node: "node-b", Key: "k1", Now: noon.Add(time.Minute)}
	other, key, late := use, use, use
	other.Node, key.Key, late.Now = "node-c", "k2", noon.Add(15*time.Minute)
	w.refused("token-expired", late)
	w.refused("token-unknown", UseToken{ID: "ffffffffffff", Node: "node-b", Key: "k1", Now: noon})
	w.do(use)
	w.refused("token-used", other)
	w.refused("token-used", key)
	w.refused("token-expired", late)
	if drafts, err := Decide(w.s, use); err != nil || len(drafts) != 0 {
		t.Errorf("the same node again: %d events, %v", len(drafts), err)
	}
	w.do(RevokeToken{ID: id})
	w.refused("token-unknown", use)
	w.refused("token-unknown", RevokeToken{ID: id})
}

// Two nodes decide against the same state; the log's order says who has it.
func TestTheLogsOrderDecidesWhoHasTheToken(t *testing.T) {
	w := pair(t)
	w.do(newToken("0a", noon))
	planner := NewPlanner(w.s)
	id := TokenID(print64("0a"))
	if _, err := planner.Decide(UseToken{ID: id, Node: "node-b", Key: "k1", Now: noon}); err != nil {
		t.Fatal(err)
	}
	if _, err := planner.Decide(UseToken{ID: id, Node: "node-c", Key: "k2", Now: noon}); err == nil {
		t.Error("two nodes used one token")
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	w := pair(t)
	good := newToken("0a", noon)
	for code, change := range map[string]func(*CreateToken){
		"token-fingerprint": func(c *CreateToken) { c.Fingerprint = strings.ToUpper(print64("0a")) },
		"token-ttl":         func(c *CreateToken) { c.TTL = MaxTokenTTL + 1 },
		"token-purpose":     func(c *CreateToken) { c.Purpose = "everything" },
		"token-time":        func(c *CreateToken) { c.Now = time.Time{} },
	} {
		c := good
		change(&c)
		w.refused(code, c)
	}
	for i := range MaxTokens {
		w.do(newToken(string("0123456789abcdef"[i/16])+string("0123456789abcdef"[i%16]), noon))
	}
	w.refused("token-exists", newToken("00", noon))
	w.refused("too-many-tokens", newToken("ff", noon))
	// What is over does not count, and is forgotten with the next.
	w.do(newToken("ff", noon.Add(time.Hour)))
	if len(w.s.Tokens) != 1 {
		t.Errorf("%d tokens are kept, want the newest alone", len(w.s.Tokens))
	}
}

func TestTokensLastThroughTheCheckpoint(t *testing.T) {
	w := pair(t)
	w.do(newToken("0a", noon), newToken("0b", noon), UseToken{ID: TokenID(print64("0b")), Node: "node-b", Key: "k", Now: noon})
	b, err := json.Marshal(w.s)
	if err != nil {
		t.Fatal(err)
	}
	var back State
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back.Tokens, w.s.Tokens) || len(back.Tokens) != 2 {
		t.Errorf("%v %+v", err, back.Tokens)
	}
}

func TestNobodyChoosesTheTime(t *testing.T) {
	var c CreateToken
	if err := json.Unmarshal([]byte(`{"fingerprint":"x","Now":"2020-01-01T00:00:00Z"}`), &c); err != nil || !c.Now.IsZero() {
		t.Errorf("%v %v", c.Now, err)
	}
	got := At(Apply{Commands: []Command{newToken("0a", noon), RemovePool{"x"}}}, noon.Add(time.Hour)).(Apply)
	if !got.Commands[0].(CreateToken).Now.Equal(noon.Add(time.Hour)) || got.Commands[1] != (RemovePool{"x"}) {
		t.Errorf("%+v", got)
	}
	if eventlog.TypeTokenCreated.Class() != eventlog.Intent || eventlog.TypeAccessDenied.Class() != eventlog.Fact {
		t.Error("classes")
	}
}
