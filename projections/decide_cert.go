package projections

import (
	"encoding/hex"
	"fmt"
	"time"

	"dyad/eventlog"
)

// Bounds of revocations.
const (
	// MaxRevoked bounds how many are remembered.
	MaxRevoked = 1024
	// revokeAhead is by how much the clock of the node that issued a certificate
	// may be ahead of the one that revokes it. Below the hour that certificates are
	// dated back by, so that a new one of the same name is good at once.
	revokeAhead = 30 * time.Minute
	// revokeKeep is how long one is remembered: longer than any user's certificate
	// is good for.
	revokeKeep = 368 * 24 * time.Hour
)

// Kinds of certificates.
const (
	kindNode = "node"
	kindUser = "user"
)

// Revocation is a certificate that is worth nothing, or all of a name.
type Revocation struct {
	eventlog.RevokedPayload
	// Readmitted: a node of that name was let in again.
	Readmitted bool `json:"readmitted,omitempty"`
}

func (r Revocation) key() string {
	if r.Fingerprint != "" {
		return r.Fingerprint
	}
	return r.Kind + "/" + r.Name
}

// IssuedAfter is when the next certificate of a name is issued at the earliest,
// as it would count as revoked otherwise. Zero: any time.
func (s State) IssuedAfter(kind, name string) time.Time { return s.Revoked[kind+"/"+name].Before }

// Refuses tells why a certificate is not accepted any more, empty if it is.
func (s State) Refuses(kind, name, fingerprint string, issued time.Time) string {
	all, some := s.Revoked[kind+"/"+name]
	_, one := s.Revoked[fingerprint]
	switch {
	case kind == kindUser && (one || some && issued.Before(all.Before)):
		return "the certificate of " + name + " was revoked"
	case kind == kindNode && some && (!all.Readmitted || issued.Before(all.Before)):
		return name + " was removed from the cluster"
	}
	return ""
}

func (f *folder) revokeCertificate(c RevokeCertificate) ([]eventlog.Draft, error) {
	p := eventlog.RevokedPayload{Kind: kindUser, Name: c.Name, Fingerprint: c.Fingerprint, At: c.Now, Until: c.Now.Add(revokeKeep)}
	raw, err := hex.DecodeString(c.Fingerprint)
	_, known := f.s.Revoked[c.Fingerprint]
	_, node := f.s.Nodes[c.Name]
	switch {
	case c.Now.IsZero():
		return nil, refuse("revoke-time", "certificate", "dyad cert revoke NAME", "nobody says what time it is")
	case (c.Name == "") == (c.Fingerprint == ""):
		return nil, refuse("revoke-what", "certificate", "dyad cert revoke NAME, or FINGERPRINT", "it takes a user's name or a fingerprint, one of the two")
	case node:
		return nil, refuse("revoke-node", "certificate of "+c.Name, "dyad cert rotate there, or dyad node remove "+c.Name, "%s is a node, not a user", c.Name)
	case c.Fingerprint != "" && (err != nil || len(raw) != 32 || hex.EncodeToString(raw) != c.Fingerprint):
		return nil, refuse("revoke-fingerprint", "certificate", "dyad log list --type certificate.issued", "a fingerprint is a SHA-256 in 64 hexadecimal digits")
	case len(f.s.Revoked) >= MaxRevoked && !known:
		return nil, refuse("too-many-revoked", "certificate", "give certificates a shorter --ttl", "%d are remembered already", MaxRevoked)
	case known:
		return nil, nil
	case c.Name != "":
		if err := checkName("user", c.Name); err != nil {
			return nil, err
		}
		p.Before = c.Now.Add(revokeAhead)
	}
	return change(eventlog.TypeCertificateRevoked, fmt.Sprintf("certificate/user/%s%.12s", c.Name, c.Fingerprint), p, nil, false)
}

// certificateRevoked also forgets what has ended by itself, by the times in the
// events: every node forgets the same.
func (f *folder) certificateRevoked(p eventlog.RevokedPayload) {
	revoked := own(&f.s.Revoked, &f.revoked)
	for k, r := range revoked {
		if r.Kind == kindUser && r.Until.Before(p.At) {
			delete(revoked, k)
		}
	}
	r := Revocation{RevokedPayload: p}
	revoked[r.key()] = r
}

func (f *folder) nodeRevoked(p eventlog.Removed) {
	r := Revocation{RevokedPayload: eventlog.RevokedPayload{Kind: kindNode, Name: p.Name, Before: p.Before}}
	own(&f.s.Revoked, &f.revoked)[r.key()] = r
}

// readmitted: a node of that name joins, with a token or because it is one.
func (f *folder) readmitted(name string) {
	key := kindNode + "/" + name
	if r, ok := f.s.Revoked[key]; ok && !r.Readmitted {
		r.Readmitted = true
		own(&f.s.Revoked, &f.revoked)[key] = r
	}
}
