package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"

	"dyad/cluster/config"
	"dyad/cluster/etcdnode"
	"dyad/cluster/identity"
	"dyad/cluster/node/backup"
	"dyad/cluster/quorum"
	"dyad/eventlog"
	"dyad/eventlog/etcdlog"
	"dyad/eventlog/segment"
	"dyad/projections"
)

const (
	// epochLeap is how far a restored log's epoch is ahead of the backup's: more
	// changes of writers than the old cluster can have had since.
	epochLeap = 1000
	// restoreMark lies in the data directory while a restore is under way.
	restoreMark = "restore.partial"
	// restoreBound bounds the start of the store.
	restoreBound = time.Minute
	lockFile     = "lock" // of cluster/etcdnode; it comes with taking the directory
)

// RestoreOptions say how to restore.
type RestoreOptions struct {
	Release string
	// From is the node the backup must be of; empty: the configured one.
	From string
	Now  func() time.Time
	// Actor is who restores.
	Actor eventlog.Actor
	// Progress is called with how far it is, in events.
	Progress func(done, of eventlog.Seq)
	// Exe, StoreArgs and Log are as in Options.
	Exe       string
	StoreArgs []string
	Log       *slog.Logger
}

// restoring is a restore under way.
type restoring struct {
	c config.Config
	o RestoreOptions
	f *backup.File

	id       *identity.Store
	segments *segment.Store
	streams  map[string]uint64 // as of the events so far
	state    projections.State // as of the events so far
	next     etcdnode.State
}

// Restore makes this node the only one of a new cluster that goes on where the
// backup ends: every event with its sequence, hash and bytes, and then an
// epoch.started of a new epoch with the backup's head as evidence.
//
// The cluster gets a new ID, a new authority and new keys, also if the backup has
// the old ones: nodes of the old cluster that still live can neither join it, nor
// hear it, nor take its store for theirs. People's certificates are issued anew.
//
// The data directory must be empty. A restore that was broken off can be
// repeated; node.state comes last, so no agent starts on half of one.
func Restore(ctx context.Context, c config.Config, f *backup.File, o RestoreOptions) (etcdnode.State, error) {
	r := &restoring{c: c, o: o, f: f, streams: map[string]uint64{}}
	want := o.From
	if want == "" {
		want = c.Node
	}
	if f.Manifest.Node != want {
		return r.next, fmt.Errorf("the backup is of %s, and this node is %s\n  try: --node %s, if this node is to take its place",
			f.Manifest.Node, c.Node, f.Manifest.Node)
	}
	if f.Manifest.Events == 0 {
		return r.next, errors.New("the backup holds no event\n  try: dyad init")
	}
	unlock, err := prepareEmpty(c)
	if err != nil {
		return r.next, err
	}
	defer unlock()
	r.next = etcdnode.State{
		Release: o.Release, Cluster: uuid.NewString(), Node: c.Node, Mode: quorum.Solo,
		Epoch: f.Manifest.Epoch + epochLeap, Members: map[string]string{c.Node: peerURL(c)},
	}
	if c.Store.External() {
		r.next.Mode, r.next.External, r.next.Members, r.next.Epoch = quorum.External, c.Store.Prefix, nil, 0
	}
	if err := tryExternal(ctx, c, r.next.Cluster, false); err != nil {
		return r.next, err
	}
	if r.id, err = identity.Create(r.next.Cluster, identityOptions(c)); err != nil {
		return r.next, fmt.Errorf("the identity of this node can't be written: %w\n  try: free some space, then restore again", err)
	}
	if r.segments, err = segment.Open(segmentsDir(c)); err != nil {
		return r.next, err
	}
	if err := r.withStore(ctx, r.fill); err != nil {
		return r.next, err
	}
	return r.next, r.finish()
}

// prepareEmpty takes an empty data directory, or one with what an earlier
// restore left.
func prepareEmpty(c config.Config) (unlock func(), err error) {
	release, err := prepare(c)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	mark := filepath.Join(c.DataDir, restoreMark)
	_, err = os.Lstat(mark)
	begun := err == nil
	entries, err := os.ReadDir(c.DataDir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Name() == restoreMark || e.Name() == lockFile {
			continue
		}
		if !begun {
			return nil, fmt.Errorf("%s is not empty: it has %s\n  try: move what is there away; restore never writes over anything", c.DataDir, e.Name())
		}
		if err := os.RemoveAll(filepath.Join(c.DataDir, e.Name())); err != nil {
			return nil, err
		}
	}
	return release, os.WriteFile(mark, []byte("A restore was begun and has not ended. Run it again.\n"), 0o600)
}

// withStore runs the store, a new and empty one at first, while do works on it.
func (r *restoring) withStore(ctx context.Context, do func(context.Context, *etcdlog.Log) error) error {
	if r.c.Store.External() {
		return withExternal(r.c, r.next.Cluster, func(log *etcdlog.Log) error { return r.intoExternal(ctx, log, do) })
	}
	sup, err := etcdnode.Start(context.Background(), etcdnode.SupervisorConfig{
		Exe: r.o.Exe, Args: r.o.StoreArgs, Log: r.o.Log,
		Serve: etcdnode.ServeConfig{
			Name: r.c.Node, Dir: storeDir(r.c), PeerURL: peerURL(r.c), ClientURL: clientURL(r.c), Cluster: r.next.Cluster,
			Members: r.next.Members, Quota: int64(r.c.Retention.QuotaMiB) << 20,
			TLS: storeTLS(identityDir(r.c), r.next.Cluster),
		},
	})
	if err != nil {
		return err
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.Background(), closeBound)
		defer cancel()
		sup.Stop(stop)
	}()
	bounded, cancel := context.WithTimeout(ctx, restoreBound)
	defer cancel()
	if err := sup.WaitReady(bounded); err != nil {
		return fmt.Errorf("%w\n  try: see that ports %d and %d are free, and --config", err, r.c.Ports.StorePeer, r.c.Ports.StoreClient)
	}
	return r.work(ctx, do)
}

