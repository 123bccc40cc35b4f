package drill

import (
	"context"
	"errors"
	"fmt"

	"dyad/chaos"
)

// maxRepeat bounds the repetitions of one call.
const maxRepeat = 1000

// maxVoids bounds how many drills of one call may show nothing.
const maxVoids = 3

// Repeat runs a drill n times, each from a settled state, and returns the
// reports of all that ran, also with an error. A drill that showed nothing is run
// again, maxVoids times in all at most.
func Repeat(ctx context.Context, o Options, n int) ([]chaos.Report, error) {
	if n < 1 || n > maxRepeat {
		return nil, fmt.Errorf("%d repetitions; 1–%d are possible", n, maxRepeat)
	}
	var out []chaos.Report
	for voids := 0; len(out) < n; {
		r, err := Run(ctx, o)
		if errors.Is(err, ErrVoid) && voids < maxVoids {
			voids++
			if o.Say != nil {
				o.Say("again: %v", err)
			}
			continue
		}
		if err != nil {
			return out, fmt.Errorf("repetition %d of %d: %w", len(out)+1, n, err)
		}
		out = append(out, r)
	}
	return out, nil
}
