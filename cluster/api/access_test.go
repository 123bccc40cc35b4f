package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"dyad/cluster/identity"
	"dyad/eventlog"
	"dyad/projections"
)

// A route or a verb that nobody gave a role is closed, and this test says so.
func TestEveryRouteAndVerbHasARole(t *testing.T) {
	doc, err := Document()
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Paths map[string]map[string]struct {
			OperationID string
		}
	}
	if err := json.Unmarshal(doc, &v); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for path, methods := range v.Paths {
		for method := range methods {
			pattern := strings.ToUpper(method) + " " + path
			known[pattern] = true
			if routeRoles[pattern] == "" {
				t.Errorf("%s has no role; give it one in access.go", pattern)
			}
			if method != "get" && routeRoles[pattern] == RoleViewer && path != PathCommand {
				t.Errorf("%s changes something, and a viewer may do it", pattern)
			}
		}
	}
	for pattern := range routeRoles {
		if !known[pattern] {
			t.Errorf("%s has a role and is no route", pattern)
		}
	}
	for _, verb := range Verbs() {
		if ranks[verbRoles[verb]] < ranks[RoleOperator] {
			t.Errorf("%q takes the role %q; every command changes something: give it operator or admin in access.go", verb, verbRoles[verb])
		}
	}
	for verb := range verbRoles {
		if !verbSet()[verb] {
			t.Errorf("%q has a role and is no verb", verb)
		}
	}
}

// minimal is a command with a verb and nothing else in it.
func minimal(t *testing.T, verb string) Request {
	t.Helper()
	args := json.RawMessage(`{}`)
	if verb == verbApply {
		args = json.RawMessage(`{"commands":[]}`)
	}
	if _, err := DecodeCommand(verb, args); err != nil {
		t.Fatalf("%s: %v", verb, err)
	}
	return Request{Verb: verb, Args: args}
}

// Every role tries every command, and every route that changes something.
func TestRolesAreKept(t *testing.T) {
	f := &fake{}
	s := newCluster(t)
	address := serveTCP(t, f, s, nil)
	for _, role := range Roles() {
		c := dialTLS(t, address, userTLS(t, s, "u-"+string(role), role))
		for _, verb := range Verbs() {
			f.req, f.denials = Request{}, nil
			_, err := c.Command(t.Context(), minimal(t, verb))
			if may := ranks[role] >= ranks[verbRoles[verb]]; may != (err == nil) {
				t.Errorf("%s, %s: %v", role, verb, err)
			} else if !may {
				e := wantError(t, err, ClassDenied, "role")
				if e.What != verb || len(f.denials) != 1 || f.denials[0] != (Denial{verb, verbRoles[verb]}) || f.req.Verb != "" {
					t.Errorf("%s, %s: %+v, denials %v, the backend was asked %q", role, verb, e, f.denials, f.req.Verb)
				}
				if f.who.Actor != (eventlog.Actor{Name: "u-" + string(role), Auth: AuthCert}) {
					t.Errorf("denied to %+v", f.who)
				}
			}
		}
		for pattern, need := range routeRoles {
			method, path, _ := strings.Cut(pattern, " ")
			if method == "GET" || path == PathCommand || role.may(need) {
				continue
			}
			if status, e := raw(t, c, method, path, strings.NewReader("{}")); status != http.StatusForbidden || e.Code != "role" {
				t.Errorf("%s, %s: %d %+v", role, pattern, status, e)
			}
		}
		if _, err := c.Pools(t.Context()); err != nil {
			t.Errorf("%s may not read: %v", role, err)
		}
	}
}

// What a caller may not do alone, it may not do inside an apply.
func TestAnApplyTakesWhatItsCommandsTake(t *testing.T) {
	f := &fake{}
	s := newCluster(t)
	c := dialTLS(t, serveTCP(t, f, s, nil), userTLS(t, s, "op", RoleOperator))
	pool := projections.RemovePool{Name: "web"}
	if _, err := c.Do(t.Context(), projections.Apply{Commands: []projections.Command{pool}}, Request{}); err != nil {
		t.Error(err)
	}
	_, err := c.Do(t.Context(), projections.Apply{Commands: []projections.Command{pool, projections.CreateToken{}, pool}}, Request{})
	if e := wantError(t, err, ClassDenied, "role"); e.What != "apply of token create" || !strings.Contains(e.Why, "admin") {
		t.Errorf("%+v", e)
	}
	if n := commandNeeds(projections.Apply{Commands: []projections.Command{projections.UseToken{}, projections.CreateToken{}}}); RoleNode.may(n.Need) || RoleAdmin.may(n.Need) {
		t.Errorf("spending a token from outside takes %+v", n)
	}
}

