package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dyad/cluster"
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

// A grant that is not exclusive ends when the other node was heard before this
// one's store was dead.
func TestAGrantThatComesTooLate(t *testing.T) {
	granted := func(by quorum.Authority, m quorum.Mode) quorum.Record {
		return quorum.Record{Mode: m, Epoch: 3, Step: quorum.Granted, Next: 4, By: by}
	}
	for name, c := range map[string]struct {
		grant  quorum.Record
		booted string // the start of the other one that was heard of before the word
		forced string // what the store says of its last forced start
		want   quorum.Record
	}{
		"still silent":                {granted(quorum.ByOperator, quorum.Stale), "", "", quorum.Record{}},
		"started since":               {granted(quorum.ByOperator, quorum.Stale), "b1", "", quorum.Record{Mode: quorum.Stale, Epoch: 3}},
		"the store was begun anew":    {granted(quorum.ByOperator, quorum.Stale), "b1", "4\n", quorum.Record{}},
		"it was begun anew before":    {granted(quorum.ByOperator, quorum.Stale), "b1", "2\n", quorum.Record{Mode: quorum.Stale, Epoch: 3}},
		"a witness's word is for one": {granted(quorum.ByWitness, quorum.Pair), "b1", "", quorum.Record{}},
	} {
		t.Run(name, func(t *testing.T) {
			log := slog.New(slog.DiscardHandler)
			p := &process{cfg: config.Config{Node: "node-a", DataDir: t.TempDir()}, opts: Options{Log: log}, file: &stateFile{}}
			p.agent = cluster.New(cluster.Parts{Config: p.cfg, Now: time.Now, Logger: log})
			p.looks = &senses{p: p, boot: c.booted}
			if err := os.MkdirAll(storeDir(p.cfg), 0o700); err != nil {
				t.Fatal(err)
			}
			if c.forced != "" {
				if err := os.WriteFile(filepath.Join(storeDir(p.cfg), "forced"), []byte(c.forced), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, late := p.tooLate(c.grant)
			if late == (c.want == quorum.Record{}) || got != c.want {
				t.Errorf("%+v, %v; want %+v", got, late, c.want)
			}
		})
	}
}
