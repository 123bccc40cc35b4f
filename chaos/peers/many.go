package peers

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dyad/chaos/netlab"
)

const (
	// ManyPool is where the services of a site with many lie.
	ManyPool = "100.64.0.0/18"
	// manySample is how many of them are probed.
	manySample = 16
	// manyLimit bounds adding them, manyChunk how many one command adds, manyTries
	// how often it is given: on a busy machine the log may be late.
	manyLimit = 3 * time.Minute
	manyChunk = 500
	manyTries = 5
)

// addMany adds the many services, node-b preferred, waits until the router forwards
// to all, and chooses those that are probed: first, last, and evenly between.
func (s *Site) addMany(ctx context.Context) error {
	if s.many == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, manyLimit)
	defer cancel()
	for from := 0; from < s.many; from += manyChunk {
		file := filepath.Join(s.dir, "many.yaml")
		if err := os.WriteFile(file, manyFile(from, min(from+manyChunk, s.many)), 0o600); err != nil {
			return err
		}
		var err error
		for range manyTries {
			if _, err = s.lab.Dyad(ctx, netlab.NodeA, "apply", "-f", file, "--timeout", "60s"); err == nil || ctx.Err() != nil {
				break
			}
		}
		if err != nil {
			return err
		}
		s.say("%d services", min(from+manyChunk, s.many))
	}
	pool, addresses := netip.MustParsePrefix(ManyPool), []netip.Addr{}
	err := look(ctx, manyLimit, func() bool {
		table, err := netlab.Table(s.lab.NS(netlab.Router))
		addresses = addresses[:0]
		for p := range table {
			if pool.Contains(p.Addr()) {
				addresses = append(addresses, p.Addr())
			}
		}
		return err == nil && len(addresses) == s.many
	})
	if err != nil {
		return fmt.Errorf("the router has %d of %d routes: %w", len(addresses), s.many, err)
	}
	s.services = sample(addresses, manySample)
	return nil
}

// manyFile describes the services from one number to before another.
func manyFile(from, to int) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "kind: Pool\nname: many\nranges: [%s]\n", ManyPool)
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "---\nkind: Service\nname: m%05d\npool: many\nprefer: %s\n", i, netlab.NodeB)
	}
	return []byte(b.String())
}

// sample takes n of the addresses, evenly: the first and the last are among them.
func sample(all []netip.Addr, n int) []netip.Addr {
	all = slices.SortedFunc(slices.Values(all), netip.Addr.Compare)
	if len(all) <= n {
		return all
	}
	var out []netip.Addr
	for i := range n {
		out = append(out, all[i*(len(all)-1)/(n-1)])
	}
	return out
}
