package keys

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// The plain form of the ring's files: a first line that names the file's
// purpose, so that one cannot stand in for another, then one key per line.
const (
	ringHeader    = "pasban/keys/ring/v1"
	ledgerHeader  = "pasban/keys/ledger/v1"
	witnessHeader = "pasban/keys/witness/v1"
)

var errFormat = errors.New("not in the form of this file")

func formatRing(kek, index [32]byte) []byte {
	b := append([]byte(nil), ringHeader+"\nkek "...)
	b = base64.StdEncoding.AppendEncode(b, kek[:])
	b = append(b, "\nindex "...)
	b = base64.StdEncoding.AppendEncode(b, index[:])
	return append(b, '\n')
}

// parseRing reads exactly what formatRing wrote.
func parseRing(plain []byte) (kek, index [32]byte, err error) {
	line := strings.Split(string(plain), "\n")
	if len(line) != 4 || line[0] != ringHeader || line[3] != "" {
		return kek, index, errFormat
	}
	if kek, err = parseKey(line[1], "kek "); err != nil {
		return kek, index, err
	}
	index, err = parseKey(line[2], "index ")
	return kek, index, err
}

// A named file holds one Ed25519 key and the name that it signs under for life,
// which the file calls by label.
func formatNamed(header, label, name string, seed []byte) []byte {
	b := append([]byte(nil), header+"\n"+label+" "+name+"\ned25519 "...)
	b = base64.StdEncoding.AppendEncode(b, seed)
	return append(b, '\n')
}

// parseNamed reads exactly what formatNamed wrote.
func parseNamed(plain []byte, header, label string) (name string, seed []byte, err error) {
	line := strings.Split(string(plain), "\n")
	if len(line) != 4 || line[0] != header || line[3] != "" {
		return "", nil, errFormat
	}
	name, ok := strings.CutPrefix(line[1], label+" ")
	if !ok || name == "" {
		return "", nil, errFormat
	}
	key, err := parseKey(line[2], "ed25519 ")
	return name, key[:], err
}

func parseKey(line, label string) (key [32]byte, err error) {
	text, ok := strings.CutPrefix(line, label)
	if !ok {
		return key, errFormat
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != len(key) {
		return key, errFormat // the cause may quote the secret
	}
	defer clear(raw)
	return [32]byte(raw), nil
}

// redacted is what every key prints as.
const redacted = "[redacted]"

// hidden, embedded in whatever holds a key, makes it print as [redacted] with
// every verb of fmt, in slog and in JSON.
type hidden struct{}

// Format implements fmt.Formatter.
func (hidden) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// String implements fmt.Stringer.
func (hidden) String() string { return redacted }

// LogValue implements slog.LogValuer.
func (hidden) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, and so JSON's form.
func (hidden) MarshalText() ([]byte, error) { return []byte(redacted), nil }
