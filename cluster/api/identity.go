package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"dyad/eventlog"
	"dyad/projections"
)

// IdentityBackend is the part of a [Backend] that knows who is who.
type IdentityBackend interface {
	// Identity is this node's authority and certificates.
	Identity(ctx context.Context) (Identity, error)
	// IssueCertificate signs a user's certificate.
	IssueCertificate(ctx context.Context, who Caller, r CertificateRequest) (CertificateAnswer, error)
	// Rotate renews what r names, on this node or on both.
	Rotate(ctx context.Context, who Caller, r RotateRequest) (RotateAnswer, error)
	// SetGossipKeys takes the ring that the other node hands over.
	SetGossipKeys(ctx context.Context, who Caller, r GossipKeys) error
	// Join admits a second node. The caller holds a join token.
	Join(ctx context.Context, who Caller, r JoinRequest) (JoinResponse, error)
	// Denied hears of every attempt that a role did not allow.
	Denied(ctx context.Context, who Caller, d Denial)
}

// Routes of the identity, below /v1 as all others.
const (
	PathTokens       = "/v1/tokens"              // []TokenView
	PathCertificates = "/v1/certificates"        // Identity; POST CertificateRequest → CertificateAnswer
	PathRotate       = "/v1/certificates/rotate" // POST RotateRequest → RotateAnswer
	PathGossipKeys   = "/v1/gossip/keys"         // POST GossipKeys; nodes only
	PathJoin         = "/v1/join"                // POST JoinRequest → JoinResponse; with a join token only
)

// Secret is a secret on its way. It is encoded in JSON and never printed.
type Secret []byte

// Format implements fmt.Formatter, for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("(secret)")) }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue("(secret)") }

// JoinRequest is a node that wants to join.
type JoinRequest struct {
	Node eventlog.Node `json:"node"`
	// PeerURL is where its etcd member will listen for the other member.
	PeerURL string `json:"peer_url"`
	// Store is the key prefix in the external store that it takes the log from;
	// empty: it has a member of its own.
	Store string `json:"store,omitempty"`
	// Voter: it is no node, and is only to hold the third vote.
	Voter bool `json:"voter,omitempty"`
	// Request is its certificate signing request, in PEM.
	Request string `json:"request"`
}

// JoinResponse is what a joining node needs to start.
type JoinResponse struct {
	Cluster string         `json:"cluster"`
	Epoch   eventlog.Epoch `json:"epoch"`
	// Members maps every etcd member's name to its peer URL, the new one too.
	Members map[string]string `json:"members"`
	// Nodes are the gossip addresses to join, host:port.
	Gossip []string `json:"gossip"`
	// Certificate is the node's, with the authority's behind it, in PEM.
	Certificate string `json:"certificate"`
	// CAKey is the authority's key in PEM: both nodes hold it.
	CAKey Secret `json:"ca_key"`
	// GossipKeys decrypt the gossip; the first encrypts.
	GossipKeys []Secret `json:"gossip_keys"`
}

// Certificate is what is shown of a certificate.
type Certificate struct {
	Subject string `json:"subject"`
	Kind    string `json:"kind"` // ca, node, user
	Role    string `json:"role,omitempty"`
	// Fingerprint is the SHA-256 of the certificate, in hex.
	Fingerprint string    `json:"fingerprint"`
	NotBefore   time.Time `json:"not_before"`
	Expires     time.Time `json:"expires"`
	// Renews is when the agent renews it; zero if nobody does.
	Renews time.Time `json:"renews,omitzero"`
	// Expiring: less than a sixth of its lifetime is left.
	Expiring bool `json:"expiring,omitempty"`
}

// Identity is a node's authority and certificates. Nothing in it is secret.
type Identity struct {
	Node    string `json:"node"`
	Cluster string `json:"cluster"`
	// CA is the authority's certificate in PEM, CAFingerprint its SHA-256.
	CA            string        `json:"ca"`
	CAFingerprint string        `json:"ca_fingerprint"`
	Certificates  []Certificate `json:"certificates" nullable:"false"`
	// GossipKeys are the fingerprints of the gossip keys; the first encrypts.
	GossipKeys []string `json:"gossip_keys" nullable:"false"`
	// Revoked are certificates that are refused before they end: of users, and of
	// nodes that were removed.
	Revoked []projections.Revocation `json:"revoked" nullable:"false"`
}

// CertificateRequest asks for a user's certificate.
type CertificateRequest struct {
	Name string        `json:"name"`
	Role Role          `json:"role"`
	TTL  time.Duration `json:"ttl_ns"`
	// Request is the certificate signing request, in PEM: the key stays with
	// whoever asks.
	Request string `json:"request"`
	Reason  string `json:"reason,omitempty"`
}

// CertificateAnswer is a new certificate.
type CertificateAnswer struct {
	// Chain is the certificate with the authority's behind it, in PEM.
	Chain string `json:"chain"`
	Certificate
}

