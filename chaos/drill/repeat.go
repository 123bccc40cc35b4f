package drill

import (
	"context"
	"fmt"

	"dyad/chaos"
)

// maxRepeat bounds the repetitions of one call.
const maxRepeat = 1000

// Repeat runs a drill n times, each from a settled state, and returns the
// reports of all that ran, also with an error.
func Repeat(ctx context.Context, o Options, n int) ([]chaos.Report, error) {
	if n < 1 || n > maxRepeat {
		return nil, fmt.Errorf("%d repetitions; 1–%d are possible", n, maxRepeat)
	}
	var out []chaos.Report
	for i := range n {
		r, err := Run(ctx, o)
		if err != nil {
			return out, fmt.Errorf("repetition %d of %d: %w", i+1, n, err)
		}
		out = append(out, r)
	}
	return out, nil
}
