package api

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/user"
	"reflect"
	"strings"
	"testing"
	"time"

	"dyad/eventlog"
	"dyad/projections"
	"dyad/projections/audit"
)

var rewrite = flag.Bool("rewrite", false, "write docs/openapi.json instead of comparing it")

const golden = "../../docs/openapi.json"

func TestTheDocumentHoldsEveryRouteAndIsTheOneInDocs(t *testing.T) {
	doc, err := Document()
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		OpenAPI    string                    `json:"openapi"`
		Paths      map[string]map[string]any `json:"paths"`
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal(doc, &v); err != nil {
		t.Fatal(err)
	}
	for path, method := range map[string]string{
		PathStatus: "get", PathCommand: "post", PathSwitches: "get", PathPeers: "get", PathPools: "get", PathServices: "get", PathNodes: "get",
		PathAnnouncements: "get", PathEvents: "get", PathEventsFollow: "get", PathExplain + "/{address}": "get", PathFacts: "post", PathJoin: "post", PathWitness: "post",
		PathTakeover: "post", PathRejoin: "post", PathRemoveNode: "post", PathReplaceNode: "post",
		PathTokens: "get", PathCertificates: "post", PathRotate: "post", PathGossipKeys: "post",
		PathSegments: "get", PathSegments + "/{first}": "get", PathVerify: "get",
		PathDoctor: "get", PathProbeRouter: "post", PathTestRoute: "post",
	} {
		if v.Paths[path][method] == nil {
			t.Errorf("%s %s is missing", method, path)
		}
	}
	if len(v.Paths) != 28 || !strings.HasPrefix(v.OpenAPI, "3.1") {
		t.Errorf("%d paths, OpenAPI %s", len(v.Paths), v.OpenAPI)
	}
	for schema, field := range map[string]string{"Event": "hash", "Error": "fix", "SwitchView": "protocol"} {
		if v.Components.Schemas[schema].Properties[field] == nil {
			t.Errorf("schema %s has no field %s", schema, field)
		}
	}
	if *rewrite {
		if err := os.WriteFile(golden, doc, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(doc) != string(want) {
		t.Error("docs/openapi.json is not what the code says; go test ./cluster/api -rewrite")
	}
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func TestEveryRouteRoundTrips(t *testing.T) {
	for name, dial := range map[string]func(*testing.T, Backend) *Client{
		"unix": func(t *testing.T, b Backend) *Client { c, _, _ := overUnix(t, b); return c },
		"tcp":  func(t *testing.T, b Backend) *Client { c, _ := overTCP(t, b); return c },
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{events: chain(t, 3)}
			c := dial(t, f)
			roundTripReads(t, c, f)
			roundTripSegments(t, c, f)
			roundTripWrites(t, c, f)
		})
	}
}

func roundTripReads(t *testing.T, c *Client, f *fake) {
	ctx := t.Context()
	must := func(v any, err error) any {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	one := must(c.Status(ctx, ScopeNode)).([]NodeStatus)
	if len(one) != 1 || one[0].Status.Mode != "PAIR" {
		t.Errorf("status: %+v", one)
	}
	for _, scope := range []string{"", ScopeCluster} {
		same(t, "cluster status", must(c.Status(ctx, scope)).([]NodeStatus)[1], NodeStatus{Node: "node-b", Error: "no answer"})
	}
	s := testState()
	web := s.Pools["web"]
	same(t, "switches", must(c.Switches(ctx)), []SwitchView{
		{Switch: s.Switches["vSwitch1"], Peers: []netip.Addr{addr("192.0.2.8"), addr("192.0.2.9")}, Pools: []string{"web"}, Protocol: SwitchBGP},
		{Switch: s.Switches["vSwitch2"], Peers: []netip.Addr{}, Pools: []string{}, Protocol: SwitchLayer2},
	})
	same(t, "pools", must(c.Pools(ctx)), []PoolView{
		{Pool: s.Pools["db"], Size: "1"}, {Pool: web, Size: "1208925819614629174706432", Used: 3, Users: 2},
	})
	same(t, "peers", must(c.Peers(ctx)), Peers(s))
	same(t, "services", must(c.Services(ctx)), []eventlog.Service{s.Services["blog"], s.Services["shop"]})
	same(t, "nodes", must(c.Nodes(ctx)), []eventlog.Node{s.Nodes["node-a"], s.Nodes["node-b"]})
	same(t, "own announcements", must(c.Announcements(ctx, ScopeNode)), f.Announcements(ctx, false))
	both := must(c.Announcements(ctx, "")).([]NodeAnnouncements)
	if len(both) != 2 || both[1].Error != "no answer" || both[1].Items == nil {
		t.Errorf("announcements: %+v", both)
	}
	same(t, "explanation", must(c.Explain(ctx, addr("2001:db8::1"))), Explanation{Address: addr("2001:db8::1"), Service: "shop", Lines: []string{"announced"}})
	q := audit.Query{
		Since: time.Unix(1_700_000_000, 123_000_000).UTC(), Until: time.Unix(1_900_000_000, 0).UTC(), After: 1<<63 + 5, Types: []string{"peer.", "pool.set"},
		Streams: []string{"peer/a,b", "x&y/"}, Actors: []string{"root"}, Nodes: []string{"node-a", "node-b"},
		Classes: []eventlog.Class{eventlog.Intent, eventlog.Fact}, Correlation: "c 1", Limit: audit.MaxLimit,
	}
	events := must(c.Events(ctx, q)).([]eventlog.Public)
	same(t, "query", f.query, q)
	if len(events) != 3 || events[2].Hash != f.events[2].Hash || events[2].Seq != 3 || string(events[2].Data) != string(f.events[2].Data) {
		t.Errorf("events: %+v", events)
	}
}

func roundTripSegments(t *testing.T, c *Client, f *fake) {
	ctx := t.Context()
	list, err := c.Segments(ctx)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "segments", list, f.Segments())
	if b, err := c.Segment(ctx, 7, 9); err != nil || string(b) != "7-9\n" {
		t.Errorf("segment: %q %v", b, err)
	}
	told := 0
	v, err := c.Verify(ctx, true, func(done, of eventlog.Seq) {
		if told++; done != 2 || of != 3 {
			t.Errorf("progress %d of %d", done, of)
		}
	})
	if err != nil || v.Segments != 1 || v.To != 3 || v.Damage == nil || v.Others == nil || told != 1 {
		t.Errorf("verify: %+v %v, told %d times", v, err, told)
	}
	f.err = eventlog.ErrUnavailable
	defer func() { f.err = nil }()
	_, err = c.Segment(ctx, 7, 0)
	wantError(t, err, ClassUnavailable, "log-unavailable")
	_, err = c.Verify(ctx, false, nil)
	wantError(t, err, ClassUnavailable, "log-unavailable")
}

func roundTripWrites(t *testing.T, c *Client, f *fake) {
	ctx := t.Context()
	cmd := projections.RemovePool{Name: "web"}
	res, err := c.Do(ctx, cmd, Request{Reason: "tidy", Key: "k1", DryRun: true, Interface: "cli", Client: "dyad/1", Wait: time.Second})
	if err != nil || res.Seq != 12 || res.Events == nil || !res.Nodes[0].Converged {
		t.Errorf("command: %+v, %v", res, err)
	}
	same(t, "request", f.req, Request{
		Verb: "pool remove", Args: json.RawMessage(`{"name":"web"}`), Reason: "tidy", Key: "k1", DryRun: true, Interface: "cli", Client: "dyad/1", Wait: time.Second,
	})
	who := f.caller()
	if c.o.Address != "" {
		same(t, "caller", who, Caller{Actor: eventlog.Actor{Name: "node-a", Auth: "cert"}, Address: addr("127.0.0.1"), Role: RoleNode})
	} else {
		u, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		same(t, "caller", who, Caller{Actor: eventlog.Actor{Name: u.Username, Auth: "unix"}, Role: RoleAdmin})
	}
	fact := FactRequest{Type: eventlog.TypeDrillStarted, Correlation: "d1", Reason: "monthly", Data: eventlog.DrillPayload{
		Drill: "power", Node: "node-a", Result: map[string]any{"outage_ms": 12.0},
	}}
	if err := c.RecordFact(ctx, fact); err != nil {
		t.Error(err)
	}
	same(t, "fact", f.fact, fact)
	wr := WitnessRequest{URL: "https://w:7990#ab", Token: "t", Reason: "two sites", Key: "k2", Wait: time.Second}
	if res, err := c.AddWitness(ctx, wr); err != nil || res.Seq != 13 {
		t.Errorf("witness add: %+v, %v", res, err)
	}
	same(t, "witness", f.witness, wr)
	_, err = c.AddWitness(ctx, WitnessRequest{URL: "x", Wait: -1})
	wantError(t, err, ClassUsage, "wait")
	if ws, err := c.Witnesses(ctx, ScopeNode); err != nil || len(ws) != 1 || !ws[0].Matches || ws[0].Claim.Epoch != 3 {
		t.Errorf("witness: %+v, %v", ws, err)
	}
	if ws, err := c.Witnesses(ctx, ""); err != nil || len(ws) != 2 || ws[1].Why == "" {
		t.Errorf("witnesses: %+v, %v", ws, err)
	}
	for what, err := range map[string]error{
		"join": second(c.Join(ctx, JoinRequest{})), "gossip keys": c.SetGossipKeys(ctx, GossipKeys{Keys: []Secret{Secret("k")}}),
	} {
		if what == "gossip keys" && c.o.Address != "" { // a node
			if err != nil || string(f.keys.Keys[0]) != "k" {
				t.Errorf("%s: %v, %v", what, f.keys, err)
			}
			continue
		}
		wantError(t, err, ClassDenied, "role")
	}
	issue := CertificateRequest{Name: "alice", Role: RoleViewer, TTL: time.Hour, Request: "pem", Reason: "new"}
	if ans, err := c.IssueCertificate(ctx, issue); err != nil || ans.Chain != "pem" || ans.Subject != "alice" {
		t.Errorf("%+v, %v", ans, err)
	}
	same(t, "issue", f.issue, issue)
	if ans, err := c.Rotate(ctx, RotateRequest{GossipKey: true}); err != nil || ans.GossipKey != "f2" || !f.rotate.GossipKey {
		t.Errorf("%+v, %v", ans, err)
	}
	if id, err := c.Identity(ctx); err != nil || id.Cluster != "c1" || len(id.Certificates) != 1 {
		t.Errorf("%+v, %v", id, err)
	}
	if list, err := c.Tokens(ctx); err != nil || len(list) != 1 || list[0].State != TokenExpired {
		t.Errorf("%+v, %v", list, err)
	}
}

func second[T any](_ T, err error) error { return err }

func wantError(t *testing.T, err error, class, code string) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want class %s code %s", err, class, code)
	}
	if e.Class != class || e.Code != code || e.What == "" || e.Why == "" {
		t.Errorf("got %+v, want class %s code %s", e, class, code)
	}
	return e
}

