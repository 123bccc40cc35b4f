package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"dyad/chaos/torture"
	"dyad/cluster"
	"dyad/cluster/config"
	"dyad/eventlog"
	"dyad/eventlog/etcdlog"
	"dyad/eventlog/journal"
	"dyad/failover"
	"dyad/projections"
	"dyad/speaker/memspeaker"
)

// The append benchmark.
const (
	appendTurns  = 1000 // sequential appends, and as many bare transactions
	appendBytes  = 200  // of each event's data
	groupWriters = 64
	groupRounds  = 5 // windows of each kind, by turns
	groupWindow  = 2 * time.Second
)

// appends compares the log on a pair of stores with bare transactions on the
// same two stores: one after the other, and with 64 writers.
func appends(ctx context.Context, o Options, r *Recorder) error {
	dir, err := os.MkdirTemp("", "dyad-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return torture.Stores(ctx, torture.Options{Dir: dir, Exe: o.Dyad}, func(ctx context.Context, c *clientv3.Client) error {
		log, err := etcdlog.Open(c, etcdlog.Options{})
		if err != nil {
			return err
		}
		defer log.Close()
		if err := sequential(ctx, c, log, r); err != nil {
			return err
		}
		return grouped(ctx, c, log, dir, r)
	})
}

// bare is one writer of bare transactions: each compares the last one's revision
// and puts a value, as an append does with the log's head.
type bare struct {
	c     *clientv3.Client
	key   string
	value string
	rev   int64
}

func (b *bare) put(ctx context.Context) error {
	resp, err := b.c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(b.key), "=", b.rev)).Then(clientv3.OpPut(b.key, b.value)).Commit()
	if err != nil {
		return err
	}
	if !resp.Succeeded {
		return errors.New("a bare transaction met another writer")
	}
	b.rev = resp.Header.Revision
	return nil
}

// sequential measures appends of one event and bare transactions of as many
// bytes by turns.
func sequential(ctx context.Context, c *clientv3.Client, log *etcdlog.Log, r *Recorder) error {
	data := []byte(`"` + strings.Repeat("x", appendBytes-2) + `"`)
	var rows [2][]float64
	b := &bare{c: c, key: "bench/sequential"}
	for i := range appendTurns {
		key := fmt.Sprintf("sequential-%d", i)
		d := eventlog.Draft{ID: key, Key: key, Type: "bench.append", Stream: "bench/sequential", Data: data}
		h, err := log.Newest(ctx)
		if err != nil {
			return err
		}
		began := time.Now()
		if _, err := log.Append(ctx, eventlog.Batch{Drafts: []eventlog.Draft{d}, Epoch: h.Epoch}); err != nil {
			return err
		}
		rows[0] = append(rows[0], ms(began))
		if b.value == "" {
			if b.value, err = lastWrite(ctx, c); err != nil {
				return err
			}
		}
		began = time.Now()
		if err := b.put(ctx); err != nil {
			return err
		}
		rows[1] = append(rows[1], ms(began))
	}
	r.Spread("append/sequential", "ms", rows[0])
	r.Spread("append/raw", "ms", rows[1])
	r.Figure("append/sequential-to-raw", median(rows[0])/median(rows[1]), "times", appendTurns)
	return nil
}

// lastWrite is a value of as many bytes as the newest revision wrote, keys and
// values.
func lastWrite(ctx context.Context, c *clientv3.Client) (string, error) {
	all, err := c.Get(ctx, etcdlog.DefaultPrefix, clientv3.WithPrefix())
	if err != nil {
		return "", err
	}
	n := 0
	for _, kv := range all.Kvs {
		if kv.ModRevision == all.Header.Revision {
			n += len(kv.Key) + len(kv.Value)
		}
	}
	if n == 0 {
		return "", errors.New("the newest revision is no append")
	}
	return strings.Repeat("x", n), nil
}

