package cli

import (
	"context"

	"dyad/cluster/api"
)

// Client asks the agent on --socket. Call it when a command runs, not before:
// the flags are read then.
func (e *Env) Client() *api.Client {
	if e.client == nil || e.clientSocket != e.Socket {
		e.client, e.clientSocket = api.NewClient(api.ClientOptions{Socket: e.Socket, Timeout: e.Timeout}), e.Socket
	}
	return e.client
}

// Close ends the connections of the client, if there is one.
func (e *Env) Close() {
	if e.client != nil {
		e.client.Close()
		e.client = nil
	}
}

// Ask runs one question, bounded by --timeout; stderr says what is asked if it
// takes long.
func Ask[T any](ctx context.Context, e *Env, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := e.Bound(ctx)
	defer cancel()
	defer e.Progress(ctx, "asking the agent at "+e.Socket)()
	return ask(ctx)
}
