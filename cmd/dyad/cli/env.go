package cli

import (
	"context"
	"crypto/tls"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dyad/cluster/api"
)

// Version is this build's release; the linker sets it.
var Version = "dev"

// Defaults of the global flags.
const (
	DefaultSocket  = "/run/dyad/dyad.sock"
	DefaultTimeout = 15 * time.Second
	// MaxTimeout bounds --timeout.
	MaxTimeout = time.Hour
)

// The values of --output.
const (
	Table = "table"
	Wide  = "wide"
	JSON  = "json"
	YAML  = "yaml"
	Name  = "name"
)

// Outputs lists the values of --output.
var Outputs = []string{Table, Wide, JSON, YAML, Name}

// Env is the world a command sees, and the global flags. Tests make their own.
type Env struct {
	In     io.Reader
	Out    io.Writer // the answer
	Err    io.Writer // everything else
	Getenv func(string) string
	Now    func() time.Time
	// Terminal is true if Out is one: bold headers and relative times.
	Terminal bool

	Socket string // of the agent
	// Address is host or host:port of an agent elsewhere (--agent); it goes before
	// Socket.
	Address       string
	Cert, Key, CA string // files of the caller's certificate, for Address
	Output        string // table, wide, json, yaml, name
	Watch         bool   // repeat the answer whenever it changes
	DryRun        bool   // decide, append nothing
	Reason        string // why, in the operator's words
	// Timeout bounds a question, and how long a change waits for the nodes.
	Timeout time.Duration
	NoWait  bool // do not wait for the nodes

	client   *api.Client
	clientOf string // what the client was made from
	tls      *tls.Config
}

// NewEnv is the process's own environment.
func NewEnv() *Env {
	e := &Env{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Now: time.Now}
	if st, err := os.Stdout.Stat(); err == nil {
		e.Terminal = st.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	}
	e.defaults()
	return e
}

func (e *Env) defaults() {
	e.Socket, e.Output, e.Timeout = DefaultSocket, Table, DefaultTimeout
	if s := e.Getenv("DYAD_SOCKET"); s != "" {
		e.Socket = s
	}
	e.Address, e.Cert, e.Key, e.CA = e.Getenv("DYAD_AGENT"), e.Getenv("DYAD_CERT"), e.Getenv("DYAD_KEY"), e.Getenv("DYAD_CA")
}

// AddGlobals puts the global flags on the root command and has them checked
// before any command runs.
func (e *Env) AddGlobals(root *cobra.Command) {
	e.defaults()
	e.addFlags(root.PersistentFlags())
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return e.CheckGlobals() }
	// Completion of a flag's value only fails for a flag that does not exist.
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(Outputs, cobra.ShellCompDirectiveNoFileComp))
}

func (e *Env) addFlags(f *pflag.FlagSet) {
	f.StringVar(&e.Socket, "socket", e.Socket, "the agent's `PATH` (DYAD_SOCKET)")
	f.StringVar(&e.Address, "agent", e.Address, "ask the agent at `HOST[:PORT]` instead, with a certificate (DYAD_AGENT)")
	f.StringVar(&e.Cert, "cert", e.Cert, "`FILE` of the certificate for --agent (DYAD_CERT); default: this node's, or ~/.config/dyad/client.crt")
	f.StringVar(&e.Key, "key", e.Key, "`FILE` of its key (DYAD_KEY)")
	f.StringVar(&e.CA, "ca", e.CA, "`FILE` of the cluster's authority (DYAD_CA)")
	f.StringVarP(&e.Output, "output", "o", e.Output, "`FORMAT`: table, wide, json, yaml or name")
	f.BoolVarP(&e.Watch, "watch", "w", false, "repeat the answer whenever it changes, until interrupted")
	f.BoolVar(&e.DryRun, "dry-run", false, "show what a change would lead to, and change nothing")
	f.StringVar(&e.Reason, "reason", "", "`TEXT` that says why; it goes into every event")
	f.DurationVar(&e.Timeout, "timeout", e.Timeout, "bounds a question, and the wait for both nodes after a change")
	f.BoolVar(&e.NoWait, "no-wait", false, "return as soon as a change is in the log")
}

// maxReason bounds --reason, in bytes: it stands in every event.
const maxReason = 1024

// CheckGlobals refuses values of global flags that make no sense.
func (e *Env) CheckGlobals() error {
	ok := false
	for _, o := range Outputs {
		ok = ok || o == e.Output
	}
	switch {
	case !ok:
		return Usage("-o "+e.Output, "there is no such output format", "use one of: table, wide, json, yaml, name")
	case e.Timeout <= 0 || e.Timeout > MaxTimeout:
		return Usage("--timeout "+e.Timeout.String(), "a timeout is more than 0 and at most 1h", "leave it out for 15s")
	case (e.Cert == "") != (e.Key == "") || (e.Cert == "") != (e.CA == ""):
		return Usage("--cert", "--cert, --key and --ca are given together or not at all", "leave them out to use this node's, or those in ~/.config/dyad")
	case len(e.Reason) > maxReason:
		return Usage("--reason", "it is longer than 1024 bytes", "name a ticket, and put the story there")
	}
	return e.loadCertificate()
}

// Bound is ctx with the time that --timeout gives a question.
func (e *Env) Bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, e.Timeout)
}
