package cli

import (
	"context"
	"errors"
	"fmt"

	"dyad/cluster/api"
	"dyad/cmd/dyad/parse"
	"dyad/projections"
)

// The exit codes. They are part of the interface: never renumbered.
const (
	ExitOK           = 0 // done
	ExitFailed       = 1 // something broke
	ExitUsage        = 2 // the command line or the input makes no sense
	ExitRefused      = 3 // a rule forbids it
	ExitUnreachable  = 4 // no agent, no quorum, or not allowed
	ExitPromise      = 5 // a drill's promise was broken
	ExitDegraded     = 6 // status --check found something
	ExitNotConverged = 8 // accepted, and not applied everywhere in time
)

// UsageError is a command line or an input that makes no sense.
type UsageError = parse.Error

// Usage makes a *[UsageError].
func Usage(what, why, fix string) error { return &UsageError{What: what, Why: why, Fix: fix} }

// ExitError ends the program with a code. A nil Err prints nothing: the answer
// on stdout has said it all.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }

// Exit makes an *[ExitError] that says what, why and what to try.
func Exit(code int, what, why, fix string) error {
	return &ExitError{Code: code, Err: &parse.Error{What: what, Why: why, Fix: fix}}
}

var classCodes = map[string]int{
	api.ClassUsage:        ExitUsage,
	api.ClassDenied:       ExitUnreachable,
	api.ClassRefused:      ExitRefused,
	api.ClassUnavailable:  ExitUnreachable,
	api.ClassFailed:       ExitFailed,
	api.ClassNotConverged: ExitNotConverged,
}

// ExitCode is the code an error ends the program with.
func ExitCode(err error) int {
	var (
		exit    *ExitError
		usage   *UsageError
		answer  *api.Error
		refusal *projections.Refusal
	)
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &exit):
		return exit.Code
	case errors.As(err, &usage):
		return ExitUsage
	case errors.As(err, &answer):
		if code, ok := classCodes[answer.Class]; ok {
			return code
		}
		return ExitFailed
	case errors.As(err, &refusal):
		return ExitRefused
	case errors.Is(err, context.DeadlineExceeded):
		return ExitUnreachable
	}
	return ExitFailed
}
