package witness

import (
	"cmp"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	client "dyad/cluster/witness"
	"dyad/cluster/witness/server"
	"dyad/cmd/dyad/cli"
)

// Defaults of serve and list.
const (
	defaultListen = ":7990"
	defaultData   = "/var/lib/dyad-witness"
)

type serveOptions struct {
	listen, data, cert, key string
	allowNew, tokenFile     string
	maxClusters             int
	logFormat               string
}

func serve(env *cli.Env) *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Be a witness for any number of clusters",
		Long: `serve answers clusters until it gets SIGTERM or SIGINT. It keeps a few hundred
bytes for each in --data, and answers a change after it is on disk. A client is
known by its cluster's certificate, so nothing is configured for a cluster. Without
--cert it makes a certificate of its own; the fingerprint to give to the clusters
is printed at the start.`,
		Example: "  dyad witness serve\n" +
			"  dyad witness serve --listen 192.0.2.1:7990 --data /var/lib/dyad-witness --allow-new token --token-file ./token",
		Args: cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error { return runServe(env, cmd, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", defaultListen, "`ADDRESS` to listen on, [HOST]:PORT")
	f.StringVar(&o.data, "data", defaultData, "`DIR` that holds the claims")
	f.StringVar(&o.cert, "cert", "", "certificate in PEM; default: one of its own in --data")
	f.StringVar(&o.key, "key", "", "its key in PEM")
	f.IntVar(&o.maxClusters, "max-clusters", server.DefaultMaxClusters, "how many clusters are taken, 1–1000000")
	f.StringVar(&o.allowNew, "allow-new", string(server.AllowOpen), "which clusters may register: open, token or closed")
	f.StringVar(&o.tokenFile, "token-file", "", "`FILE` with the token that --allow-new token wants")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	cli.CompleteWords(cmd, "allow-new", string(server.AllowOpen), string(server.AllowToken), string(server.AllowClosed))
	cli.CompleteWords(cmd, "log-format", "text", "json")
	return cmd
}

// maxClustersBound keeps what a witness holds in memory below 1 GiB.
const maxClustersBound = 1_000_000

func runServe(env *cli.Env, cmd *cobra.Command, o serveOptions) (err error) {
	if o.maxClusters < 1 || o.maxClusters > maxClustersBound {
		return cli.Usage("--max-clusters "+strconv.Itoa(o.maxClusters), "it is not 1–1000000", "leave it out for 10000")
	}
	if o.allowNew == string(server.AllowToken) && o.tokenFile == "" {
		return cli.Usage("--allow-new token", "there is no token", "--token-file FILE")
	}
	so := server.Options{AllowNew: server.AllowNew(o.allowNew), Release: cli.Version, Log: slog.New(slog.NewTextHandler(env.Err, nil))}
	if o.logFormat == "json" {
		so.Log = slog.New(slog.NewJSONHandler(env.Err, nil))
	}
	switch so.AllowNew {
	case server.AllowOpen, server.AllowToken, server.AllowClosed:
	default:
		return cli.Usage("--allow-new "+o.allowNew, "it is not open, token or closed", "leave it out for open")
	}
	if o.tokenFile != "" {
		if so.Token, err = readToken(o.tokenFile); err != nil {
			return err
		}
	}
	store, err := server.OpenStore(o.data, o.maxClusters)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if so.Certificate, err = server.Certificate(o.data, o.cert, o.key, time.Now()); err != nil {
		why, fix, _ := strings.Cut(err.Error(), "\n  try: ")
		return cli.Usage("witness serve", why, cmp.Or(fix, "--cert FILE --key FILE, or neither"))
	}
	ln, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	if err := env.Line("%s", advertised(ln.Addr(), client.Fingerprint(so.Certificate.Certificate[0]))); err != nil {
		_ = ln.Close()
		return err
	}
	env.Note("on each cluster: dyad witness add URL, with the host that the nodes reach this machine by")
	return server.Serve(cmd.Context(), ln, store, so)
}

// advertised is the URL for the clusters; HOST where this machine can't know it.
func advertised(a net.Addr, fingerprint string) string {
	host, port, err := net.SplitHostPort(a.String())
	if ip := net.ParseIP(host); err != nil || ip == nil || ip.IsUnspecified() {
		host = "HOST"
	}
	return "https://" + net.JoinHostPort(host, port) + "#" + fingerprint
}