func TestATokenMayJoinAndNothingElse(t *testing.T) {
	f := &fake{}
	s := newCluster(t)
	token := identity.NewToken(s.CA().Fingerprint())
	address := serveTCP(t, f, s, func(fingerprint string) bool { return fingerprint == token.Fingerprint })
	conf, err := identity.JoinTLS(token, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c := dialTLS(t, address, conf)
	for pattern := range routeRoles {
		method, path, _ := strings.Cut(pattern, " ")
		if path == PathJoin {
			continue
		}
		path = strings.ReplaceAll(path, "{address}", "192.0.2.1")
		if status, e := raw(t, c, method, path, strings.NewReader("{}")); status != http.StatusForbidden || e.Code != "role" {
			t.Errorf("%s: %d %+v", pattern, status, e)
		}
	}
	join := JoinRequest{Node: testState().Nodes["node-b"], PeerURL: "https://192.0.2.2:2380", Request: "pem"}
	got, err := c.Join(t.Context(), join)
	if err != nil || got.Epoch != 3 || string(got.CAKey) != "the key" || string(got.GossipKeys[0]) != "one" {
		t.Errorf("join: %+v, %v", got, err)
	}
	same(t, "join", f.join, join)
	if f.who.Token != token.Fingerprint || f.who.Role != RoleJoiner {
		t.Errorf("caller %+v", f.who)
	}
	if text := fmt.Sprintf("%v %+v %#v %s %x", got, got, got.CAKey, got.CAKey, got.CAKey); strings.Contains(text, "the key") || strings.Contains(text, fmt.Sprintf("%x", "the key")) {
		t.Errorf("a secret is printed: %s", text)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", got.CAKey)
	if strings.Contains(log.String(), "dGhlIGtleQ") || !strings.Contains(log.String(), "(secret)") {
		t.Errorf("a secret is logged: %s", &log)
	}

	other := identity.NewToken(s.CA().Fingerprint())
	if conf, err = identity.JoinTLS(other, time.Now()); err != nil {
		t.Fatal(err)
	}
	_, err = dialTLS(t, address, conf).Join(t.Context(), join)
	refusedTLS(t, "an unknown token", err)
	strange := identity.NewToken(strings.Repeat("00", 32))
	if conf, err = identity.JoinTLS(strange, time.Now()); err != nil {
		t.Fatal(err)
	}
	_, err = dialTLS(t, address, conf).Join(t.Context(), join)
	wantError(t, err, ClassDenied, "server-untrusted")
}

// refusedTLS: the handshake was refused. The refusal may arrive as an alert, or
// as a connection that is gone when the request is written.
func refusedTLS(t *testing.T, what string, err error) {
	t.Helper()
	if e := AsError(err); e == nil || e.Code != "certificate-refused" && e.Code != "connection-lost" {
		t.Errorf("%s: %v", what, err)
	}
}

func TestAccessOnTheSocket(t *testing.T) {
	a := Access{
		Users:  map[string]Role{"alice": RoleOperator, "mallory": RoleViewer},
		Groups: map[string]Role{"noc": RoleViewer, "ops": RoleAdmin, "dev": RoleOperator},
	}
	for _, x := range []struct {
		name   string
		groups []string
		want   Role
	}{
		{"alice", []string{"ops"}, RoleOperator},
		{"mallory", []string{"ops"}, RoleViewer},
		{"bob", []string{"noc", "dev"}, RoleOperator},
		{"bob", []string{"dev", "ops", "noc"}, RoleAdmin},
		{"bob", nil, RoleViewer},
	} {
		if got := a.role(x.name, x.groups); got != x.want {
			t.Errorf("%s in %v is %s, want %s", x.name, x.groups, got, x.want)
		}
	}
	if a.Check() != nil || (Access{Users: map[string]Role{"x": "boss"}}).Check() == nil || (Access{Users: map[string]Role{"x": RoleNode}}).Check() == nil {
		t.Error("the check of roles")
	}
}
