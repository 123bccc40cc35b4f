package hostcheck

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"dyad/cluster/api"
)

// Measuring the disk.
const (
	syncs     = 16
	syncBytes = 4096
	// syncBound bounds all of it; one fsync that hangs can't be ended.
	syncBound = 3 * time.Second
	slowSync  = 10 * time.Millisecond
	badSync   = 100 * time.Millisecond
	// lowSpace is what a store needs to be compacted and snapshotted, in bytes.
	lowSpace = 1 << 30
)

// disk measures how long a write takes until it is on the disk: every change
// waits for it on both nodes, and no failover does.
func disk(ctx context.Context, dir string) []api.Finding {
	f := api.Finding{Code: "fsync", Subject: dir}
	took, err := measure(ctx, dir)
	if err != nil {
		f.Result, f.Text, f.Fix = api.ResultProblem, "nothing can be written there: "+err.Error(), "df "+dir+", and who owns it"
		return one(f)
	}
	slices.Sort(took)
	median, worst := took[len(took)/2], took[len(took)-1]
	f.Text = fmt.Sprintf("median %s, longest %s of %d", median.Round(10*time.Microsecond), worst.Round(10*time.Microsecond), len(took))
	switch {
	case median > badSync:
		f.Result = api.ResultProblem
	case median > slowSync || worst > badSync:
		f.Result = api.ResultWarning
	default:
		f.Result = api.ResultOK
	}
	if f.Result != api.ResultOK {
		f.Text += ": every change waits for it; failover does not"
		f.Fix = "dataDir: on a disk of its own, or with a write cache that survives a power cut"
	}
	return []api.Finding{f, space(dir)}
}

func measure(ctx context.Context, dir string) (took []time.Duration, err error) {
	file, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = file.Close() // it is thrown away
		if rerr := os.Remove(filepath.Clean(file.Name())); err == nil {
			err = rerr
		}
	}()
	block := make([]byte, syncBytes)
	began := time.Now()
	for range syncs {
		at := time.Now()
		if _, err := file.WriteAt(block, 0); err != nil {
			return nil, err
		}
		if err := unix.Fdatasync(int(file.Fd())); err != nil {
			return nil, err
		}
		took = append(took, time.Since(at))
		if ctx.Err() != nil || time.Since(began) > syncBound {
			break
		}
	}
	return took, nil
}

func space(dir string) api.Finding {
	f := api.Finding{Code: "disk-space", Subject: dir, Result: api.ResultOK}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		f.Result, f.Text = api.ResultUnknown, err.Error()
		return f
	}
	free := st.Bavail * uint64(st.Bsize)
	f.Text = fmt.Sprintf("%d MiB free", free>>20)
	if free < lowSpace {
		f.Result, f.Text, f.Fix = api.ResultWarning, f.Text+": the store may not find room", "make room, or move dataDir:"
	}
	return f
}
