package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Bounds of a server.
const (
	// MaxInFlight is how many requests one front works on at a time, streams
	// included; more are told to come back.
	MaxInFlight = 64
	// headerBound is how long the header of a request may take.
	headerBound = 5 * time.Second
	// idleBound is how long a connection may wait for its next request.
	idleBound = 2 * time.Minute
	// StopBound is how long requests may go on after a front was told to stop.
	StopBound = 5 * time.Second
	// abortBound is how long requests may take to notice that they were cancelled.
	abortBound = 2 * time.Second
	maxHeader  = 64 << 10 // bytes
)

// front is one way to reach a handler.
type front struct {
	name string // unix, tcp
	// conn adds to a connection's context what identify needs.
	conn func(context.Context, net.Conn) context.Context
	// identify says who asks, or why it may not.
	identify func(*http.Request) (Caller, error)
}

// run serves until ctx ends, then lets requests finish: new ones are not taken,
// streams end at once, commands get [StopBound]. It owns ln. It returns when
// no request is left, nil after an orderly stop.
func (f front) run(ctx context.Context, ln net.Listener, h http.Handler, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log = log.With("front", f.name, "address", ln.Addr().String())
	base, abort := context.WithCancel(context.WithValue(context.WithoutCancel(ctx), stoppingKey{}, ctx))
	defer abort()
	slots := make(chan struct{}, MaxInFlight)
	srv := &http.Server{
		Handler: f.gate(slots, h, log), ReadHeaderTimeout: headerBound, IdleTimeout: idleBound, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return base }, ConnContext: f.conn,
		ErrorLog: slog.NewLogLogger(log.With("event", "api.server").Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	log.InfoContext(ctx, "serving", "event", "api.serving", "reason", "start")
	select {
	case err := <-served:
		_ = srv.Close() // ends what is still open; the error of Serve is the news
		abort()
		return errors.Join(err, drain(slots, abortBound))
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), StopBound)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		log.WarnContext(ctx, "requests are cut off", "event", "api.stop", "reason", err.Error())
		_ = srv.Close() // whoever is left is cut off; that was said
	}
	<-served
	abort()
	if err := drain(slots, abortBound); err != nil {
		return err
	}
	log.InfoContext(ctx, "stopped", "event", "api.stop", "reason", "asked to")
	return nil
}

// gate lets in who may, as long as there is room.
func (f front) gate(slots chan struct{}, h http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			(&Error{
				Class: ClassUnavailable, Code: "busy", What: "the request", Why: "the agent works on as many requests as it takes at a time",
				Fix: "repeat it in a moment, or close some that follow events",
			}).write(w)
			return
		}
		who, err := f.identify(r)
		if err != nil {
			log.WarnContext(r.Context(), "caller denied", "event", "api.denied", "reason", err.Error(), "remote", r.RemoteAddr, "path", r.URL.Path)
			AsError(err).write(w)
			return
		}
		ctx := context.WithValue(WithCaller(r.Context(), who), stillKey{}, func() error { _, err := f.identify(r); return err })
		h.ServeHTTP(w, r.WithContext(ctx))
	})
}

// drain waits until every slot is free, and keeps them, so that nothing begins
// any more.
func drain(slots chan struct{}, bound time.Duration) error {
	timer := time.NewTimer(bound)
	defer timer.Stop()
	for range cap(slots) {
		select {
		case slots <- struct{}{}:
		case <-timer.C:
			return errors.New("a request went on after it was cancelled")
		}
	}
	return nil
}