func TestErrorsKeepTheirClass(t *testing.T) {
	f := &fake{}
	c, _, _ := overUnix(t, f)
	for _, x := range []struct {
		err         error
		class, code string
	}{
		{&projections.Refusal{Code: "pool-used", What: "pool web", Why: "two services use it", Fix: "dyad service list"}, ClassRefused, "pool-used"},
		{fmt.Errorf("append: %w", eventlog.ErrUnavailable), ClassUnavailable, "log-unavailable"},
		{&Error{Class: ClassUnavailable, Code: "log-not-writable", What: "x", Why: "y"}, ClassUnavailable, "log-not-writable"},
		{&Error{Class: ClassDenied, Code: "no", What: "x", Why: "y"}, ClassDenied, "no"},
		{context.DeadlineExceeded, ClassUnavailable, "timeout"},
		{errors.New("disk full"), ClassFailed, "failed"},
	} {
		f.err = x.err
		_, err := c.Do(t.Context(), projections.RemovePool{Name: "web"}, Request{})
		e := wantError(t, err, x.class, x.code)
		if want := AsError(x.err); *e != *want {
			t.Errorf("got %+v, want %+v", e, want)
		}
		_, err = c.Explain(t.Context(), addr("192.0.2.1"))
		wantError(t, err, x.class, x.code)
		wantError(t, c.RecordFact(t.Context(), FactRequest{Type: eventlog.TypeDrillEnded}), x.class, x.code)
	}
}

