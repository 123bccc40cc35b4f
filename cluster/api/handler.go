package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"dyad/eventlog"
)

// PathDocument is where the OpenAPI 3.1 document is. It needs no caller.
const PathDocument = "/openapi.json"

// Version is the version of the interface in the OpenAPI document. Fields and
// routes are only ever added within one version.
const Version = "1"

// HandlerOptions are the settings of [NewHandler].
type HandlerOptions struct {
	// Log gets panics and what could not be answered; nil discards it.
	Log *slog.Logger
}

// The inputs and outputs of operations.
type (
	nothing     struct{}
	list[T any] struct {
		Items []T `json:"items" nullable:"false"`
	}
	output[T any] struct{ Body T }
	input[T any]  struct{ Body T }
	scopeInput    struct {
		Scope string `query:"scope" enum:"node,cluster" default:"cluster" doc:"This node only, or every node."`
	}
	addressInput struct {
		Address string `path:"address" doc:"An IP address without a zone."`
	}
)

// NewHandler serves a backend. It knows its callers from the context (see
// [WithCaller]), which [ServeUnix] and [ServeTCP] fill: on its own it denies
// everything but the OpenAPI document.
//
// Every answer that is not 2xx is the JSON of an [Error]; its class gives the
// status: usage 400, denied 403, refused 409, unavailable 503, failed 500.
func NewHandler(b Backend, o HandlerOptions) http.Handler {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	a := routes(mux, b)
	document, err := json.MarshalIndent(a.OpenAPI(), "", "  ")
	if err != nil {
		panic("the OpenAPI document can't be encoded: " + err.Error()) // the types in this package decide it
	}
	mux.HandleFunc("GET "+PathDocument, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(append(document, '\n')) // the client may be gone
	})
	return recovered(log, checked(mux, b))
}

// Document is the OpenAPI 3.1 document in JSON, as [PathDocument] serves it.
func Document() ([]byte, error) {
	doc, err := json.MarshalIndent(routes(http.NewServeMux(), nil).OpenAPI(), "", "  ")
	return append(doc, '\n'), err
}

func routes(mux *http.ServeMux, b Backend) huma.API {
	cfg := huma.DefaultConfig("dyad", Version)
	cfg.CreateHooks = nil // no $schema fields in answers
	cfg.OpenAPIPath, cfg.DocsPath, cfg.SchemasPath = "", "", ""
	cfg.RejectUnknownQueryParameters = true
	cfg.Info.Description = "The interface of a dyad agent, on its unix socket and, with a certificate, on its cluster address. Every route takes a role: viewer, operator or admin."
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"certificate": {Type: "mutualTLS", Description: "A certificate of the cluster's authority (dyad cert issue). Not needed on the unix socket."},
	}
	cfg.Security = []map[string][]string{{}, {"certificate": {}}}
	describeEvents(cfg.Components.Schemas)
	a := humago.New(mux, cfg)
	routeReads(a, b)
	routeEvents(a, b)
	routeWrites(a, b)
	routeQuorum(a, b)
	routeWitness(a, b)
	routeIdentity(a, b)
	routeSegments(a, b)
	routeDoctor(a, b)
	return a
}

// operation describes one route.
func operation(method, id, path, summary string) huma.Operation {
	return huma.Operation{
		Method: method, OperationID: id, Path: path, Summary: summary, MaxBodyBytes: MaxBody,
		// Invariant: no read deadline outlives the reading of a body. net/http
		// cancels a request whose connection misses one, however well the
		// handler does; [checked] bounds the reading instead.
		BodyReadTimeout: -1,
	}
}

// serve registers a route that answers with a T.
func serve[I, T any](a huma.API, op huma.Operation, f func(context.Context, *I) (T, error)) {
	huma.Register(a, op, func(ctx context.Context, in *I) (*output[T], error) {
		v, err := f(ctx, in)
		if err != nil {
			return nil, AsError(err)
		}
		return &output[T]{Body: v}, nil
	})
}

