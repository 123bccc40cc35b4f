package node

import (
	"log/slog"
	"testing"

	"dyad/cluster/config"
	"dyad/cluster/etcdnode"
	"dyad/cluster/quorum"
)

// A witness's word stands at a start. An operator's does not, and where the store
// can't be read the node has no vote.
func TestVoidGrant(t *testing.T) {
	for by, want := range map[quorum.Authority]quorum.Record{
		quorum.ByWitness:  {Mode: quorum.Pair, Epoch: 3, Step: quorum.Granted, Next: 4, By: quorum.ByWitness},
		quorum.ByOperator: {Mode: quorum.Stale, Epoch: 3},
	} {
		dir := t.TempDir()
		state := etcdnode.State{Node: "node-a", Cluster: "c"}
		state.SetRecord(quorum.Record{Mode: quorum.Pair, Epoch: 3, Step: quorum.Granted, Next: 4, By: by})
		p := &process{
			cfg: config.Config{Node: "node-a", DataDir: dir}, opts: Options{Log: slog.New(slog.DiscardHandler)},
			file: &stateFile{dir: dir, state: state},
		}
		if err := p.voidGrant(); err != nil {
			t.Fatal(err)
		}
		if got := p.file.get().Record(); got != want {
			t.Errorf("by the %s: %+v, want %+v", by, got, want)
		}
	}
}
