package waftest

import (
	"bytes"
	"math/rand/v2"
)

// fragments are what mutations put into requests: what rules look for, what
// decoders undo, and what is not text.
var fragments = []string{
	"'", "\"", "<script>", "%27", "%u0027", "%c0%af", "../", "..%2f", "\\x3c", "&lt;", "&#x27;", "/**/", "--", ";", "|", "`", "$(", "${jndi:", "{{",
	"union select", "or 1=1", "onerror=", "javascript:", "/etc/passwd", "<?php", "cmd.exe", "%00", "%ff", "\xff", "\xc3\x28", "ا", "شہری", "％27", "ſelect",
	"=", "&", "a=1&", "?", "#", "+", " ", "%20", "0", "1e1", "true", "[]", "{}", "null", "\t", "AND", "sleep(1)", "\u212a",
}

// Mutate returns a copy of a request in which some bytes of the request's
// target, headers or body are changed, doubled, left out or replaced by what
// rules look for. Most of what comes out is still a request.
func Mutate(rng *rand.Rand, raw []byte) []byte {
	out := bytes.Clone(raw)
	for range 1 + rng.IntN(4) {
		if len(out) < 2 {
			break
		}
		at := rng.IntN(len(out))
		// The method and the version stay: without them nothing is inspected.
		if line := bytes.IndexByte(out, '\n'); at < line {
			begin, end := bytes.IndexByte(out[:line], ' ')+1, bytes.LastIndexByte(out[:line], ' ')
			if begin <= 0 || end <= begin {
				continue
			}
			at = begin + rng.IntN(end-begin)
		}
		to := min(len(out), at+1+rng.IntN(6))
		var with []byte
		switch rng.IntN(5) {
		case 0: // left out
		case 1:
			with = append(bytes.Clone(out[at:to]), out[at:to]...)
		case 2:
			with = []byte{byte(rng.IntN(256))}
		default:
			with = []byte(fragments[rng.IntN(len(fragments))])
			to = at
		}
		out = append(append(bytes.Clone(out[:at]), with...), out[to:]...)
	}
	return out
}
