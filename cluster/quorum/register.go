package quorum

import (
	"context"
	"errors"
	"fmt"
)

// Register holds one cluster's [Claim] where both nodes reach it: a witness, a
// file on NFS, a key in another etcd. All of its operations are linearizable: a
// swap that was answered with yes is what every later question is told, also
// after a crash of whoever holds the claim.
//
// Invariant: only a nil error of Swap is a grant. Every error means no.
type Register interface {
	// Get returns the claim that stands. Errors: [ErrUnknown], [ErrDenied],
	// [ErrUnavailable].
	Get(ctx context.Context) (Claim, error)
	// Create registers the cluster with its first claim. If one stands that is
	// the Same, it is returned without an error. Errors: [ErrMoved] with the
	// claim that stands, [ErrBadClaim], [ErrDenied], [ErrUnavailable].
	Create(ctx context.Context, first Claim) (Claim, error)
	// Swap replaces from by to, if what stands is the Same as from, and returns
	// what stands then. What stands already being the Same as to is a yes: it is
	// how a repetition ends that went through before. Errors: [ErrMoved] with the
	// claim that stands, [ErrUnknown], [ErrBadClaim], [ErrDenied], and
	// [ErrUnavailable], after which the outcome is open: repeat the same swap.
	Swap(ctx context.Context, from, to Claim) (Claim, error)
}

// Errors of a [Register]. Test with errors.Is.
var (
	// ErrUnknown: the register holds nothing for this cluster. It was never
	// registered, or the register lost its memory.
	ErrUnknown = errors.New("the witness knows nothing of this cluster")
	// ErrMoved: the claim that stands is another than the one asked from.
	ErrMoved = errors.New("another claim stands at the witness")
	// ErrUnavailable: there was no answer in time. A swap may have gone through.
	ErrUnavailable = errors.New("the witness does not answer")
	// ErrDenied: the witness answered, and this caller may not.
	ErrDenied = errors.New("the witness denies it")
	// ErrBadClaim: the claim makes no sense, or the step from one to the other.
	ErrBadClaim = errors.New("this is no claim")
)

// Bounds of a claim's fields, in bytes.
const (
	MaxCluster = 64
	MaxHolder  = 63
	MaxHash    = 128
)

// Check tells what is wrong with a claim; the error is an [ErrBadClaim].
func (c Claim) Check() error {
	why := ""
	switch {
	case !plain(c.Cluster, MaxCluster):
		why = fmt.Sprintf("the cluster ID has 1 to %d letters, digits, - _ .", MaxCluster)
	case c.Epoch < 1:
		why = "an epoch is 1 or more"
	case c.Mode != Solo && c.Mode != Pair && c.Mode != Sole:
		why = fmt.Sprintf("the mode is SOLO, PAIR or SOLE, not %q", clip(string(c.Mode)))
	case c.Mode == Pair && c.Holder != "":
		why = "a pair has no holder"
	case c.Mode != Pair && !plain(c.Holder, MaxHolder):
		why = fmt.Sprintf("%s has a holder of 1 to %d letters, digits, - _ .", c.Mode, MaxHolder)
	case len(c.Hash) > MaxHash || c.Hash != "" && !plain(c.Hash, MaxHash):
		why = fmt.Sprintf("the hash has at most %d letters and digits", MaxHash)
	}
	if why == "" {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrBadClaim, why)
}

// clip shortens what is shown of a value that nobody has checked.
func clip(s string) string { return s[:min(len(s), MaxHolder)] }

// plain tells whether s has 1 to limit bytes that need no quoting anywhere: not
// in a path, a key, a URL or a line of text.
func plain(s string, limit int) bool {
	if s == "" || len(s) > limit || s[0] == '.' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// CheckSwap tells what is wrong with the step from one claim to the next; the
// error is an [ErrBadClaim].
//
// Invariant: epochs only rise. A claim that stood once never stands again, so
// what stands being the Same as asked for can only mean that this was done.
func CheckSwap(from, to Claim) error {
	if err := errors.Join(from.Check(), to.Check()); err != nil {
		return err
	}
	if from.Cluster != to.Cluster {
		return fmt.Errorf("%w: it would move from cluster %s to %s", ErrBadClaim, from.Cluster, to.Cluster)
	}
	if to.Epoch <= from.Epoch {
		return fmt.Errorf("%w: it would move from epoch %d to %d, and epochs only rise", ErrBadClaim, from.Epoch, to.Epoch)
	}
	return nil
}

// Swap is the rule of every register: what stands after a swap from one claim to
// another, where c stands now. The result is the Same as c if nothing is to be
// written. Errors: [ErrMoved] with c, and those of [CheckSwap].
func (c Claim) Swap(from, to Claim) (Claim, error) {
	if err := CheckSwap(from, to); err != nil {
		return c, err
	}
	switch {
	case c.Same(to):
		return c, nil
	case c.Same(from):
		return to, nil
	}
	return c, c.moved()
}

// Create is the rule of every register for a first claim, where c stands
// already: the same claim is welcome. Errors: [ErrMoved] with c.
func (c Claim) Create(first Claim) (Claim, error) {
	if c.Same(first) {
		return c, nil
	}
	return c, c.moved()
}

func (c Claim) moved() error { return fmt.Errorf("%w: %s", ErrMoved, c) }

// String is the claim in words: "SOLE by node-a at epoch 7".
func (c Claim) String() string {
	if c.Holder == "" {
		return fmt.Sprintf("%s at epoch %d", c.Mode, c.Epoch)
	}
	return fmt.Sprintf("%s by %s at epoch %d", c.Mode, c.Holder, c.Epoch)
}

// Enrol puts a cluster's claim into a register that may know the cluster from
// earlier: an older claim of the same cluster is brought up to date.
//
// It is for a register that is no authority yet, while the log can be written:
// the log itself says who may. Errors: those of Register; [ErrMoved] means that
// the register has seen a later epoch than this node, or another claim at the
// same one.
func Enrol(ctx context.Context, r Register, now Claim) (Claim, error) {
	stands, err := r.Create(ctx, now)
	if !errors.Is(err, ErrMoved) || stands.Epoch >= now.Epoch {
		return stands, err
	}
	return r.Swap(ctx, stands, now)
}
