package config

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Secret is a value that may be written as file:PATH or hold ${ENV}. It prints
// and logs as [secret].
type Secret string

// Value returns the secret itself.
func (s Secret) Value() string { return string(s) }

// String hides the value.
func (s Secret) String() string { return "[secret]" }

// GoString hides the value from %#v.
func (s Secret) GoString() string { return "[secret]" }

// LogValue hides the value from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText hides the value from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes the value as it is written; Load resolves it.
func (s *Secret) UnmarshalText(text []byte) error { *s = Secret(text); return nil }

var envReference = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// resolve replaces file:PATH by the file's content without its last newline,
// and each ${NAME} by the environment's value. Relative paths are relative to
// dir. The error never holds the value.
func (s Secret) resolve(dir string) (Secret, error) {
	if name, ok := strings.CutPrefix(string(s), "file:"); ok {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("the secret's file is not readable: %w", err)
		}
		value := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
		if value == "" {
			return "", fmt.Errorf("the secret's file %s is empty", name)
		}
		return Secret(value), nil
	}
	var missing []string
	out := envReference.ReplaceAllStringFunc(string(s), func(ref string) string {
		name := ref[2 : len(ref)-1]
		value := os.Getenv(name)
		if value == "" {
			missing = append(missing, name)
		}
		return value
	})
	if missing != nil {
		return "", fmt.Errorf("the environment has no %s", strings.Join(missing, ", "))
	}
	return Secret(out), nil
}
