package etcdlog

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"dyad/eventlog"
)

// mapped turns an error of the store into one of the contract's. ctx is the
// caller's. What is not known to mean "nothing was added" is ErrUnavailable,
// which leaves it open.
func (l *Log) mapped(ctx context.Context, doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case l.ctx.Err() != nil, l.client.Ctx().Err() != nil:
		return eventlog.ErrClosed
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", doing, ctx.Err())
	case errors.Is(err, rpctypes.ErrRequestTooLarge), errors.Is(err, rpctypes.ErrTooManyOps), tooLongToSend(err):
		return fmt.Errorf("%w: %s: %w", eventlog.ErrTooLarge, doing, err)
	case errors.Is(err, rpctypes.ErrCorrupt):
		return fmt.Errorf("%w: %s: the members of the store differ: %w", eventlog.ErrCorrupt, doing, err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("%w: %s: the store reached its quota: %w", eventlog.ErrUnavailable, doing, err)
	case errors.Is(err, context.DeadlineExceeded), status.Code(err) == codes.DeadlineExceeded:
		return fmt.Errorf("%w: %s: no answer within %s", eventlog.ErrUnavailable, doing, l.opts.CallTimeout)
	default:
		return fmt.Errorf("%w: %s: %w", eventlog.ErrUnavailable, doing, err)
	}
}

func tooLongToSend(err error) bool {
	return status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "larger than max")
}

// final tells whether a follower can't recover from err by starting over.
func final(err error) bool {
	for _, e := range []error{eventlog.ErrCorrupt, eventlog.ErrGap, eventlog.ErrTrimmed, eventlog.ErrClosed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
