package torture

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	clientv3 "go.etcd.io/etcd/client/v3"

	"dyad/cluster/etcdnode"
)

// Stores runs a pair of stores with raft's default timers as long as use runs,
// which gets a client of the leader.
func Stores(ctx context.Context, o Options, use func(context.Context, *clientv3.Client) error) (err error) {
	o = o.withDefaults()
	o.Heartbeat, o.Election = etcdnode.DefaultHeartbeat, etcdnode.DefaultElection
	dir := filepath.Join(o.Dir, "stores")
	p := &pair{o: o, ledger: newLedger(), result: &Result{}}
	defer func() {
		p.close()
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	if err := p.form(ctx, dir); err != nil {
		return err
	}
	for _, n := range p.nodes {
		if n.leads(ctx) {
			return use(ctx, n.client)
		}
	}
	return errors.New("neither store leads")
}