// grouped measures 64 writers whose commands go through one agent's appender,
// and 64 bare streams, by turns.
func grouped(ctx context.Context, c *clientv3.Client, log *etcdlog.Log, dir string, r *Recorder) error {
	a, stop, err := agentOn(log, dir)
	if err != nil {
		return err
	}
	defer stop()
	if err := a.Submit(ctx, groupPools(), "bench"); err != nil {
		return err
	}
	if err := a.Submit(ctx, toggle(0, 0), "bench"); err != nil {
		return err
	}
	size, err := lastWrite(ctx, c)
	if err != nil {
		return err
	}
	streams := make([]*bare, groupWriters)
	for i := range streams {
		streams[i] = &bare{c: c, key: fmt.Sprintf("bench/stream-%d", i), value: size}
	}
	var rates [2][]float64
	var latency []float64
	for range groupRounds {
		rate, took, err := crowd(ctx, func(ctx context.Context, w, i int) error { return a.Submit(ctx, toggle(w, i), "bench") })
		if err != nil {
			return err
		}
		rates[0], latency = append(rates[0], rate), append(latency, took...)
		if rate, _, err = crowd(ctx, func(ctx context.Context, w, _ int) error { return streams[w].put(ctx) }); err != nil {
			return err
		}
		rates[1] = append(rates[1], rate)
	}
	r.Spread("append/64-writers", "ms", latency)
	r.Figure("append/64-writers/rate", median(rates[0]), "events/s", groupRounds)
	r.Figure("append/64-raw/rate", median(rates[1]), "transactions/s", groupRounds)
	r.Figure("append/64-writers-to-raw", median(rates[0])/median(rates[1]), "times", groupRounds)
	return nil
}

// groupPools are one pool for each of the 64 writers.
func groupPools() projections.Command {
	var all projections.Apply
	for w := range groupWriters {
		all.Commands = append(all.Commands, toggle(w, 1))
	}
	return all
}

// toggle is writer w's i-th command. Each changes something, and none changes
// what is announced.
func toggle(w, i int) projections.Command {
	first := netip.AddrFrom4([4]byte{100, 64, byte(w), 1})
	return projections.SetPool{Name: fmt.Sprintf("p%d", w), Ranges: []eventlog.Range{{First: first, Last: first.Next()}}, Manual: i%2 == 0}
}

// crowd lets 64 writers do it over and over for a while; the rate is a second,
// and what each took is in ms.
func crowd(ctx context.Context, do func(ctx context.Context, w, i int) error) (rate float64, took []float64, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var errs error
	began := time.Now()
	for w := range groupWriters {
		wg.Go(func() {
			var mine []float64
			var err error
			for i := 0; err == nil && time.Since(began) < groupWindow; i++ {
				at := time.Now()
				if err = do(ctx, w, i); err == nil {
					mine = append(mine, ms(at))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			took, errs = append(took, mine...), errors.Join(errs, err)
		})
	}
	wg.Wait()
	return float64(len(took)) / time.Since(began).Seconds(), took, errs
}

// deaf is a detector that hears nobody.
type deaf struct{}

func (deaf) Announce(failover.Report) {}

// agentOn runs an agent that has nothing but the log.
func agentOn(log *etcdlog.Log, dir string) (a *cluster.Agent, stop func(), err error) {
	quiet := slog.New(slog.DiscardHandler)
	conf := config.Default()
	conf.Node, conf.Address, conf.Failover.StepDownSettle = "bench", netip.MustParseAddr("127.0.0.1"), config.Duration(50*time.Millisecond)
	facts, err := journal.Open(filepath.Join(dir, "journal"), conf.Node, "boot", journal.Options{Logger: quiet})
	if err != nil {
		return nil, nil, err
	}
	var ids eventIDs
	a = cluster.New(cluster.Parts{
		Config: conf, Version: "bench", Boot: "boot", Log: log, Journal: facts, Speaker: memspeaker.New(memspeaker.Options{}),
		Checkpoint: cluster.FileCheckpoint{Path: filepath.Join(dir, "checkpoint")},
		Now:        time.Now, NewID: ids.next, Logger: quiet,
	})
	a.Attach(cluster.Attached{Detector: deaf{}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return a, func() {
		cancel()
		<-done
		_ = facts.Close()
	}, nil
}

// eventIDs are unique within a run.
type eventIDs struct {
	mu sync.Mutex
	n  int
}

func (e *eventIDs) next() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.n++
	return fmt.Sprintf("bench-%d", e.n)
}

func ms(since time.Time) float64 { return float64(time.Since(since).Microseconds()) / 1000 }

// median of a row, which need not be sorted; 0 of an empty one.
func median(row []float64) float64 {
	if len(row) == 0 {
		return 0
	}
	return quantile(slices.Sorted(slices.Values(row)), 0.5)
}
