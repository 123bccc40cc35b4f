package projections

import (
	"encoding/hex"
	"fmt"
	"time"

	"dyad/eventlog"
)

// Bounds of join tokens.
const (
	// MinTokenTTL and MaxTokenTTL bound how long a token is good for.
	MinTokenTTL = time.Minute
	MaxTokenTTL = 24 * time.Hour
	// MaxTokens bounds how many may wait to be used or to expire.
	MaxTokens = 32
	// tokenIDLen is how much of the fingerprint is the ID, in hex digits.
	tokenIDLen = 12
)

// PurposeJoin is a token that admits a node.
const PurposeJoin = "join"

// Token is a join token as the log knows it.
type Token struct {
	eventlog.TokenPayload
	// Node and Key are who used it; empty while nobody has.
	Node string `json:"node,omitempty"`
	Key  string `json:"key,omitempty"`
}

// Expired tells whether the token's time is over at now.
func (t Token) Expired(now time.Time) bool { return !now.Before(t.Expires) }

// TokenID is the ID of the token with a fingerprint, empty if that is none.
func TokenID(fingerprint string) string {
	if b, err := hex.DecodeString(fingerprint); err != nil || len(b) != 32 || hex.EncodeToString(b) != fingerprint {
		return ""
	}
	return fingerprint[:tokenIDLen]
}

func (f *folder) createToken(c CreateToken) ([]eventlog.Draft, error) {
	id := TokenID(c.Fingerprint)
	if c.Purpose == "" {
		c.Purpose = PurposeJoin
	}
	open := 0
	for _, t := range f.s.Tokens {
		if !t.Expired(c.Now) {
			open++
		}
	}
	switch {
	case id == "":
		return nil, refuse("token-fingerprint", "token", "dyad token create", "a token is known by the SHA-256 of its key, 64 hexadecimal digits")
	case c.Now.IsZero():
		return nil, refuse("token-time", "token "+id, "dyad token create", "nobody says what time it is")
	case c.Purpose != PurposeJoin:
		return nil, refuse("token-purpose", "token "+id, "leave the purpose out", "%q is no purpose of a token; there is: %s", c.Purpose, PurposeJoin)
	case c.TTL < MinTokenTTL || c.TTL > MaxTokenTTL:
		return nil, refuse("token-ttl", "token "+id, "dyad token create --ttl 15m", "a token is good for %s to %s, not %s", MinTokenTTL, MaxTokenTTL, c.TTL)
	case f.s.Tokens[id].ID != "":
		return nil, refuse("token-exists", "token "+id, "dyad token create", "it exists already")
	case open >= MaxTokens:
		return nil, refuse("too-many-tokens", "token "+id, "dyad token list, then dyad token revoke ID", "%d tokens wait already", open)
	}
	return change(eventlog.TypeTokenCreated, "token/"+id, eventlog.TokenPayload{
		ID: id, Fingerprint: c.Fingerprint, Purpose: c.Purpose, Created: c.Now, Expires: c.Now.Add(c.TTL),
	}, nil, false)
}

// useToken spends a token once. Which of two nodes that try it at the same
// moment has it is decided by the order of the log.
func (f *folder) useToken(c UseToken) ([]eventlog.Draft, error) {
	t, ok := f.s.Tokens[c.ID]
	what, fix := "token "+c.ID, "dyad token create on a node of the cluster"
	switch {
	case !ok:
		return nil, refuse("token-unknown", what, fix, "there is no such token: it expired, was revoked, or is another cluster's")
	case c.Now.IsZero() || t.Expired(c.Now):
		return nil, refuse("token-expired", what, fix, "it expired at %s", t.Expires.Format(time.RFC3339))
	case t.Node == "":
		return change(eventlog.TypeTokenUsed, "token/"+c.ID, eventlog.TokenUse{ID: c.ID, Node: c.Node, Key: c.Key}, nil, false)
	case t.Node != c.Node || t.Key != c.Key:
		return nil, refuse("token-used", what, fix, "%s joined with it already, and a token is good for one node", t.Node)
	}
	return nil, nil // the same node repeats its join
}

func (f *folder) revokeToken(c RevokeToken) ([]eventlog.Draft, error) {
	t, ok := f.s.Tokens[c.ID]
	if !ok {
		return nil, refuse("token-unknown", fmt.Sprintf("token %q", c.ID), "dyad token list", "there is no such token")
	}
	return change(eventlog.TypeTokenRevoked, "token/"+c.ID, eventlog.TokenRef{ID: c.ID}, t, true)
}

// tokenCreated also forgets the tokens that were over when this one was made.
// It goes by the times in the events, so every node forgets the same ones.
func (f *folder) tokenCreated(p eventlog.TokenPayload) {
	tokens := own(&f.s.Tokens, &f.tokens)
	for id, t := range tokens {
		if t.Expired(p.Created) {
			delete(tokens, id)
		}
	}
	tokens[p.ID] = Token{TokenPayload: p}
}

func (f *folder) tokenUsed(p eventlog.TokenUse) {
	if t, ok := f.s.Tokens[p.ID]; ok {
		t.Node, t.Key = p.Node, p.Key
		own(&f.s.Tokens, &f.tokens)[p.ID] = t
		f.readmitted(p.Node)
	}
}
