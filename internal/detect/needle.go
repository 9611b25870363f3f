package detect

import "bytes"

// needle is a text that is looked for in others by its rarest byte.
type needle struct {
	text   []byte
	rarest int // where in the text
}

// commonBytes are the bytes that logs in lower case are made of, the most
// common first.
const commonBytes = "ae0bsctoiwn dg-2rlqmfu1435h.98y\\p:67kvjzx\n=\r\"\t{}+|_()%;/"

func newNeedle(text string) needle {
	n := needle{text: []byte(text)}
	rank := func(c byte) int {
		if i := bytes.IndexByte([]byte(commonBytes), c); i >= 0 {
			return i
		}
		return len(commonBytes)
	}
	for i := range n.text {
		if rank(n.text[i]) > rank(n.text[n.rarest]) {
			n.rarest = i
		}
	}
	return n
}

// in reports whether a text contains the needle. Where its rarest byte turns out
// to be common, it is looked for as a whole.
func (n *needle) in(text []byte) bool {
	if len(n.text) == 0 {
		return true
	}
	rare, last := n.text[n.rarest], len(text)-len(n.text)
	for start, tries := 0, 0; start <= last; start++ {
		if tries++; tries > 8+start/16 {
			return bytes.Contains(text[start:], n.text)
		}
		i := bytes.IndexByte(text[start+n.rarest:last+n.rarest+1], rare)
		if i < 0 {
			return false
		}
		if start += i; bytes.HasPrefix(text[start:], n.text) {
			return true
		}
	}
	return false
}
