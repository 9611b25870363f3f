package pasban

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// The compact form of a receipt is what a QR code holds. Version 1 is, in bytes,
//
//	version, 1
//	salt, 32 bytes
//	index, as a varint (encoding/binary)
//	number of hashes in the proof, as a varint, and the hashes of 32 bytes
//	the rest: DEFLATE (RFC 1951) with the dictionary compactWords of the
//	canonical body, a line feed, the canonical JSON of what opens an entry that
//	was hidden, or nothing, a line feed, and the checkpoint
//
// Kind and origin stand in the body and in the checkpoint. The restricted part
// is left out. A code holds a part of it as text of the characters that QR codes
// pack most tightly:
//
//	PASBAN1:K/N:TAG:DATA
//
// is part K, from 1, of N; TAG is the first 5 bytes of the SHA-256 of the whole
// and tells apart the codes of several receipts; TAG and DATA are base32
// (RFC 4648, section 6) without padding. White space means nothing, and neither
// does the order of the codes.
const (
	codePrefix     = "PASBAN1:"
	compactVersion = 1
	// codeBytes is the most that one code holds: then its QR code of 97 × 97
	// modules is read from paper by an ordinary telephone.
	codeBytes = 560
	maxCodes  = 64
	// compactWords is the dictionary of version 1. It never changes.
	compactWords = `anonymouscitizensystemautomaticemergencysupervisoranalystauditoradmindecisionchangeheadscreatedisputedeny` +
		`{"action":"view","agency":"","basis":"","case":"","fields":["","id":"","kind":"look","list":{"number":,"previous":"},"mode":"person",` +
		`"outcome":"allow","purpose":"mutation","resource":"","restricted":"","service":"","subject":"","time":"202000Z","v":1,` +
		`"who":{"kind":"person","role":"officer","staff":""}}` + "\n.gov.pk/ledger\n\n\n— "
)

var codeAlphabet = base32.StdEncoding.WithPadding(base32.NoPadding)

// Codes returns the receipt as texts for QR codes, in order. They hold all of it
// but the restricted part; [ParseReceipt] reads them.
func (r Receipt) Codes() ([]string, error) {
	all, err := r.compact()
	if err != nil {
		return nil, err
	}
	n := (len(all) + codeBytes - 1) / codeBytes
	if n > maxCodes {
		return nil, &Error{Kind: Invalid, Msg: fmt.Sprintf("the receipt is too long for codes: %d bytes", len(all)), Hint: "take its JSON form"}
	}
	size := (len(all) + n - 1) / n // codes of one receipt are of one size
	codes := make([]string, n)
	for i := range codes {
		part := all[i*size : min((i+1)*size, len(all))]
		codes[i] = fmt.Sprintf("%s%d/%d:%s:%s", codePrefix, i+1, n, codeTag(all), codeAlphabet.EncodeToString(part))
	}
	return codes, nil
}

func codeTag(all []byte) string {
	h := sha256.Sum256(all)
	return codeAlphabet.EncodeToString(h[:5])
}

