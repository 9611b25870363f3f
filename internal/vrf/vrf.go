// Package vrf is the verifiable random function ECVRF-EDWARDS25519-SHA512-TAI of
// RFC 9381: a keyed hash whose holder can prove, to anyone who has the public
// key, that it was computed rightly, and that has one value for each input.
//
// A [Key] proves, [Verify] checks a proof and returns the value. It stands below
// every other room, so that package pasban can verify with it.
//
// # What it must never do
//
// It never gives the bytes of a key away, and [Verify] never accepts two values
// for one input, whoever made the key.
package vrf

import (
	"bytes"
	"crypto/sha512"
	"crypto/subtle"
	"errors"

	"filippo.io/edwards25519"
)

const (
	// ProofSize is the length of a proof in bytes.
	ProofSize = 80
	// PublicSize is the length of a public key in bytes.
	PublicSize = 32
	// ValueSize is the length of a value in bytes.
	ValueSize = sha512.Size

	suite = 0x03
	cSize = 16
)

// Key is a secret key. It is safe for concurrent use.
type Key struct {
	x      *edwards25519.Scalar
	prefix [32]byte // for nonces (RFC 8032, section 5.1.6)
	public []byte
}

// NewKey makes the key of a seed of 32 uniformly random bytes, as RFC 8032,
// section 5.1.5 does.
func NewKey(seed [32]byte) *Key {
	h := sha512.Sum512(seed[:])
	x, err := edwards25519.NewScalar().SetBytesWithClamping(h[:32])
	if err != nil {
		panic(err) // only for another length
	}
	k := &Key{x: x, public: new(edwards25519.Point).ScalarBaseMult(x).Bytes()}
	copy(k.prefix[:], h[32:])
	return k
}

// String hides the key however it is printed.
func (k *Key) String() string { return "[redacted]" }

// GoString hides the key however it is printed.
func (k *Key) GoString() string { return k.String() }

// Public returns the public key.
func (k *Key) Public() []byte { return bytes.Clone(k.public) }

// Prove returns the function's value of alpha and the proof of it (RFC 9381,
// section 5.1).
func (k *Key) Prove(alpha []byte) (value [ValueSize]byte, proof []byte, err error) {
	h, err := encodeToCurve(k.public, alpha)
	if err != nil {
		return value, nil, err
	}
	hBytes := h.Bytes()
	gamma := new(edwards25519.Point).ScalarMult(k.x, h)
	n := sha512.New()
	n.Write(k.prefix[:])
	n.Write(hBytes)
	nonce, err := edwards25519.NewScalar().SetUniformBytes(n.Sum(nil))
	if err != nil {
		return value, nil, err
	}
	u := new(edwards25519.Point).ScalarBaseMult(nonce)
	v := new(edwards25519.Point).ScalarMult(nonce, h)
	c := challenge(k.public, hBytes, gamma.Bytes(), u.Bytes(), v.Bytes())
	s := edwards25519.NewScalar().MultiplyAdd(scalar(c), k.x, nonce)
	proof = append(append(gamma.Bytes(), c...), s.Bytes()...)
	return toValue(gamma), proof, nil
}

var errProof = errors.New("the proof is not one of this key for this input")

// Verify checks a proof of the value of alpha under a public key and returns the
// value (RFC 9381, section 5.3, with the key's validation of section 5.4.5).
func Verify(public, alpha, proof []byte) (value [ValueSize]byte, err error) {
	y, err := point(public)
	if err != nil || new(edwards25519.Point).MultByCofactor(y).Equal(edwards25519.NewIdentityPoint()) == 1 {
		return value, errors.New("not a public key")
	}
	if len(proof) != ProofSize {
		return value, errProof
	}
	gamma, err := point(proof[:32])
	if err != nil {
		return value, errProof
	}
	c := scalar(proof[32 : 32+cSize])
	s, err := edwards25519.NewScalar().SetCanonicalBytes(proof[32+cSize:])
	if err != nil {
		return value, errProof
	}
	h, err := encodeToCurve(public, alpha)
	if err != nil {
		return value, err
	}
	minus := edwards25519.NewScalar().Negate(c)
	u := new(edwards25519.Point).VarTimeDoubleScalarBaseMult(minus, y, s)
	v := new(edwards25519.Point).VarTimeMultiScalarMult(
		[]*edwards25519.Scalar{s, minus}, []*edwards25519.Point{h, gamma})
	if subtle.ConstantTimeCompare(challenge(public, h.Bytes(), proof[:32], u.Bytes(), v.Bytes()), proof[32:32+cSize]) != 1 {
		return value, errProof
	}
	return toValue(gamma), nil
}

// encodeToCurve is try and increment (section 5.4.1.1).
func encodeToCurve(public, alpha []byte) (*edwards25519.Point, error) {
	for ctr := range 256 {
		d := sha512.New()
		d.Write([]byte{suite, 0x01})
		d.Write(public)
		d.Write(alpha)
		d.Write([]byte{byte(ctr), 0x00})
		p, err := point(d.Sum(nil)[:32])
		if err != nil {
			continue
		}
		if p.MultByCofactor(p); p.Equal(edwards25519.NewIdentityPoint()) == 0 {
			return p, nil
		}
	}
	return nil, errors.New("the input has no point") // once in 2^256
}

// point decodes a point, and only its canonical encoding.
func point(b []byte) (*edwards25519.Point, error) {
	p, err := new(edwards25519.Point).SetBytes(b)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(p.Bytes(), b) {
		return nil, errors.New("not the canonical encoding of a point")
	}
	return p, nil
}

// challenge is section 5.4.3.
func challenge(points ...[]byte) []byte {
	d := sha512.New()
	d.Write([]byte{suite, 0x02})
	for _, p := range points {
		d.Write(p)
	}
	d.Write([]byte{0x00})
	return d.Sum(nil)[:cSize]
}

// scalar reads 16 bytes, little-endian, which is always below the order.
func scalar(c []byte) *edwards25519.Scalar {
	var wide [32]byte
	copy(wide[:], c)
	s, err := edwards25519.NewScalar().SetCanonicalBytes(wide[:])
	if err != nil {
		panic(err)
	}
	return s
}

// toValue is section 5.2.
func toValue(gamma *edwards25519.Point) (value [ValueSize]byte) {
	d := sha512.New()
	d.Write([]byte{suite, 0x03})
	d.Write(new(edwards25519.Point).MultByCofactor(gamma).Bytes())
	d.Write([]byte{0x00})
	d.Sum(value[:0])
	return value
}
