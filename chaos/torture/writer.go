package torture

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"dyad/eventlog"
	"dyad/eventlog/etcdlog"
)

// streams is how many streams the writers share: several of them compete for
// each.
const streams = 8

// Outcomes of an operation, as its writer knows it.
const (
	appended = "appended"
	conflict = "conflict"
	read     = "read"
)

// op is one operation on a stream: an append that expects a revision, or a read
// of the revision.
type op struct {
	writer    int
	stream    string
	key       string // of an append
	expected  uint64
	call, ret time.Duration // since the load began
	outcome   string
	seq       eventlog.Seq // of an event that stands
	hash      string       // known if the append was answered
	rev       uint64       // that was read
	unsure    bool         // an attempt got no answer
}

// view is where writers may write now.
type view struct {
	logs    [2][]*etcdlog.Log // none: not there
	clients [2]*clientv3.Client
	epoch   eventlog.Epoch
	changed chan struct{} // closed when this view is old
}

// load is the writers of one round.
type load struct {
	view  *atomic.Pointer[view]
	round int
	began time.Time
	acked chan int // told the node through which an append was just answered, if anybody listens

	stop context.CancelFunc // no new operations
	wg   sync.WaitGroup
	mu   sync.Mutex
	ops  []op
	errs []error
}

// startLoad starts n writers. revs are the streams' revisions now.
func startLoad(ctx context.Context, v *atomic.Pointer[view], round, n int, revs map[string]uint64) *load {
	l := &load{view: v, round: round, began: time.Now(), acked: make(chan int)}
	var going context.Context
	going, l.stop = context.WithCancel(ctx)
	for w := range n {
		stream := "s" + strconv.Itoa(w/2%streams) // each stream has writers at both nodes
		l.wg.Go(func() { l.write(ctx, going, w, stream, revs[stream]) })
	}
	return l
}

// end lets every operation come to its end, and returns them.
func (l *load) end() ([]op, error) {
	l.stop()
	l.wg.Wait()
	return l.ops, errors.Join(l.errs...)
}

// write is one writer: it appends with the revision it believes in, and reads
// the revision after a conflict.
func (l *load) write(ctx, going context.Context, w int, stream string, rev uint64) {
	var mine []op
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ops = append(l.ops, mine...)
	}()
	for i := 0; going.Err() == nil; i++ {
		o := op{writer: w, stream: stream, key: fmt.Sprintf("r%d-w%d-%d", l.round, w, i), expected: rev, call: time.Since(l.began)}
		err := l.append(ctx, w, &o)
		if o.ret = time.Since(l.began); err == nil {
			mine = append(mine, o)
			rev++
			if o.outcome == conflict {
				o = op{writer: w, stream: stream, outcome: read, call: time.Since(l.began)}
				o.rev, err = l.revision(ctx, w, stream)
				o.ret, rev = time.Since(l.began), o.rev
				if err == nil {
					mine = append(mine, o)
				}
			}
		}
		if err != nil {
			l.mu.Lock()
			l.errs = append(l.errs, fmt.Errorf("writer %d, %s: %w", w, o.key, err))
			l.mu.Unlock()
			return
		}
	}
}

// at is the node that writer w uses: its own, or the other one.
func (v *view) at(w int) (int, bool) {
	home := w % 2
	if len(v.logs[home]) > 0 {
		return home, true
	}
	return 1 - home, len(v.logs[1-home]) > 0
}

// append appends o until it is known what became of it.
func (l *load) append(ctx context.Context, w int, o *op) error {
	ctx, cancel := context.WithTimeout(ctx, stepBound)
	defer cancel()
	d := eventlog.Draft{ID: o.key, Key: o.key, Type: eventlog.TypeServiceSet, Stream: o.stream}
	for {
		v := l.view.Load()
		at, ok := v.at(w)
		if !ok {
			if err := wait(ctx, v, stepBound); err != nil {
				return err
			}
			continue
		}
		log := v.logs[at][w/2%len(v.logs[at])]
		done, err := log.Append(ctx, eventlog.Batch{
			Drafts: []eventlog.Draft{d}, ExpectedStreams: map[string]uint64{o.stream: o.expected}, Epoch: v.epoch,
		})
		var dup *eventlog.DuplicateError
		switch {
		case err == nil:
			select {
			case l.acked <- at:
			default:
			}
			o.outcome, o.seq, o.hash = appended, done[0].Seq, done[0].Hash
			return nil
		case errors.As(err, &dup):
			o.outcome, o.seq = appended, dup.Seq
			return nil
		case errors.Is(err, eventlog.ErrEpoch):
			err = wait(ctx, v, callTimeout) // the driver is about to tell
		case errors.Is(err, eventlog.ErrConflict):
			o.outcome = conflict
			return nil
		case errors.Is(err, eventlog.ErrUnavailable), errors.Is(err, eventlog.ErrClosed):
			o.unsure = true
			err = wait(ctx, v, pause)
		}
		if err != nil {
			return err
		}
	}
}

// pause keeps a writer whose store is away from spinning.
const pause = 5 * time.Millisecond

// wait waits until v is old, but not longer than d.
func wait(ctx context.Context, v *view, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-v.changed:
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// revision reads a stream's revision with quorum.
func (l *load) revision(ctx context.Context, w int, stream string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, stepBound)
	defer cancel()
	for {
		v := l.view.Load()
		if at, ok := v.at(w); ok {
			cctx, cancel := context.WithTimeout(ctx, callTimeout)
			resp, err := v.clients[at].Get(cctx, etcdlog.DefaultPrefix+"stream/"+stream)
			cancel()
			if err == nil && len(resp.Kvs) == 0 {
				return 0, nil
			}
			if err == nil {
				return strconv.ParseUint(string(resp.Kvs[0].Value), 10, 64)
			}
		}
		if err := wait(ctx, v, pause); err != nil {
			return 0, err
		}
	}
}
