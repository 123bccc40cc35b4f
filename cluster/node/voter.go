package node

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"dyad/cluster"
	"dyad/cluster/api"
	"dyad/cluster/etcdnode"
	"dyad/cluster/quorum"
	"dyad/eventlog"
	"dyad/projections"
	"dyad/speaker"
)

const (
	// voterLook is how often a voter looks at its store, voterRoom how often at the
	// size of its file, and voterBound is for one look.
	voterLook  = 500 * time.Millisecond
	voterRoom  = 5 * time.Second
	voterBound = 2 * time.Second
)

// voter is a machine that only holds the third vote: a member of the store,
// certificates, and an API that says how it is. It reads no event, takes nothing
// over, and announces nothing.
type voter struct {
	*process
	started time.Time
	room    *etcdnode.Room

	mu     sync.Mutex
	status api.Status
	lost   string // why the store's process last ended; empty while it answers
}

// vote runs a voter until ctx ends.
func (p *process) vote(ctx context.Context) error {
	v := &voter{process: p, started: time.Now()}
	v.status = v.base()
	for _, step := range []struct {
		name string
		do   func() error
	}{{"store", v.startMember}, {"API", v.serveStatus}} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	p.opts.Log.Info("the voter runs", "event", "agent.started", "reason", "asked to start", "node", p.cfg.Node, "version", p.opts.Version)
	p.wg.Go(func() { p.id.Keep(ctx) })
	p.wg.Go(func() { every(ctx, voterRoom, v.makeRoom) })
	every(ctx, voterLook, v.look)
	p.wg.Wait()
	return nil
}

