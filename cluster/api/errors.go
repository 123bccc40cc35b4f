package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

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

const fixFailed = "dyad status, and what the agent logged: journalctl -u dyad"

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
// *projections.Refusal and eventlog.ErrTooLarge are refused, eventlog.ErrUnavailable and a deadline that
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
	case errors.Is(err, eventlog.ErrTooLarge):
		return &Error{
			Class: ClassRefused, Code: "too-large", What: "the request", Why: err.Error(),
			Fix: "make the changes in several steps; an etcd of your own takes more at once with --max-txn-ops=16384 --max-request-bytes=8388608",
		}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &Error{
			Class: ClassUnavailable, Code: "timeout", What: "the request", Why: "it was given up: " + err.Error(),
			Fix: "repeat it with the same key, or with a longer --timeout",
		}
	}
	return &Error{Class: ClassFailed, Code: "failed", What: "the request", Why: err.Error(), Fix: fixFailed}
}

// A framework's own errors (validation, routing, body) take the shape of all
// others. This is the framework's hook for it, and it is global; nothing else
// in the program uses the framework.
func init() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return frameworkError(status, msg, errs)
	}
}

func frameworkError(status int, msg string, errs []error) *Error {
	e := &Error{Class: classOf(status), Code: "request", What: "the request", Why: msg, Fix: "see /openapi.json for what it may hold"}
	if e.Class == ClassFailed {
		e.Code, e.Fix = "failed", fixFailed
	}
	var why []string
	for _, err := range errs {
		if err == nil {
			continue
		}
		why = append(why, detail(err))
	}
	if len(why) > 0 {
		e.Why = strings.Join(why, "; ")
	}
	return e
}

// detail words one finding: where, then what.
func detail(err error) string {
	var d *huma.ErrorDetail
	if !errors.As(err, &d) {
		return err.Error()
	}
	s := d.Message
	if d.Location != "" {
		s = d.Location + ": " + s
	}
	if v, ok := d.Value.(string); ok && v != "" {
		s += fmt.Sprintf(" (%.80q)", v)
	}
	return s
}

func classOf(status int) string {
	for class, s := range statuses {
		if s == status {
			return class
		}
	}
	if status == http.StatusUnauthorized {
		return ClassDenied
	}
	if status >= 400 && status < 500 {
		return ClassUsage
	}
	return ClassFailed
}

// write answers with an error.
func (e *Error) write(w http.ResponseWriter) {
	body, err := json.Marshal(e)
	if err != nil { // five strings always encode
		body = []byte(`{"class":"failed","code":"failed"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.GetStatus())
	_, _ = w.Write(append(body, '\n')) // the client may be gone; nobody else to tell
}