// items registers a route that answers with a list.
func items[I, T any](a huma.API, op huma.Operation, f func(context.Context, *I) ([]T, error)) {
	serve(a, op, func(ctx context.Context, in *I) (list[T], error) {
		v, err := f(ctx, in)
		return list[T]{full(v)}, err
	})
}

func routeReads(a huma.API, b Backend) {
	items(a, operation("GET", "status", PathStatus, "What every node says of itself, or why it does not"),
		func(ctx context.Context, in *scopeInput) ([]NodeStatus, error) {
			if in.Scope == ScopeCluster {
				return b.ClusterStatus(ctx), nil
			}
			st := b.Status(ctx)
			return []NodeStatus{{Node: st.Node, Status: &st}}, nil
		})
	items(a, operation("GET", "switches", PathSwitches, "The switches, with what stands on them"),
		func(context.Context, *nothing) ([]SwitchView, error) { return SwitchViews(b.State()), nil })
	items(a, operation("GET", "peers", PathPeers, "The BGP peers"),
		func(context.Context, *nothing) ([]eventlog.Peer, error) { return Peers(b.State()), nil })
	items(a, operation("GET", "pools", PathPools, "The address pools, with their use"),
		func(context.Context, *nothing) ([]PoolView, error) { return PoolViews(b.State()), nil })
	items(a, operation("GET", "services", PathServices, "The services and their addresses"),
		func(context.Context, *nothing) ([]eventlog.Service, error) { return Services(b.State()), nil })
	items(a, operation("GET", "nodes", PathNodes, "The nodes"),
		func(context.Context, *nothing) ([]eventlog.Node, error) { return Nodes(b.State()), nil })
	items(a, operation("GET", "announcements", PathAnnouncements, "What nodes announce or withhold, and why"),
		func(ctx context.Context, in *scopeInput) ([]NodeAnnouncements, error) {
			out := full(b.Announcements(ctx, in.Scope == ScopeCluster))
			for i := range out {
				out[i].Items = full(out[i].Items)
			}
			return out, nil
		})
	serve(a, operation("GET", "explain", PathExplain+"/{address}", "Why an address is announced, or not"),
		func(ctx context.Context, in *addressInput) (Explanation, error) {
			addr, err := netip.ParseAddr(in.Address)
			if err != nil || addr.Zone() != "" {
				return Explanation{}, usage("address", in.Address, "it is not an IP address without a zone", "give one such as 192.0.2.10")
			}
			x, err := b.Explain(ctx, addr.Unmap())
			x.Lines = full(x.Lines)
			return x, err
		})
}

func routeWrites(a huma.API, b Backend) {
	serve(a, operation("POST", "command", PathCommand, "Decide a command, append its events, wait for the nodes"),
		func(ctx context.Context, in *input[Request]) (Result, error) {
			if in.Body.Wait < 0 || in.Body.Wait > MaxWait {
				return Result{}, usage("wait", "wait_ns", "it is not between 0 and "+MaxWait.String(), "wait for less")
			}
			cmd, err := DecodeCommand(in.Body.Verb, in.Body.Args)
			if err == nil {
				err = authorize(ctx, b, commandNeeds(cmd))
			}
			if err != nil {
				return Result{}, err
			}
			res, err := b.Execute(ctx, callerOf(ctx), in.Body)
			res.Events = full(res.Events)
			return res, err
		})
	fact := operation("POST", "record-fact", PathFacts, "Put a drill's fact into this node's journal")
	fact.DefaultStatus = http.StatusNoContent
	huma.Register(a, fact, func(ctx context.Context, in *input[FactRequest]) (*nothing, error) {
		if err := b.RecordFact(ctx, callerOf(ctx), in.Body); err != nil {
			return nil, AsError(err)
		}
		return &nothing{}, nil
	})
}

// MaxWait bounds how long a command may wait for the nodes.
const MaxWait = time.Hour
