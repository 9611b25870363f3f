package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"fmt"
)

// XAES-256-GCM (c2sp.org/XAES-256-GCM): AES-256-GCM with a key derived for each
// message from the first half of a 24-byte nonce. Random nonces stay safe for
// 2⁸⁰ messages under one key; plain AES-GCM stops at 2³², which a busy agency's
// own key would reach.

const xaesNonce = 24

// xaesSeal appends the sealed message to dst. key and nonce are not kept.
func xaesSeal(dst []byte, key *[32]byte, nonce, plaintext, aad []byte) ([]byte, error) {
	a, err := xaesAEAD(key, nonce[:12])
	if err != nil {
		return nil, err
	}
	return a.Seal(dst, nonce[12:], plaintext, aad), nil
}

// xaesOpen returns the message, or an error if anything of it was changed.
func xaesOpen(key *[32]byte, nonce, ciphertext, aad []byte) ([]byte, error) {
	a, err := xaesAEAD(key, nonce[:12])
	if err != nil {
		return nil, err
	}
	return a.Open(nil, nonce[12:], ciphertext, aad)
}

// xaesAEAD derives the message's key as NIST SP 800-108r1 says, in counter
// mode with CMAC, for two blocks with the label X and the context n.
func xaesAEAD(key *[32]byte, n []byte) (cipher.AEAD, error) {
	outer, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("AES: %w", err)
	}
	var k1 [16]byte // CMAC's subkey: L doubled in GF(2¹²⁸)
	outer.Encrypt(k1[:], k1[:])
	var carry byte
	for i := len(k1) - 1; i >= 0; i-- {
		carry, k1[i] = k1[i]>>7, k1[i]<<1|carry
	}
	k1[15] ^= carry * 0b10000111

	var derived [32]byte
	defer clear(derived[:])
	for i := range 2 {
		block := derived[16*i : 16*i+16]
		copy(block, []byte{0, byte(i + 1), 'X', 0})
		copy(block[4:], n)
		subtle.XORBytes(block, block, k1[:])
		outer.Encrypt(block, block)
	}
	inner, err := aes.NewCipher(derived[:])
	if err != nil {
		return nil, fmt.Errorf("AES: %w", err)
	}
	return cipher.NewGCM(inner)
}
