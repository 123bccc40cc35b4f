package gobgprouter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	gobgpapi "github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// Sessions is the state of the session with each peer.
func (r *Router) Sessions(ctx context.Context) (map[netip.Addr]string, error) {
	out := map[netip.Addr]string{}
	err := r.bgp.ListPeer(ctx, &gobgpapi.ListPeerRequest{}, func(p *gobgpapi.Peer) {
		a, err := netip.ParseAddr(p.GetState().GetNeighborAddress())
		if err != nil {
			return
		}
		name := strings.TrimPrefix(p.GetState().GetSessionState().String(), "SESSION_STATE_")
		out[a] = name[:1] + strings.ToLower(name[1:])
	})
	if err != nil {
		return nil, fmt.Errorf("list peers: %w", err)
	}
	return out, nil
}

// Show is the table as text: every path, the ones in use marked.
func (r *Router) Show(ctx context.Context) (string, error) {
	sessions, err := r.Sessions(ctx)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for a, s := range sessions {
		_, _ = fmt.Fprintf(w, "peer %s\t%s\n", a, s)
	}
	_, _ = fmt.Fprintln(w, "\n  Network\tNext Hop\tOrigin\tPath length\tMetric\tFrom")
	used := r.Table()
	for _, f := range []bgp.Family{bgp.RF_IPv4_UC, bgp.RF_IPv6_UC} {
		req := apiutil.ListPathRequest{TableType: gobgpapi.TableType_TABLE_TYPE_GLOBAL, Family: f}
		err := r.bgp.ListPath(req, func(n bgp.NLRI, ps []*apiutil.Path) {
			p, _ := netip.ParsePrefix(n.String())
			for _, path := range ps {
				showPath(w, p, path, used[p])
			}
		})
		if err != nil {
			return "", fmt.Errorf("list paths: %w", err)
		}
	}
	err = w.Flush()
	return b.String(), err
}

func showPath(w *tabwriter.Writer, p netip.Prefix, path *apiutil.Path, used []netip.Addr) {
	for _, rt := range routes([]*apiutil.Path{path}) {
		mark := " "
		for _, u := range used {
			if u == rt.NextHop {
				mark = "*"
			}
		}
		origin := map[uint8]string{0: "i", 1: "e", 2: "?"}[rt.Origin]
		_, _ = fmt.Fprintf(w, "%s %s\t%s\t%s\t%d\t%d\t%s\n", mark, p, rt.NextHop, origin, rt.Length, rt.MED, path.PeerAddress)
	}
}

// readTimeout bounds reading one question.
const readTimeout = 5 * time.Second

// Serve answers /sessions (JSON) and /show (text) on a unix socket until ctx
// ends.
func (r *Router) Serve(ctx context.Context, socket string) error {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the old socket: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /sessions", func(w http.ResponseWriter, q *http.Request) {
		s, err := r.Sessions(q.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(s)
	})
	mux.HandleFunc("GET /show", func(w http.ResponseWriter, q *http.Request) {
		text, err := r.Show(q.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprint(w, text)
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: readTimeout}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
