package units

import "log/slog"

// Secret is a text that must not be seen: a token, a password, a signed address. It
// prints as *** wherever it is formatted, logged or encoded; only Reveal gives it.
type Secret string

const hidden = "***"

// Reveal returns the secret itself. What it returns belongs on the wire only.
func (s Secret) Reveal() string { return string(s) }

// String returns *** for a secret, and nothing for none.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return `"` + s.String() + `"` }

// MarshalText hides the secret from JSON, YAML and other encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the secret from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