// RotateRequest asks for new certificates or keys.
type RotateRequest struct {
	// GossipKey renews the gossip key on both nodes instead of this node's
	// certificate.
	GossipKey bool   `json:"gossip_key,omitempty"`
	Reason    string `json:"reason,omitempty"`
}

// RotateAnswer tells what is used from here on.
type RotateAnswer struct {
	Certificate *Certificate `json:"certificate,omitempty"`
	// GossipKey is the fingerprint of the new gossip key.
	GossipKey string `json:"gossip_key,omitempty"`
	// Nodes took the gossip key.
	Nodes []string `json:"nodes,omitempty"`
}

// GossipKeys is a whole ring; the first key encrypts.
type GossipKeys struct {
	Keys []Secret `json:"keys"`
}

// TokenView is what is shown of a join token.
type TokenView struct {
	projections.Token
	// State is waiting, used or expired.
	State string `json:"state"`
}

// The states of a token.
const (
	TokenWaiting = "waiting"
	TokenUsed    = "used"
	TokenExpired = "expired"
)

// TokenViews lists the tokens, sorted by ID.
func TokenViews(s projections.State, now time.Time) []TokenView {
	out := []TokenView{}
	for _, t := range byName(s.Tokens) {
		v := TokenView{t, TokenWaiting}
		switch {
		case t.Expired(now):
			v.State = TokenExpired
		case t.Node != "":
			v.State = TokenUsed
		}
		out = append(out, v)
	}
	return out
}

// Revocations lists what is revoked, sorted.
func Revocations(s projections.State) []projections.Revocation {
	out := []projections.Revocation{}
	return append(out, byName(s.Revoked)...)
}

func routeIdentity(a huma.API, b Backend) {
	items(a, operation("GET", "tokens", PathTokens, "The join tokens; their secrets are nowhere"),
		func(context.Context, *nothing) ([]TokenView, error) { return TokenViews(b.State(), time.Now()), nil })
	serve(a, operation("GET", "certificates", PathCertificates, "This node's authority and certificates"),
		func(ctx context.Context, _ *nothing) (Identity, error) { return b.Identity(ctx) })
	serve(a, operation("POST", "issue-certificate", PathCertificates, "Sign a user's certificate"),
		func(ctx context.Context, in *input[CertificateRequest]) (CertificateAnswer, error) {
			if _, err := ParseRole(string(in.Body.Role)); err != nil {
				return CertificateAnswer{}, err
			}
			return b.IssueCertificate(ctx, callerOf(ctx), in.Body)
		})
	serve(a, operation("POST", "rotate", PathRotate, "Renew this node's certificate, or the gossip key on both nodes"),
		func(ctx context.Context, in *input[RotateRequest]) (RotateAnswer, error) {
			return b.Rotate(ctx, callerOf(ctx), in.Body)
		})
	keys := operation("POST", "set-gossip-keys", PathGossipKeys, "Take a ring of gossip keys from the other node")
	keys.DefaultStatus = 204
	huma.Register(a, keys, func(ctx context.Context, in *input[GossipKeys]) (*nothing, error) {
		if err := b.SetGossipKeys(ctx, callerOf(ctx), in.Body); err != nil {
			return nil, AsError(err)
		}
		return &nothing{}, nil
	})
	serve(a, operation("POST", "join", PathJoin, "Admit a second node; only with a join token"),
		func(ctx context.Context, in *input[JoinRequest]) (JoinResponse, error) {
			return b.Join(ctx, callerOf(ctx), in.Body)
		})
}

// Tokens lists the join tokens, sorted by ID.
func (c *Client) Tokens(ctx context.Context) ([]TokenView, error) {
	return getList[TokenView](ctx, c, PathTokens, nil)
}

// Identity asks for the agent's authority and certificates.
func (c *Client) Identity(ctx context.Context) (Identity, error) {
	return get[Identity](ctx, c, PathCertificates, nil)
}

// IssueCertificate asks for a user's certificate.
func (c *Client) IssueCertificate(ctx context.Context, r CertificateRequest) (CertificateAnswer, error) {
	return post[CertificateAnswer](ctx, c, PathCertificates, r, 0, "")
}

// Rotate renews the agent's certificate, or the gossip key on both nodes.
func (c *Client) Rotate(ctx context.Context, r RotateRequest) (RotateAnswer, error) {
	return post[RotateAnswer](ctx, c, PathRotate, r, joinExtra, "")
}

// SetGossipKeys hands a ring to the other node; only nodes may.
func (c *Client) SetGossipKeys(ctx context.Context, r GossipKeys) error {
	_, err := post[nothing](ctx, c, PathGossipKeys, r, 0, "")
	return err
}

// Join asks an agent to admit this node. The client shows a join token.
func (c *Client) Join(ctx context.Context, r JoinRequest) (JoinResponse, error) {
	return post[JoinResponse](ctx, c, PathJoin, r, joinExtra, "")
}

// remoteAddress is where a request comes from; zero if that is no address.
func remoteAddress(s string) netip.Addr {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