// intoExternal drops what a restore that fails has put into the store: the next
// attempt has another cluster ID, and would not come by it.
func (r *restoring) intoExternal(ctx context.Context, log *etcdlog.Log, do func(context.Context, *etcdlog.Log) error) error {
	err := do(ctx, log)
	if err == nil {
		return nil
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeBound)
	defer cancel()
	return errors.Join(err, log.ImportUndo(undo))
}

func (r *restoring) work(ctx context.Context, do func(context.Context, *etcdlog.Log) error) error {
	cc := etcdlog.ClientConfig(clientURL(r.c))
	cc.TLS = r.id.ClientTLS()
	client, err := clientv3.New(cc)
	if err != nil {
		return err
	}
	log, err := etcdlog.Open(client, etcdlog.Options{Clock: r.o.Now})
	if err == nil {
		err = do(ctx, log)
	}
	if log != nil {
		log.Close()
	}
	return errors.Join(err, client.Close())
}

// fill puts old events into sealed segments and the rest into the store.
func (r *restoring) fill(ctx context.Context, log *etcdlog.Log) error {
	head, based := r.f.Manifest.Head, false
	hot := eventlog.Seq(r.c.Retention.HotEvents)
	err := r.f.Segments(func(h segment.Header, content []byte) error {
		run, err := runOf(content)
		if err != nil {
			return err
		}
		if !based && h.Last+hot <= head.Seq {
			_, err = r.segments.Add(content)
		} else {
			if !based {
				based, err = true, log.ImportBase(ctx, r.segments.End(), r.streams)
			}
			if err == nil {
				err = log.Import(ctx, run)
			}
		}
		for _, e := range run {
			r.streams[e.Stream] = e.StreamRev
		}
		r.state = projections.Fold(r.state, run...)
		r.o.Progress(h.Last, head.Seq)
		return err
	})
	if err != nil {
		return err
	}
	if err := log.ImportDone(ctx, head); err != nil {
		return err
	}
	return r.begin(ctx, log)
}

func runOf(content []byte) ([]eventlog.Envelope, error) {
	run := make([]eventlog.Envelope, 0, segment.Events)
	_, err := segment.Scan(bytes.NewReader(content), func(e eventlog.Envelope, _ int64) error { run = append(run, e); return nil })
	return run, err
}

// begin starts the new epoch. The other nodes are taken out: they belong to the
// old cluster, and have to join this one.
func (r *restoring) begin(ctx context.Context, log *etcdlog.Log) error {
	m := r.f.Manifest
	planner := projections.NewPlanner(r.state)
	start := projections.StartEpoch{
		Epoch: m.Epoch + epochLeap, Mode: string(r.next.Mode), Writers: []string{r.c.Node}, Cluster: r.next.Cluster,
	}
	if r.c.Store.External() {
		start.Writers = []string{}
	}
	cmds := []projections.Command{start}
	if v := r.state.Voter.Name; v != "" {
		cmds = append(cmds, projections.RemoveVoter{Name: v})
	}
	// The replaced one goes first, as one node has to stay.
	names := slices.DeleteFunc(r.state.NodeNames(), func(n string) bool { return n == r.c.Node || n == m.Node })
	if m.Node != r.c.Node {
		names = append([]string{m.Node}, names...)
	}
	left := len(r.state.Nodes)
	for _, n := range names {
		if _, known := r.state.Nodes[n]; known && left > 1 {
			cmds = append(cmds, projections.RemoveNode{Name: n})
			left--
		}
	}
	evidence, err := json.Marshal(map[string]any{"restored": map[string]any{
		"cluster": m.Cluster, "node": m.Node, "head": m.Head, "backup_time": m.Time, "release": m.Release,
	}})
	if err != nil {
		return err
	}
	correlation := uuid.Must(uuid.NewV7()).String()
	var drafts []eventlog.Draft
	for _, c := range cmds {
		ds, err := planner.Decide(c)
		if err != nil {
			return fmt.Errorf("the restored log does not take a new epoch: %w", err)
		}
		for _, d := range ds {
			d.ID, d.Actor, d.Correlation, d.Evidence = uuid.Must(uuid.NewV7()).String(), r.o.Actor, correlation, evidence
			d.Source = eventlog.Source{Node: r.c.Node, Address: r.c.Address, Interface: "cli", Client: "dyad/" + r.o.Release}
			d.Reason = "restore of the backup of " + m.Time.UTC().Format(time.RFC3339)
			drafts = append(drafts, d)
		}
	}
	seq := m.Head.Seq
	_, err = log.Append(ctx, eventlog.Batch{Drafts: drafts, ExpectedHead: &seq, Epoch: m.Head.Epoch})
	return err
}

// finish writes node.state, and last takes the mark away.
func (r *restoring) finish() error {
	if err := etcdnode.SaveState(r.c.DataDir, r.next); err != nil {
		return err
	}
	return os.Remove(filepath.Join(r.c.DataDir, restoreMark))
}
