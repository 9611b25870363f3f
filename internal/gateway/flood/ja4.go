package flood

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// JA4 returns the JA4 fingerprint of a TLS client over TCP: what it is built
// with, not who it is. All browsers of one make and version have the same.
// (FoxIO, JA4: TLS client fingerprinting, BSD 3-clause; Format JA4_a_b_c.)
func JA4(h *tls.ClientHelloInfo) string {
	ciphers := hexes(h.CipherSuites)
	extensions := hexes(h.Extensions)
	sni := "i"
	if slices.Contains(h.Extensions, extServerName) {
		sni = "d"
	}
	a := fmt.Sprintf("t%s%s%02d%02d%s", version(h.SupportedVersions), sni, min(len(ciphers), 99), min(len(extensions), 99), alpn(h.SupportedProtos))
	slices.Sort(ciphers)
	extensions = slices.DeleteFunc(extensions, func(e string) bool { return e == "0000" || e == "0010" })
	slices.Sort(extensions)
	c := strings.Join(extensions, ",")
	schemes := make([]uint16, len(h.SignatureSchemes))
	for i, s := range h.SignatureSchemes {
		schemes[i] = uint16(s)
	}
	if sig := hexes(schemes); len(sig) > 0 {
		c += "_" + strings.Join(sig, ",")
	}
	if len(extensions) == 0 {
		c = ""
	}
	return a + "_" + short(strings.Join(ciphers, ",")) + "_" + short(c)
}

const extServerName = 0

// grease reports whether a value is one of those that say nothing (RFC 8701).
func grease(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }

// hexes writes values that say something as four hex digits each.
func hexes(values []uint16) (out []string) {
	for _, v := range values {
		if !grease(v) {
			out = append(out, fmt.Sprintf("%04x", v))
		}
	}
	return out
}

func version(all []uint16) string {
	newest := uint16(0)
	for _, v := range all {
		if !grease(v) {
			newest = max(newest, v)
		}
	}
	return cmp.Or(map[uint16]string{tls.VersionTLS13: "13", tls.VersionTLS12: "12", tls.VersionTLS11: "11", tls.VersionTLS10: "10", 0x0300: "s3"}[newest], "00")
}

// alpn is the first and last character of the first protocol; of its hex form
// where they are none that can be read.
func alpn(protos []string) string {
	if len(protos) == 0 || protos[0] == "" {
		return "00"
	}
	p := protos[0]
	if !alphanumeric(p[0]) || !alphanumeric(p[len(p)-1]) {
		p = hex.EncodeToString([]byte(p))
	}
	return string([]byte{p[0], p[len(p)-1]})
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// short is the first twelve hex digits of a list's SHA-256, zeros if there is none.
func short(list string) string {
	if list == "" {
		return "000000000000"
	}
	sum := sha256.Sum256([]byte(list))
	return hex.EncodeToString(sum[:6])
}
