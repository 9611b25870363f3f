package pasban

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

// algCosignature is the key type of Ed25519 cosignatures, version 1 (C2SP
// tlog-cosignature).
const algCosignature = 4

// WitnessPolicy says which witnesses are believed, and how many of them must
// have cosigned a checkpoint before it counts as final.
type WitnessPolicy struct {
	need int
	of   []witnessKey
}

// NewWitnessPolicy returns the policy "need of these witnesses". The keys are
// verifier keys of type 0x04, as `pasban witness --init` prints them. Two
// entries of one public key are refused, whatever their names: the signed
// message does not hold the witness's name, so that one witness could count
// twice.
func NewWitnessPolicy(need int, vkeys []string) (*WitnessPolicy, error) {
	p := &WitnessPolicy{need: need}
	for _, vkey := range vkeys {
		k, err := parseWitnessKey(vkey)
		if err != nil {
			return nil, err
		}
		for _, other := range p.of {
			if bytes.Equal(other.key, k.key) {
				return nil, &Error{Kind: Invalid, Msg: fmt.Sprintf("the witnesses %s and %s have one key", other.name, k.name), Hint: "each witness counts once"}
			}
		}
		p.of = append(p.of, k)
	}
	if need < 1 || need > len(p.of) {
		return nil, &Error{Kind: Invalid, Msg: fmt.Sprintf("%d cosignatures of %d witnesses cannot be asked for", need, len(p.of)), Hint: "at least 1, at most one for each witness"}
	}
	return p, nil
}

// CheckWitnessKey returns nil if NewWitnessPolicy takes the text for a witness's
// verifier key, and what is wrong with it otherwise.
func CheckWitnessKey(vkey string) error {
	_, err := parseWitnessKey(vkey)
	return err
}

// Need returns how many witnesses must have cosigned.
func (p *WitnessPolicy) Need() int { return p.need }

// Size returns how many witnesses the policy names.
func (p *WitnessPolicy) Size() int { return len(p.of) }

// Cosignature is a witness's statement that, at Time by its own clock, the
// checkpoint was the largest that it had seen of the ledger, and extended all
// that it had seen before.
type Cosignature struct {
	Witness string
	Time    time.Time // whole seconds, UTC
}

// OpenCosigned is OpenCheckpoint for a reader who also believes witnesses, of a
// ledger's checkpoint or of the one in a receipt that Receipt.Verify accepts. It
// returns the cosignatures of the policy's witnesses that hold, in the
// policy's order; with an error of kind Invalid if they are fewer than needed.
// Signatures of others are ignored, and one that does not hold only fails to
// count: whoever can append a line to a checkpoint must not be able to spoil it.
func OpenCosigned(signed []byte, v note.Verifier, p *WitnessPolicy) (Checkpoint, []Cosignature, error) {
	cp, err := OpenCheckpoint(signed, v)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	var held []Cosignature
	for _, k := range p.of {
		n, err := note.Open(signed, note.VerifierList(k))
		if err != nil {
			continue
		}
		at, err := cosignedAt(n.Sigs[0])
		if err != nil {
			continue
		}
		held = append(held, Cosignature{Witness: k.name, Time: at})
	}
	if len(held) < p.need {
		return cp, held, &Error{Kind: Invalid, Msg: fmt.Sprintf("the checkpoint has %d cosignatures of the %d witnesses, %d are needed", len(held), len(p.of), p.need)}
	}
	return cp, held, nil
}

// witnessKey verifies Ed25519 cosignatures, version 1. It is a note.Verifier.
type witnessKey struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func parseWitnessKey(vkey string) (witnessKey, error) {
	bad := func(msg string, err error) (witnessKey, error) {
		return witnessKey{}, &Error{Kind: Invalid, Msg: msg, Err: err, Hint: "a line such as witness.example/w1+8d66cf3f+BAaAh…, as the witness's operator gives it"}
	}
	name, rest, _ := strings.Cut(strings.TrimSpace(vkey), "+")
	hash, key64, ok := strings.Cut(rest, "+")
	if !ok || name == "" || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsSpace) {
		return bad("not a witness's verifier key", nil)
	}
	key, err := base64.StdEncoding.DecodeString(key64)
	switch {
	case err != nil:
		return bad("the witness's key is not base64", err)
	case len(key) == 0 || key[0] != algCosignature:
		return bad("not a key of type 4 (Ed25519 cosignatures, C2SP tlog-cosignature)", nil)
	case len(key) != 1+ed25519.PublicKeySize:
		return bad("the witness's key has the wrong length", nil)
	}
	sum := sha256.Sum256(append([]byte(name+"\n"), key...))
	want := binary.BigEndian.Uint32(sum[:4])
	if got, err := strconv.ParseUint(hash, 16, 32); len(hash) != 8 || err != nil || uint32(got) != want {
		return bad("the witness's key and its key hash do not belong together", err)
	}
	return witnessKey{name, want, key[1:]}, nil
}

// Name implements note.Verifier.
func (k witnessKey) Name() string { return k.name }

// KeyHash implements note.Verifier.
func (k witnessKey) KeyHash() uint32 { return k.hash }

// Verify implements note.Verifier.
func (k witnessKey) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	at := binary.BigEndian.Uint64(sig)
	if at > math.MaxInt64 {
		return false
	}
	return ed25519.Verify(k.key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, msg), sig[8:])
}

// cosignedAt reads the time of a verified cosignature: key hash, time, signature.
func cosignedAt(sig note.Signature) (time.Time, error) {
	raw, err := base64.StdEncoding.DecodeString(sig.Base64)
	if err != nil {
		return time.Time{}, err
	}
	if len(raw) != 4+8+ed25519.SignatureSize {
		return time.Time{}, errors.New("not a timestamped signature")
	}
	return time.Unix(int64(binary.BigEndian.Uint64(raw[4:])), 0).UTC(), nil
}