// every calls f at once and then after each pause, until ctx ends.
func every(ctx context.Context, pause time.Duration, f func(context.Context)) {
	t := time.NewTicker(pause)
	defer t.Stop()
	for ctx.Err() == nil {
		f(ctx)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
}

// startMember starts the store as it lies here.
//
// Invariant: a member that had a vote never votes again with an empty store: it
// would forget what it acknowledged.
func (v *voter) startMember() error {
	_, err := os.Stat(storeDir(v.cfg))
	switch gone := errors.Is(err, fs.ErrNotExist); {
	case gone && v.file.get().Mode != quorum.Joining:
		return fmt.Errorf("%s is gone, and with it what this voter acknowledged\n  try: put it back; or dyad node remove %s on a node, then dyad join --voter-only here with an empty data directory",
			storeDir(v.cfg), v.cfg.Node)
	case err != nil && !gone:
		return err
	}
	if err := v.ownStore(); err != nil {
		return err
	}
	if err := v.openLog(); err != nil {
		return err
	}
	v.room = etcdnode.NewRoom(v.client)
	sup, err := etcdnode.Start(context.Background(), etcdnode.SupervisorConfig{
		Exe: v.opts.Exe, Args: v.opts.StoreArgs, Log: v.opts.Log, Notify: v.storeTold, Serve: v.serve(),
	})
	if err != nil {
		return err
	}
	v.store = sup
	v.later(sup.Stop)
	return nil
}

func (v *voter) storeTold(up bool, why string) {
	if up {
		v.markStore()
		etcdnode.Reconnect(v.client)
		why = ""
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lost = why
}

// base is what a voter says of itself whatever its store does.
func (v *voter) base() api.Status {
	return api.Status{
		Node: v.cfg.Node, Version: v.opts.Version, Boot: v.boot, PID: os.Getpid(), Started: v.started,
		Cluster: v.file.get().Cluster, Mode: string(v.file.get().Mode), Why: "the store has not answered yet; try: wait a moment",
		View:   projections.View{Self: v.cfg.Node, Stance: projections.StanceSilent, Reason: projections.Reason{Code: "voter", Text: "it only holds a vote"}},
		Counts: map[string]int{}, Nodes: []eventlog.Node{}, Sessions: []speaker.Session{},
		Conditions: []api.Condition{},
	}
}

// look asks the store whether it can be written, and what this member is in it.
func (v *voter) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, voterBound)
	defer cancel()
	s := v.base()
	s.StorePID = v.store.PID()
	err := v.log.Reachable(ctx)
	if err == nil {
		err = v.note(ctx)
	}
	if err == nil {
		s.Head, err = v.log.Head(ctx)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	s.Mode = string(v.file.get().Mode)
	switch {
	case err == nil:
		s.Writable, s.Why, s.AsOf = s.Mode == string(quorum.Witnessed), "", time.Now()
		if !s.Writable {
			s.Why = "this voter is reading the log and has no vote yet; try: wait a moment"
		}
	case v.lost != "":
		s.Why = "the store does not run: " + v.lost + "; try: see the agent's log; a voter that was removed joins again with an empty data directory"
	default:
		s.Why = "fewer than two of the three voters answer: " + err.Error() + "; try: start dyad on another of them"
	}
	if s.Why != "" {
		s.Conditions = append(s.Conditions, api.Condition{Code: "log-not-writable", Severity: api.Critical, Text: s.Why, Affects: "this voter"})
	}
	v.status = s
}

// note writes into node.state what this member is: that decides whether it may
// begin with an empty store.
func (v *voter) note(ctx context.Context) error {
	members, err := etcdnode.Members(ctx, v.client)
	if err != nil {
		return err
	}
	mode := quorum.Joining
	for _, m := range members {
		if m.Name == v.cfg.Node && !m.Learner {
			mode = quorum.Witnessed
		}
	}
	return v.file.update(func(s *etcdnode.State) {
		if mode == quorum.Witnessed {
			s.Mode = mode
		}
		s.Members, s.Release = urls(members), v.opts.Version
	})
}

// makeRoom keeps the file of this member small, as the nodes do theirs.
func (v *voter) makeRoom(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	size, err := v.room.Size(ctx)
	switch {
	case err != nil:
		return // a store that does not answer shows elsewhere
	case size.NoSpace:
		if err = errors.Join(v.room.Compact(ctx), v.room.Defrag(ctx)); err == nil {
			err = v.room.Disarm(ctx)
		}
	case cluster.WorthDefrag(size) && size.Leader:
		err = v.room.HandOver(ctx)
	case cluster.WorthDefrag(size):
		err = v.room.Defrag(ctx)
	}
	if err != nil && ctx.Err() == nil {
		v.opts.Log.Warn("no room could be made in the store", "event", "store.room", "reason", err)
	}
}

// serveStatus serves the one question that a voter answers.
func (v *voter) serveStatus() error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.PathStatus, func(w http.ResponseWriter, _ *http.Request) {
		v.mu.Lock()
		s := v.status
		v.mu.Unlock()
		answer(w, http.StatusOK, map[string]any{"items": []api.NodeStatus{{Node: s.Node, Status: &s}}})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		e := &api.Error{
			Class: api.ClassRefused, Code: "voter", What: r.Method + " " + r.URL.Path, Why: v.cfg.Node + " only holds a vote",
			Fix: "ask a node: dyad --agent HOST …",
		}
		answer(w, e.GetStatus(), e)
	})
	local, err := api.ListenUnix(v.cfg.Socket)
	if err != nil {
		return err
	}
	remote, err := net.Listen("tcp", apiAddress(v.cfg))
	if err != nil {
		return errors.Join(err, local.Close())
	}
	// No token lets anybody in here.
	conf := v.id.ServerTLS(func(string) bool { return false })
	v.serveBoth(local, remote, conf, v.caller, mux)
	return nil
}

// caller names the caller at the other end of a connection.
func (v *voter) caller(cs tls.ConnectionState) (api.Caller, error) {
	peer, err := v.id.PeerOf(cs)
	return api.Caller{Actor: eventlog.Actor{Name: peer.Name, Auth: api.AuthCert}, Role: api.RoleViewer}, err
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}
