package witness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"dyad/cluster/quorum"
)

// The witness server's routes. GET and PUT on the first, POST on the second; the
// client's certificate says which cluster is meant.
const (
	PathClaim = "/v1/claim"
	PathSwap  = "/v1/claim/swap"
)

// MaxMessage bounds a request and an answer, in bytes.
const MaxMessage = 4096

// Request is the body of PUT (To alone) and POST (From and To). Fields are only
// ever added, and those that are not known are passed over: nodes and witness
// are upgraded apart.
type Request struct {
	From *quorum.Claim `json:"from,omitempty"`
	To   *quorum.Claim `json:"to"`
}

// Answer is the body of every answer.
type Answer struct {
	Release string `json:"release"`
	// Claim is what stands, as far as that is known.
	Claim *quorum.Claim `json:"claim,omitempty"`
	// Code is empty after a yes; the values are below.
	Code string `json:"code,omitempty"`
	Why  string `json:"why,omitempty"`
}

// The codes of an [Answer].
const (
	CodeUnknown     = "unknown"     // 404
	CodeMoved       = "moved"       // 409, with the claim that stands
	CodeBad         = "bad"         // 400
	CodeDenied      = "denied"      // 403
	CodeBusy        = "busy"        // 429: too many questions
	CodeUnavailable = "unavailable" // 503: the outcome is open
)

var codeErrors = map[string]error{
	CodeUnknown: quorum.ErrUnknown, CodeMoved: quorum.ErrMoved, CodeBad: quorum.ErrBadClaim,
	CodeDenied: quorum.ErrDenied, CodeBusy: quorum.ErrUnavailable, CodeUnavailable: quorum.ErrUnavailable,
}

// CodeOf is the code of an error of a register; CodeUnavailable for those it does
// not know.
func CodeOf(err error) string {
	for _, code := range []string{CodeUnknown, CodeMoved, CodeBad, CodeDenied} {
		if errors.Is(err, codeErrors[code]) {
			return code
		}
	}
	return CodeUnavailable
}

// DecodeRequest reads a request of at most [MaxMessage] bytes and checks its
// claims. from is wanted for a swap and refused otherwise. Errors: an
// ErrBadClaim.
func DecodeRequest(r io.Reader, swap bool) (Request, error) {
	var q Request
	b, err := io.ReadAll(io.LimitReader(r, MaxMessage+1))
	if err != nil {
		return q, fmt.Errorf("%w: the request ends in the middle: %w", quorum.ErrBadClaim, err)
	}
	if len(b) > MaxMessage {
		return q, fmt.Errorf("%w: the request is longer than %d bytes", quorum.ErrBadClaim, MaxMessage)
	}
	if err := decodeOne(b, &q); err != nil {
		return q, fmt.Errorf("%w: %w", quorum.ErrBadClaim, err)
	}
	switch {
	case q.To == nil:
		return q, fmt.Errorf("%w: \"to\" is missing", quorum.ErrBadClaim)
	case swap && q.From == nil:
		return q, fmt.Errorf("%w: \"from\" is missing", quorum.ErrBadClaim)
	case !swap && q.From != nil:
		return q, fmt.Errorf("%w: a first claim comes from nowhere", quorum.ErrBadClaim)
	case swap:
		return q, quorum.CheckSwap(*q.From, *q.To)
	}
	return q, q.To.Check()
}

// decodeOne reads one JSON value and nothing behind it.
func decodeOne(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the object")
	}
	return nil
}
