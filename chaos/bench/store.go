package bench

import (
	"context"
	"os"

	"dyad/chaos/torture"
)

// How often the log's takeover and return are measured, by its length.
var storeRows = []struct {
	name   string
	events int
	n      int
}{{"10k", 10_000, 50}, {"100k", 100_000, 8}}

// takeover kills the leader of a pair of stores, lets the other one take over,
// and lets the dead one come back.
func takeover(ctx context.Context, o Options, r *Recorder) error {
	dir, err := os.MkdirTemp("", "dyad-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, row := range storeRows {
		took, rejoined, err := torture.Times(ctx, torture.Options{Dir: dir, Exe: o.Dyad}, row.events, row.n)
		if err != nil {
			return err
		}
		r.Spread("takeover-"+row.name+"/first-append", "ms", took)
		r.Spread("takeover-"+row.name+"/rejoin", "ms", rejoined)
	}
	return nil
}
