package identity

import (
	"encoding/json"
	"fmt"
	"log/slog"
)

// Secret is something that is never shown: printing and logging it give a mark
// in its place, JSON refuses it. Whoever needs it asks for it by name.
type Secret struct{ b []byte }

// NewSecret wraps b, which must not be written to afterwards.
func NewSecret(b []byte) Secret { return Secret{b} }

// Reveal is the secret itself.
func (s Secret) Reveal() []byte { return s.b }

// redacted stands wherever a secret would.
const redacted = "(secret)"

// Format implements fmt.Formatter, for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON keeps secrets out of everything that is encoded.
func (Secret) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }
