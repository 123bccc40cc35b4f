package cli

import (
	"context"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"dyad/cluster/api"
	"dyad/cluster/config"
	"dyad/cluster/identity"
)

// Client asks the agent on --socket, or the one at --agent. Call it when a
// command runs, not before: the flags are read then.
func (e *Env) Client() *api.Client {
	of := strings.Join([]string{e.Socket, e.Address, e.Cert, e.Key, e.CA}, "\x00")
	if e.client == nil || e.clientOf != of {
		o := api.ClientOptions{Socket: e.Socket, Timeout: e.Timeout}
		if e.Address != "" {
			o.Address, o.TLS = WithPort(e.Address, config.Default().Ports.API), e.tls
		}
		e.client, e.clientOf = api.NewClient(o), of
	}
	return e.client
}

// WithPort is host:port of an address that may lack the port.
func WithPort(address string, port int) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), strconv.Itoa(port))
}

// loadCertificate reads what the caller shows to an agent elsewhere.
func (e *Env) loadCertificate() error {
	if e.Address == "" {
		return nil
	}
	var err error
	if e.tls, err = e.files().Load(); err != nil {
		return Usage("--agent "+e.Address, "it takes a certificate: "+err.Error(),
			"have an admin run: dyad cert issue NAME --role ROLE --out DIR; then give --cert, --key and --ca, or put the files into ~/.config/dyad")
	}
	return nil
}

// files are those of the flags, or else this node's if they can be read, or else
// the user's.
func (e *Env) files() identity.ClientFiles {
	if e.Cert != "" {
		return identity.ClientFiles{Cert: e.Cert, Key: e.Key, CA: e.CA}
	}
	dir := e.Getenv("DYAD_DATA_DIR")
	if dir == "" {
		dir = config.Default().DataDir
	}
	if f := identity.NodeFiles(identity.DirIn(dir)); f.Readable() {
		return f
	}
	home := e.Getenv("XDG_CONFIG_HOME")
	if home == "" {
		home = filepath.Join(e.Getenv("HOME"), ".config")
	}
	return identity.UserFiles(filepath.Join(home, "dyad"))
}

// Close ends the connections of the client, if there is one.
func (e *Env) Close() {
	if e.client != nil {
		e.client.Close()
		e.client = nil
	}
}

// agent is how the agent is called in messages.
func (e *Env) agent() string {
	if e.Address != "" {
		return e.Address
	}
	return e.Socket
}

// Ask runs one question, bounded by --timeout; stderr says what is asked if it
// takes long.
func Ask[T any](ctx context.Context, e *Env, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := e.Bound(ctx)
	defer cancel()
	defer e.Progress(ctx, "asking the agent at "+e.agent())()
	return ask(ctx)
}
