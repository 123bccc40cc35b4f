package config

import (
	"fmt"
	"path/filepath"
	"time"
)

// Bounds of the takeover.
const (
	minHoldDown = 500 * time.Millisecond
	maxHoldDown = 5 * time.Minute
	// minHoldDownToR: a router's session outlives its node for up to its hold time,
	// of which 3 s is the least.
	minHoldDownToR = 3 * time.Second
	minFence       = time.Second
	maxFence       = 5 * time.Minute
	// maxFenceWords bounds the command's words, and a word's length in bytes.
	maxFenceWords = 32
	maxFenceWord  = 1024
)

func (t Takeover) check() (errs []error) {
	if !oneOf(string(t.Authority), string(AuthorityAuto), string(AuthorityWitness), string(AuthorityFence), string(AuthorityToR), string(AuthorityOperator)) {
		errs = append(errs, fmt.Errorf("takeover.authority: %q is not auto, witness, fence, tor or operator", t.Authority))
	}
	least := minHoldDown
	if t.Authority == AuthorityToR {
		least = minHoldDownToR
	}
	errs = append(errs, inRange("takeover.holdDown", t.HoldDown, least, maxHoldDown)...)
	if t.Authority == AuthorityFence && len(t.Fence.Command) == 0 {
		errs = append(errs, fmt.Errorf("takeover.fence.command: the authority is fence, and there is no command (see docs/fencing.md)"))
	}
	return append(errs, t.Fence.check()...)
}

func (f Fence) check() (errs []error) {
	errs = append(errs, inRange("takeover.fence.timeout", f.Timeout, minFence, maxFence)...)
	if len(f.Command) == 0 {
		return errs
	}
	if !filepath.IsAbs(f.Command[0]) {
		errs = append(errs, fmt.Errorf("takeover.fence.command: %q is not an absolute path", f.Command[0]))
	}
	if len(f.Command) > maxFenceWords {
		errs = append(errs, fmt.Errorf("takeover.fence.command: it has %d words, more than %d", len(f.Command), maxFenceWords))
	}
	for _, w := range f.Command {
		if len(w) > maxFenceWord {
			errs = append(errs, fmt.Errorf("takeover.fence.command: a word is longer than %d bytes", maxFenceWord))
		}
	}
	return errs
}
