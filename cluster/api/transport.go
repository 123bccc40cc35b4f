package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"dyad/eventlog"
	"dyad/projections/audit"
)

func get[T any](ctx context.Context, c *Client, path string, q url.Values) (T, error) {
	return call[T](ctx, c, http.MethodGet, path, q, nil, c.o.Timeout, "")
}

func getList[T any](ctx context.Context, c *Client, path string, q url.Values) ([]T, error) {
	l, err := get[list[T]](ctx, c, path, q)
	return l.Items, err
}

func post[T any](ctx context.Context, c *Client, path string, body any, extra time.Duration, key string) (T, error) {
	var zero T
	b, err := json.Marshal(body)
	if err != nil {
		return zero, usage("body", "the request", "it can't be encoded: "+err.Error(), "")
	}
	if len(b) > MaxBody {
		return zero, usage("body-too-large", "the request", fmt.Sprintf("its body is larger than %d MiB", MaxBody>>20), "split it into several")
	}
	return call[T](ctx, c, http.MethodPost, path, nil, b, c.o.Timeout+extra, key)
}

// call does one request and reads its whole answer.
func call[T any](ctx context.Context, c *Client, method, path string, q url.Values, body []byte, bound time.Duration, key string) (T, error) {
	var out T
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	resp, err := c.send(ctx, method, path, q, body, key)
	if err != nil {
		return out, err
	}
	defer func() { _ = resp.Body.Close() }() // it was read to its end, or is given up
	if resp.StatusCode == http.StatusNoContent {
		return out, nil
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return out, c.broken(err)
	}
	if len(b) > maxAnswer {
		return out, badAnswer(fmt.Sprintf("it is larger than %d MiB", maxAnswer>>20))
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return out, badAnswer(err.Error())
	}
	return out, nil
}

// send does one request; an answer that is not 2xx is an error.
func (c *Client) send(ctx context.Context, method, path string, q url.Values, body []byte, key string) (*http.Response, error) {
	target := c.base + path
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, usage("request", "the request", err.Error(), "give --agent HOST:PORT")
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		// The transport repeats such a request by itself if the agent closed
		// the connection meanwhile; the key makes that harmless.
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.broken(err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }() // the error is what counts
	var e Error
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil {
		err = json.Unmarshal(b, &e)
	}
	if err != nil || e.Class == "" {
		return nil, badAnswer("status " + resp.Status + " without the error's text; is it a dyad agent?")
	}
	return nil, &e
}

// Follow delivers events that match, from q.After on, until ctx ends (which is
// not an error), the caller stops, or the connection breaks.
func (c *Client) Follow(ctx context.Context, q audit.Query) iter.Seq2[eventlog.Public, error] {
	return func(yield func(eventlog.Public, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		var none eventlog.Public
		fail := func(err error) {
			if ctx.Err() == nil {
				yield(none, err)
			}
		}
		resp, err := c.send(ctx, http.MethodGet, PathEventsFollow, values(q), nil, "")
		if err != nil {
			fail(err)
			return
		}
		defer func() { _ = resp.Body.Close() }() // a stream that is left
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, maxLine)
		for lines.Scan() {
			var f failure
			var e eventlog.Public
			if err := errors.Join(json.Unmarshal(lines.Bytes(), &f), json.Unmarshal(lines.Bytes(), &e)); err != nil {
				fail(badAnswer(err.Error()))
				return
			}
			if f.Error != nil {
				fail(f.Error)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
		err = lines.Err()
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		fail(c.broken(err))
	}
}

func badAnswer(why string) *Error {
	return &Error{Class: ClassFailed, Code: "bad-answer", What: "the agent's answer", Why: why, Fix: "compare dyad version here with dyad status there"}
}

// broken words a connection that failed.
func (c *Client) broken(err error) *Error {
	what, fix := "agent at "+c.o.Socket, "systemctl start dyad, or give --socket PATH"
	if c.o.Address != "" {
		what, fix = "agent at "+c.o.Address, "systemctl start dyad there, or give --agent HOST:PORT"
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // without the URL, which is made up for a socket
	}
	if e := untrusted(what, err); e != nil {
		return e
	}
	var op *net.OpError
	dialing := errors.As(err, &op) && op.Op == "dial"
	switch {
	case errors.Is(err, fs.ErrPermission):
		return &Error{
			Class: ClassDenied, Code: "socket-permission", What: what, Why: "you may not use its socket: permission denied",
			Fix: "sudo, or join the group that owns the socket",
		}
	case dialing:
		return &Error{Class: ClassUnavailable, Code: "no-agent", What: what, Why: "it does not answer: " + strings.TrimSpace(err.Error()), Fix: fix}
	case errors.Is(err, context.Canceled):
		return &Error{Class: ClassUnavailable, Code: "canceled", What: what, Why: "the request was given up", Fix: "repeat it with the same key"}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{
			Class: ClassUnavailable, Code: "timeout", What: what, Why: "it did not answer in time",
			Fix: "dyad status; repeat with the same key, or a longer --timeout",
		}
	}
	return &Error{
		Class: ClassUnavailable, Code: "connection-lost", What: what, Why: "the connection broke: " + err.Error(),
		Fix: "repeat it with the same key: what happened meanwhile happens once",
	}
}

// untrusted words a connection that failed because of a certificate; nil if that
// was not why.
func untrusted(what string, err error) *Error {
	var alert tls.AlertError
	var verdict interface{ Untrusted() bool }
	switch {
	case errors.As(err, &alert):
		return &Error{
			Class: ClassDenied, Code: "certificate-refused", What: what, Why: "it does not accept what this side shows: " + alert.Error(),
			Fix: "a certificate of that cluster which has not expired (dyad cert issue), or a token that is neither expired nor used (dyad token create)",
		}
	case errors.As(err, &verdict) && verdict.Untrusted():
		return &Error{
			Class: ClassDenied, Code: "server-untrusted", What: what, Why: "it is not trusted: " + err.Error(),
			Fix: "compare the address, and the clocks of both sides; dyad cert list there",
		}
	}
	return nil
}
