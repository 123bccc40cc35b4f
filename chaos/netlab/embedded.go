package netlab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// embedded runs the router that is part of the dyad binary, as a process of
// its own, and talks to it over a unix socket.
type embedded struct{ c RouterConfig }

// Files of the embedded router in RouterConfig.Dir.
const (
	routerConfigFile  = "router.json"
	routerSocketFile  = "router.sock"
	routerProcessFile = "router.pid.json"
	routerLogFile     = "router.log"
)

func (e *embedded) Kind() string { return KindGoBGP }

func (e *embedded) path(name string) string { return filepath.Join(e.c.Dir, name) }

// Socket is where the embedded router of that configuration answers.
func (c RouterConfig) Socket() string { return filepath.Join(c.Dir, routerSocketFile) }

func (e *embedded) Start(ctx context.Context) error {
	b, err := json.MarshalIndent(e.c, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the router's configuration: %w", err)
	}
	if err := os.WriteFile(e.path(routerConfigFile), b, 0o644); err != nil {
		return fmt.Errorf("write the router's configuration: %w", err)
	}
	p, err := Detach(e.c.NS, exec.Command(e.c.Binary, "lab", "router", "--config", e.path(routerConfigFile)), e.path(routerLogFile))
	if err != nil {
		return err
	}
	if err := p.Save(e.path(routerProcessFile)); err != nil {
		return errors.Join(err, p.Stop(0))
	}
	err = poll(settleLimit, "the embedded router to listen", func() (bool, error) {
		if !p.Alive() {
			return false, fmt.Errorf("the embedded router ended; its log: %s", e.path(routerLogFile))
		}
		_, err := e.Sessions(ctx)
		return err == nil, ctx.Err()
	})
	return err
}

func (e *embedded) Stop(context.Context) error {
	var errs []error
	if p, err := LoadProcess(e.path(routerProcessFile)); err == nil {
		errs = append(errs, p.Stop(routerGrace))
	}
	if Exists(e.c.NS) {
		errs = append(errs, flushRoutes(e.c.NS))
	}
	return errors.Join(errs...)
}

// routerAnswer bounds one question to the embedded router.
const routerAnswer = 5 * time.Second

func (e *embedded) get(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, routerAnswer)
	defer cancel()
	tr := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", e.c.Socket())
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://router"+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the embedded router: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxRouterAnswer))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("the embedded router: %s: %s", res.Status, b)
	}
	return b, err
}

// maxRouterAnswer bounds what is read of one answer, in bytes.
const maxRouterAnswer = 64 << 20

func (e *embedded) Sessions(ctx context.Context) (map[netip.Addr]string, error) {
	b, err := e.get(ctx, "/sessions")
	if err != nil {
		return nil, err
	}
	out := map[netip.Addr]string{}
	return out, json.Unmarshal(b, &out)
}

func (e *embedded) Show(ctx context.Context) (string, error) {
	b, err := e.get(ctx, "/show")
	return string(b), err
}

func (e *embedded) ShowCommand() string { return "dyad lab router-show" }