func (r Receipt) compact() ([]byte, error) {
	body, err := Canonical(r.Body)
	if err != nil {
		return nil, err
	}
	var hidden []byte
	if r.Hidden != nil {
		if hidden, err = Canonical(r.Hidden); err != nil {
			return nil, err
		}
	}
	if len(r.Salt) != saltSize {
		return nil, &Error{Kind: Invalid, Msg: "the salt of a leaf is 32 bytes"}
	}
	all := append([]byte{compactVersion}, r.Salt...)
	all = binary.AppendUvarint(all, r.Index)
	all = binary.AppendUvarint(all, uint64(len(r.Proof)))
	for _, h := range r.Proof {
		all = append(all, h[:]...)
	}
	text := bytes.NewBuffer(all)
	z, err := flate.NewWriterDict(text, flate.BestCompression, []byte(compactWords))
	if err != nil {
		return nil, err
	}
	for _, part := range [][]byte{body, {'\n'}, hidden, {'\n'}, []byte(r.Checkpoint)} {
		if _, err := z.Write(part); err != nil {
			return nil, err
		}
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}

// parseCodes reads the texts of a receipt's codes, in any order.
func parseCodes(data []byte) (Receipt, error) {
	text := strings.ToUpper(strings.Join(strings.Fields(string(data)), ""))
	var parts [][]byte
	var tag string
	for i, code := range strings.Split(text, codePrefix) {
		if i == 0 { // nothing stands before the first
			continue
		}
		at, rest, _ := strings.Cut(code, ":")
		of, rest, _ := strings.Cut(rest, ":")
		k, n, ok := codePlace(at)
		part, err := codeAlphabet.DecodeString(rest)
		switch {
		case !ok || err != nil || len(part) == 0:
			return Receipt{}, &Error{Kind: Invalid, Msg: fmt.Sprintf("code %d is not readable: not all of it was scanned", i), Err: err}
		case parts == nil:
			parts, tag = make([][]byte, n), of
		case of != tag || n != len(parts):
			return Receipt{}, &Error{Kind: Invalid, Msg: fmt.Sprintf("code %d is of another receipt than the first", i), Hint: "check one receipt at a time"}
		}
		parts[k-1] = part
	}
	for i, part := range parts {
		if part == nil {
			return Receipt{}, &Error{Kind: Invalid, Msg: fmt.Sprintf("code %d of %d is missing", i+1, len(parts)), Hint: "scan all codes of the receipt into one file"}
		}
	}
	all := bytes.Join(parts, nil)
	if len(all) == 0 || codeTag(all) != tag {
		return Receipt{}, &Error{Kind: Invalid, Msg: "the codes are damaged: they do not add up to a receipt", Hint: "scan them again"}
	}
	return parseCompact(all)
}

// codePlace reads K/N.
func codePlace(s string) (k, n int, ok bool) {
	a, b, _ := strings.Cut(s, "/")
	k, err := strconv.Atoi(a)
	n, err2 := strconv.Atoi(b)
	return k, n, err == nil && err2 == nil && 1 <= k && k <= n && n <= maxCodes
}

// maxCompactText bounds what a code may unpack to.
const maxCompactText = 1 << 20

func parseCompact(all []byte) (Receipt, error) {
	bad := func(err error) (Receipt, error) {
		return Receipt{}, &Error{Kind: Invalid, Msg: "not the compact form of a receipt", Err: err}
	}
	if all[0] != compactVersion {
		return Receipt{}, &Error{Kind: Invalid, Msg: fmt.Sprintf("the codes are of version %d, which this program does not know", all[0]), Hint: "use a newer one"}
	}
	in := bytes.NewReader(all[1:])
	r := Receipt{Schema: ReceiptSchema, Salt: make([]byte, saltSize)}
	if _, err := io.ReadFull(in, r.Salt); err != nil {
		return bad(err)
	}
	var n uint64
	for _, v := range []*uint64{&r.Index, &n} {
		var err error
		if *v, err = binary.ReadUvarint(in); err != nil {
			return bad(err)
		}
	}
	if n > 64 {
		return bad(fmt.Errorf("a proof of %d hashes", n))
	}
	r.Proof = make([]tlog.Hash, 0, n)
	for range n {
		var h tlog.Hash
		if _, err := io.ReadFull(in, h[:]); err != nil {
			return bad(err)
		}
		r.Proof = append(r.Proof, h)
	}
	text, err := io.ReadAll(io.LimitReader(flate.NewReaderDict(in, []byte(compactWords)), maxCompactText))
	if err == nil && in.Len() > 0 {
		err = fmt.Errorf("%d bytes too many", in.Len())
	}
	if err != nil {
		return bad(err)
	}
	body, text, _ := bytes.Cut(text, []byte("\n"))
	hidden, checkpoint, _ := bytes.Cut(text, []byte("\n"))
	if len(hidden) > 0 {
		r.Hidden = new(HiddenOpening)
		if err := json.Unmarshal(hidden, r.Hidden); err != nil {
			return bad(err)
		}
	}
	var said struct{ Kind Kind }
	if err := json.Unmarshal(body, &said); err != nil {
		return bad(err)
	}
	r.Kind, r.Body, r.Checkpoint = said.Kind, body, string(checkpoint)
	r.Origin, _, _ = strings.Cut(r.Checkpoint, "\n")
	return r, nil
}
