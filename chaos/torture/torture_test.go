package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"dyad/cluster/etcdnode"
)

// The test binary is its own store, as dyad is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "store" {
		if err := etcdnode.ChildMain(context.Background(), os.Args[2:], os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// How many rounds the tests play.
const (
	rounds      = 25
	shortRounds = 6
	// mutantRounds bound how long the mutant may live.
	mutantRounds = 25
)

func options(t *testing.T, rounds int) Options {
	return Options{Dir: t.TempDir(), Seed: rand.Uint64(), Rounds: rounds, Say: t.Logf}
}

// Nothing that was acknowledged is lost, whoever is killed.
func TestLog(t *testing.T) {
	n := rounds
	if testing.Short() {
		n = shortRounds
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	r, err := Run(ctx, options(t, n))
	t.Log(r)
	if err != nil {
		t.Fatal(err)
	}
	if r.Rounds != n || r.Takeovers == 0 || r.Acked < n*DefaultWriters || r.Conflicts == 0 {
		t.Errorf("%s: the kills did not meet a load", r)
	}
}

// The same test notices when the tail is not kept.
func TestLogWithoutKeepTail(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	o := options(t, mutantRounds)
	o.NoKeepTail, o.Only = true, KindLeader
	r, err := Run(ctx, o)
	t.Logf("%s: %v", r, err)
	if !errors.Is(err, ErrBroken) {
		t.Errorf("%d rounds without keeping the tail ended with %v; want that acknowledged events are lost", r.Rounds, err)
	}
}
