package labtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dyad/chaos/lab"
	"dyad/chaos/netlab"
	"dyad/cluster/api"
	"dyad/eventlog"
	"dyad/projections"
	"dyad/projections/audit"
)

// The store test.
const (
	storeWriters  = 8
	storeServices = 15 // for each writer
	storeKills    = 8
)

// acked is one answered command: the service and the event it was answered with.
type acked struct {
	name string
	seq  eventlog.Seq
	id   string
}

// TestStoresKilledUnderCommands kills the etcd child of either node at random
// while clients of both nodes add services. Whoever gets no answer repeats with
// the same key. In the end every answered event stands in the log, on both
// nodes, once, in the place it was answered with.
func TestStoresKilledUnderCommands(t *testing.T) {
	l := up(t, netlab.KindGoBGP)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	a := client(t, l, netlab.NodeA)
	r, err := eventlog.ParseRange("100.64.0.0/20")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Do(ctx, projections.SetPool{Name: "many", Ranges: []eventlog.Range{r}}, api.Request{Wait: 30 * time.Second}); err != nil {
		t.Fatal(err) // waits for both nodes: either may be asked for an address next
	}
	killed := make(chan int, 1)
	killing, stop := context.WithCancel(ctx)
	go func() { killed <- killStores(killing, t, l) }()
	var mu sync.Mutex
	var answers []acked
	var wg sync.WaitGroup
	for w := range storeWriters {
		c := client(t, l, lab.NodeNames()[w%2])
		wg.Go(func() {
			for i := range storeServices {
				got, err := addService(ctx, c, fmt.Sprintf("w%d-%d", w, i))
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
				mu.Lock()
				answers = append(answers, got)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	stop()
	t.Logf("%d answers under %d kills", len(answers), <-killed)
	if err := l.WaitPair(ctx); err != nil {
		t.Fatal(err)
	}
	for _, name := range lab.NodeNames() {
		checkLog(ctx, t, client(t, l, name), answers)
	}
}

func client(t *testing.T, l *lab.Lab, name string) *api.Client {
	t.Helper()
	n, err := l.Node(name)
	if err != nil {
		t.Fatal(err)
	}
	c := api.NewClient(api.ClientOptions{Socket: n.Socket})
	t.Cleanup(c.Close)
	return c
}

// addService repeats one command, with one key, until it is answered.
func addService(ctx context.Context, c *api.Client, name string) (acked, error) {
	for {
		r, err := c.Do(ctx, projections.SetService{Name: name, Pool: "many"}, api.Request{Key: "key-" + name, Interface: "test"})
		if err == nil && len(r.Events) == 1 {
			return acked{name, r.Events[0].Seq, r.Events[0].ID}, nil
		}
		if err == nil {
			return acked{}, fmt.Errorf("%s was answered with %d events", name, len(r.Events))
		}
		var e *api.Error
		if !errors.As(err, &e) || e.Class != api.ClassUnavailable {
			return acked{}, err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return acked{}, ctx.Err()
		}
	}
}

// killStores kills stores until ctx ends, at least once and at most storeKills
// times; it returns how often.
func killStores(ctx context.Context, t *testing.T, l *lab.Lab) (n int) {
	for n < storeKills {
		node, err := l.Node(lab.NodeNames()[rand.IntN(2)])
		if err != nil {
			t.Error(err)
			return n
		}
		if s, err := node.Client().Status(context.WithoutCancel(ctx)); err == nil && s.StorePID > 0 {
			if unix.Kill(s.StorePID, unix.SIGKILL) == nil {
				n++
			}
		}
		select {
		case <-time.After(time.Duration(100+rand.IntN(900)) * time.Millisecond):
		case <-ctx.Done():
			return n
		}
	}
	return n
}

// allServiceEvents waits until the node, whose store may have been killed a
// moment ago, has applied the log up to last.
func allServiceEvents(ctx context.Context, t *testing.T, c *api.Client, last eventlog.Seq) []eventlog.Public {
	t.Helper()
	for {
		status, err := c.Status(ctx, api.ScopeNode)
		var events []eventlog.Public
		if err == nil {
			events, err = c.Events(ctx, audit.Query{Types: []string{string(eventlog.TypeServiceSet)}, Limit: audit.MaxLimit})
		}
		if err == nil && len(status) == 1 && status[0].Status != nil && status[0].Status.Head.Seq >= last {
			return events
		}
		if err == nil {
			err = fmt.Errorf("the node has not applied the log up to event %d", last)
			if wait(ctx) {
				continue
			}
		}
		var e *api.Error
		if !errors.As(err, &e) || e.Class != api.ClassUnavailable {
			t.Fatal(err)
		}
		if !wait(ctx) {
			t.Fatal(err)
		}
	}
}

// wait is the pause between two looks; it tells whether there is time for one more.
func wait(ctx context.Context) bool {
	select {
	case <-time.After(50 * time.Millisecond):
		return true
	case <-ctx.Done():
		return false
	}
}

func checkLog(ctx context.Context, t *testing.T, c *api.Client, answers []acked) {
	t.Helper()
	var last eventlog.Seq
	for _, a := range answers {
		last = max(last, a.seq)
	}
	events := allServiceEvents(ctx, t, c, last)
	seen := map[string][]eventlog.Public{}
	for _, e := range events {
		seen[e.Stream] = append(seen[e.Stream], e)
	}
	for _, a := range answers {
		got := seen["service/"+a.name]
		if len(got) != 1 || got[0].Seq != a.seq || got[0].ID != a.id {
			t.Errorf("%s was answered with event %d; the log has %d events of it", a.name, a.seq, len(got))
		}
	}
	services, err := c.Services(ctx)
	if err != nil {
		t.Fatal(err)
	}
	owner := map[string]string{}
	for _, s := range services {
		for _, addr := range s.Addresses {
			if o := owner[addr.String()]; o != "" {
				t.Errorf("%s belongs to %s and %s", addr, o, s.Name)
			}
			owner[addr.String()] = s.Name
		}
	}
}