// raw sends a request as it is and reads the error that it must get.
func raw(t *testing.T, c *Client, method, target string, body io.Reader, header ...string) (int, *Error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, c.base+target, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var e Error
	if err := json.Unmarshal(b, &e); err != nil || e.What == "" || e.Why == "" || e.Fix == "" {
		t.Fatalf("%s %s: status %d, %.200s", method, target, resp.StatusCode, b)
	}
	return resp.StatusCode, &e
}

func TestNonsenseIsRefusedInTheShapeOfEveryError(t *testing.T) {
	c, _, _ := overUnix(t, &fake{})
	huge := `{"verb":"pool remove","args":{"name":"` + strings.Repeat("a", MaxBody) + `"}}`
	for _, x := range []struct{ method, target, body, code, why string }{
		{"GET", "/v1/nothing", "", "route-unknown", "no such route"},
		{"DELETE", PathStatus, "", "route-unknown", "no such route"},
		{"GET", PathStatus + "?scope=world", "", "request", "query.scope"},
		{"GET", PathStatus + "?scop=node", "", "request", "unknown query parameter"},
		{"GET", PathEvents + "?limit=10001", "", "request", "query.limit"},
		{"GET", PathEvents + "?after=-1", "", "request", "query.after"},
		{"GET", PathEvents + "?since=yesterday", "", "request", "query.since"},
		{"GET", PathEvents + "?class=rumour", "", "request", "query.class"},
		{"GET", PathEventsFollow + "?class=rumour", "", "request", "query.class"},
		{"GET", PathExplain + "/nowhere", "", "address", "not an IP address"},
		{"GET", PathExplain + "/fe80::1%25eth0", "", "address", "without a zone"},
		{"POST", PathCommand, "", "request", "body"},
		{"POST", PathCommand, "{", "request", "JSON"},
		{"POST", PathCommand, `{"verb":"pool remove"}`, "request", "args"},
		{"POST", PathCommand, `{"verb":"pool remove","args":{},"colour":1}`, "request", "colour"},
		{"POST", PathCommand, `{"verb":"pool burn","args":{}}`, "verb-unknown", "no such command"},
		{"POST", PathCommand, `{"verb":"pool remove","args":{"nam":"a"}}`, "args", `no field "nam"`},
		{"POST", PathCommand, `{"verb":"pool remove","args":{"name":"a"},"wait_ns":-1}`, "wait", "between 0 and"},
		{"POST", PathCommand, huge, "body-too-large", "8 MiB"},
	} {
		status, e := raw(t, c, x.method, x.target, strings.NewReader(x.body), "Content-Type", "application/json")
		if status != http.StatusBadRequest || e.Class != ClassUsage || e.Code != x.code || !strings.Contains(e.Why, x.why) {
			t.Errorf("%s %s %.60s: %d %+v", x.method, x.target, x.body, status, e)
		}
	}
}

func TestALargeApplyFits(t *testing.T) {
	f := &fake{}
	c, _, _ := overUnix(t, f)
	var all projections.Apply
	for i := range MaxCommands {
		all.Commands = append(all.Commands, projections.SetService{
			Name: fmt.Sprintf("namespace-%d/a-service-with-a-long-name", i), Pool: "web", Placement: eventlog.ActiveStandby,
			Check: &eventlog.Check{Kind: "http", Target: "http://127.0.0.1:8080/a/long/path/to/healthz", Interval: time.Second, Timeout: time.Second, Rise: 2, Fall: 3},
		})
	}
	if _, err := c.Do(t.Context(), all, Request{}); err != nil {
		t.Fatal(err)
	}
	got, err := DecodeCommand(f.req.Verb, f.req.Args)
	if err != nil || !reflect.DeepEqual(got, projections.Command(all)) {
		t.Fatalf("it did not arrive whole: %v", err)
	}
	big := Request{Verb: "pool remove", Args: json.RawMessage(`"` + strings.Repeat("a", MaxBody) + `"`)}
	_, err = c.Command(t.Context(), big)
	wantError(t, err, ClassUsage, "body-too-large")
}
