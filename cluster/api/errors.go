package api

import (
	"context"
	"errors"
	"net/http"

	"dyad/eventlog"
	"dyad/projections"
)

// Classes of an [Error].
const (
	ClassUsage        = "usage"         // the request makes no sense; HTTP 400
	ClassDenied       = "denied"        // the caller may not; HTTP 403
	ClassRefused      = "refused"       // a rule forbids it; HTTP 409
	ClassUnavailable  = "unavailable"   // not now; HTTP 503
	ClassFailed       = "failed"        // something broke; HTTP 500
	ClassNotConverged = "not-converged" // accepted, not everywhere yet; made by clients
)

// statuses maps classes to HTTP.
var statuses = map[string]int{
	ClassUsage:       http.StatusBadRequest,
	ClassDenied:      http.StatusForbidden,
	ClassRefused:     http.StatusConflict,
	ClassUnavailable: http.StatusServiceUnavailable,
	ClassFailed:      http.StatusInternalServerError,
}

// GetStatus is the HTTP status of the error's class; 500 for a class that is
// not known.
func (e *Error) GetStatus() int {
	if s, ok := statuses[e.Class]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// AsError classifies what a [Backend] returned: an *Error keeps its class, a
// *projections.Refusal is refused, eventlog.ErrUnavailable and a deadline that
// passed are unavailable, anything else failed. nil stays nil.
func AsError(err error) *Error {
	var e *Error
	var refusal *projections.Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return e
	case errors.As(err, &refusal):
		return &Error{Class: ClassRefused, Code: refusal.Code, What: refusal.What, Why: refusal.Why, Fix: refusal.Fix}
	case errors.Is(err, eventlog.ErrUnavailable):
		return &Error{
			Class: ClassUnavailable, Code: "log-unavailable", What: "the log", Why: err.Error(),
			Fix: "dyad status, then repeat the command; announcements go on meanwhile",
		}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &Error{
			Class: ClassUnavailable, Code: "timeout", What: "the request", Why: "it was given up: " + err.Error(),
			Fix: "repeat it with the same key, or with a longer --timeout",
		}
	}
	return &Error{Class: ClassFailed, Code: "failed", What: "the request", Why: err.Error(), Fix: "dyad status, and the agent's journal: journalctl -u dyad"}
}
