package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"dyad/cluster"
	"dyad/cluster/config"
	"dyad/cluster/quorum"
	"dyad/cluster/steward"
	"dyad/cluster/witness"
	"dyad/eventlog"
	"dyad/eventlog/etcdlog"
)

// Bounds of the questions to an external store.
const (
	// farBound is for one question, of which there are up to farTries while the
	// store does not answer: each goes to another endpoint.
	farBound = 700 * time.Millisecond
	farTries = 3
	// tryBound is for the one before init and join.
	tryBound = 5 * time.Second
)

// external tells whether the log lies in a store that others run.
func (p *process) external() bool { return p.cfg.Store.External() }

// externalLog is how the log of a cluster is reached in the external store. The
// cluster's ID is part of every key: clusters may share a store.
func externalLog(c config.Config, cluster string) (clientv3.Config, etcdlog.Options, error) {
	cc := etcdlog.ClientConfig(c.Store.Endpoints...)
	conf, err := witness.EtcdTLS(c.Store.CA, c.Store.Cert, c.Store.Key)
	if err != nil {
		return cc, etcdlog.Options{}, fmt.Errorf("the external store's certificates: %w\n  try: store.ca, store.cert and store.key in the configuration", err)
	}
	cc.TLS = conf
	return cc, etcdlog.Options{Prefix: c.Store.Prefix + cluster + "/", Shared: true}, nil
}

// withExternal opens the log of a cluster in the external store for a while.
func withExternal(c config.Config, cluster string, do func(*etcdlog.Log) error) error {
	cc, o, err := externalLog(c, cluster)
	if err != nil {
		return err
	}
	client, err := clientv3.New(cc)
	if err != nil {
		return err
	}
	log, err := etcdlog.Open(client, o)
	if err == nil {
		err = do(log)
		log.Close()
	}
	return errors.Join(err, client.Close())
}

// tryExternal tells, before anything is done, whether the external store takes
// writes from this node. With joined it must hold the cluster's log: otherwise the
// two nodes have different stores.
func tryExternal(ctx context.Context, c config.Config, cluster string, joined bool) error {
	if !c.Store.External() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, tryBound)
	defer cancel()
	return withExternal(c, cluster, func(log *etcdlog.Log) error {
		at := strings.Join(c.Store.Endpoints, ", ")
		if err := log.Writable(ctx); err != nil {
			return fmt.Errorf("the external store at %s can't be written: %w\n  try: etcdctl endpoint health there, and store: in the configuration", at, err)
		}
		if !joined {
			return nil
		}
		head, err := log.Newest(ctx)
		if err == nil && head.Seq == 0 {
			err = fmt.Errorf("the external store at %s does not hold the log of cluster %s below %s\n  try: the same store.endpoints and store.prefix on both nodes, then join again with the same token",
				at, cluster, c.Store.Prefix)
		}
		return err
	})
}

// otherStore says in words that a node and its log don't fit.
func otherStore(is, configured string) string {
	at := func(prefix string) string {
		if prefix == "" {
			return "a store of the nodes' own"
		}
		return "an external store below " + prefix
	}
	return fmt.Sprintf("the log is in %s, and %s is configured", at(is), at(configured))
}

// lastSeen is how far this node has read its log, as far as its checkpoint knows.
func lastSeen(c config.Config) eventlog.Seq {
	s, ok, err := cluster.FileCheckpoint{Path: checkpointPath(c)}.Load()
	if err != nil || !ok {
		return 0
	}
	return s.Head.Seq
}

// useExternal starts what keeps the log in the place of a store.
func (p *process) useExternal() {
	look := &farSenses{p: p}
	p.startSteward(look.look)
	p.agent.Attach(cluster.Attached{Quorum: p.steward})
}

// farSenses are what the steward looks with where the store is external. It is
// used by the steward's goroutine alone.
type farSenses struct {
	p        *process
	writable bool
	trouble  string
	probed   time.Time
}

// look implements [steward.Config].Look. What the log says of this node counts
// only when it was read to its end.
func (s *farSenses) look(ctx context.Context) steward.Reading {
	snap := s.p.agent.Snapshot()
	s.probe(ctx)
	r := steward.Reading{External: true, Authority: s.p.authority()}
	r.Log = quorum.LogSight{Writable: s.writable, Trouble: s.trouble}
	if st := snap.State; snap.Synced {
		r.Log.Epoch, r.Log.Mode = st.Head.Epoch, quorum.Mode(st.Mode)
		_, r.Log.Self = st.Nodes[s.p.cfg.Node]
	}
	return r
}

func (s *farSenses) probe(ctx context.Context) {
	if s.writable && time.Since(s.probed) < quietProbe {
		return
	}
	var err error
	for range min(len(s.p.cfg.Store.Endpoints), farTries) {
		pctx, cancel := context.WithTimeout(ctx, farBound)
		err = s.p.log.Writable(pctx)
		cancel()
		if err == nil {
			break
		}
	}
	s.probed, s.writable, s.trouble = time.Now(), err == nil, ""
	if err != nil {
		s.trouble = err.Error()
	}
}
