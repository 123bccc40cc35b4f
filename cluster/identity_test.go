package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dyad/cluster/api"
	"dyad/eventlog"
	"dyad/projections"
	"dyad/projections/audit"
)

// facts reads the facts of a type from the log.
func (w *world) facts(typ eventlog.Type) []eventlog.Envelope {
	events, err := w.log.Read(context.Background(), 0, eventlog.MaxPage)
	if err != nil {
		w.t.Fatal(err)
	}
	return audit.Query{Types: []string{string(typ)}, Limit: audit.MaxLimit}.Select(events)
}

// Ten thousand attempts are two facts: the first at once, the others together.
func TestAFloodOfDeniedAttemptsIsTwoFacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, _ := up(t)
		defer w.end()
		mallory := api.Caller{Actor: eventlog.Actor{Name: "mallory", Auth: api.AuthCert}, Role: api.RoleViewer}
		for range 10_000 {
			a.agent.Denied(t.Context(), mallory, api.Denial{What: "peer set", Need: api.RoleOperator})
		}
		time.Sleep(5 * time.Second)
		if got := w.facts(eventlog.TypeAccessDenied); len(got) != 1 || got[0].Actor != mallory.Actor || got[0].Repeats != nil {
			t.Fatalf("at once: %+v", got)
		}
		time.Sleep(2 * deniedEvery)
		got := w.facts(eventlog.TypeAccessDenied)
		if len(got) != 2 || got[1].Repeats == nil || got[1].Repeats.Count != 9_999 || got[1].Actor != mallory.Actor {
			t.Fatalf("in the end: %+v", got)
		}
		p, err := eventlog.Payload[eventlog.DeniedPayload](got[0].Draft)
		if err != nil || p != (eventlog.DeniedPayload{What: "peer set", Need: "operator", Have: "viewer"}) {
			t.Errorf("%+v, %v", p, err)
		}
		// Many names are bounded too.
		for i := range 10_000 {
			who := api.Caller{Actor: eventlog.Actor{Name: fmt.Sprint("uid:", i), Auth: api.AuthUnix}, Role: api.RoleViewer}
			a.agent.Denied(t.Context(), who, api.Denial{What: "peer set", Need: api.RoleOperator})
		}
		time.Sleep(2 * deniedEvery)
		if n := len(w.facts(eventlog.TypeAccessDenied)) - 2; n > maxDenied+2 {
			t.Errorf("%d facts of many names", n)
		}
	})
}

// A token goes through the log of both nodes: made on one, used on the other,
// once.
func TestTokensThroughTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b := up(t)
		defer w.end()
		a.must(projections.CreateToken{Fingerprint: strings.Repeat("0a", 32), TTL: 15 * time.Minute})
		id := projections.TokenID(strings.Repeat("0a", 32))
		w.within(time.Second, "b knows the token", func() bool { return b.agent.State().Tokens[id].ID != "" })
		who := api.Caller{Actor: eventlog.Actor{Name: "token " + id, Auth: api.AuthToken}, Role: api.RoleJoiner, Token: id}
		errs := make(chan error, 8)
		for i := range 8 { // eight nodes, on both sides, at the same moment
			agent := []*node{a, b}[i%2].agent
			go func() { errs <- agent.SpendToken(t.Context(), who, fmt.Sprint("node-", i), fmt.Sprint("key-", i)) }()
		}
		won := 0
		for range 8 {
			err := <-errs
			var r *projections.Refusal
			if err == nil {
				won++
			} else if !errors.As(err, &r) || r.Code != "token-used" {
				t.Errorf("%v", err)
			}
		}
		if won != 1 || len(w.facts(eventlog.TypeTokenUsed)) != 1 {
			t.Errorf("%d nodes have the token", won)
		}
		used := a.agent.State().Tokens[id]
		if err := b.agent.SpendToken(t.Context(), who, used.Node, used.Key); err != nil {
			t.Errorf("the same node again: %v", err)
		}
		time.Sleep(15 * time.Minute)
		var r *projections.Refusal
		if err := b.agent.SpendToken(t.Context(), who, used.Node, used.Key); !errors.As(err, &r) || r.Code != "token-expired" {
			t.Errorf("later: %v", err)
		}
		// Nobody gives a command another time.
		_, err := a.agent.Execute(t.Context(), api.Caller{Actor: eventlog.Actor{Name: "root", Auth: "unix"}}, api.Request{
			Verb: "token create", Args: json.RawMessage(`{"fingerprint":"` + strings.Repeat("0b", 32) + `","ttl_ns":60000000000,"Now":"2020-01-01T00:00:00Z"}`),
		})
		if e := api.AsError(err); e == nil || e.Class != api.ClassUsage {
			t.Errorf("a time from outside: %v", err)
		}
	})
}

func TestACertificateThatEndsIsACondition(t *testing.T) {
	c := api.Certificate{Subject: "node-a", Kind: "node", Expires: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	if got := expiringCertificates(diagnosis{certificates: []api.Certificate{c}}); len(got) != 0 {
		t.Errorf("%q", got)
	}
	c.Expiring = true
	got := expiringCertificates(diagnosis{certificates: []api.Certificate{c}})
	if len(got) != 1 || !strings.Contains(got[0], "node-a (node) expires at 2026-03-04T05:06:07Z") || !strings.Contains(got[0], "dyad cert rotate") {
		t.Errorf("%q", got)
	}
}
