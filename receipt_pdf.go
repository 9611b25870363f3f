package pasban

import (
	"bytes"
	"compress/zlib"
	"encoding/json"
	"fmt"
	"io"
)

// pdfMark begins a PDF file (ISO 32000-2, section 7.5.2).
const pdfMark = "%PDF-"

// maxUnpacked bounds what is unpacked of one PDF file.
const maxUnpacked = 16 << 20

// parsePDF finds the receipt that is attached to a PDF. What a PDF attaches is
// always a stream of its own, plain or deflated (ISO 32000-2, sections 7.5.7 and
// 7.11.4), also after another program has saved it anew. So every stream is
// looked into, and the file's structure, which could be broken or say two
// things, is not followed. What the pages show is not looked at.
func parsePDF(data []byte) (Receipt, error) {
	var found Receipt
	var canonical []byte
	for budget := int64(maxUnpacked); ; {
		i := bytes.Index(data, []byte("stream"))
		if i < 0 {
			break
		}
		ends := bytes.HasSuffix(data[:i], []byte("end"))
		data = data[i+len("stream"):]
		if ends {
			continue
		}
		content := bytes.TrimPrefix(bytes.TrimPrefix(data, []byte("\r")), []byte("\n"))
		raw := attached(content, &budget)
		if budget <= 0 {
			return Receipt{}, &Error{Kind: Invalid, Msg: fmt.Sprintf("the PDF unpacks to more than %d bytes", maxUnpacked)}
		}
		if raw == nil {
			continue
		}
		r, err := parseReceiptJSON(raw)
		if err != nil {
			continue
		}
		again, err := Canonical(r)
		switch {
		case err != nil:
			continue
		case canonical == nil:
			found, canonical = r, again
		case !bytes.Equal(canonical, again):
			return Receipt{}, &Error{Kind: Invalid, Msg: "the PDF holds more than one receipt", Hint: "check each of its attachments as a file of its own"}
		}
	}
	if canonical == nil {
		return Receipt{}, &Error{Kind: Invalid, Msg: "no receipt is attached to the PDF",
			Hint: "it was printed to a new file, or is protected by a password: use the file as it was downloaded, or the text of its QR codes"}
	}
	return found, nil
}

// attached returns the JSON object that a stream begins with, plain or
// deflated, or nil if it begins with anything else.
func attached(content []byte, budget *int64) json.RawMessage {
	in := io.Reader(bytes.NewReader(content))
	if len(content) > 2 && content[0]&15 == 8 && (int(content[0])<<8|int(content[1]))%31 == 0 { // RFC 1950
		z, err := zlib.NewReader(in)
		if err != nil {
			return nil
		}
		in = z
	}
	limited := &io.LimitedReader{R: in, N: max(*budget, 0)}
	had := limited.N
	defer func() { *budget -= had - limited.N }()
	var first [1]byte
	if _, err := io.ReadFull(limited, first[:]); err != nil || first[0] != '{' {
		return nil
	}
	var object json.RawMessage
	if err := json.NewDecoder(io.MultiReader(bytes.NewReader(first[:]), limited)).Decode(&object); err != nil {
		return nil
	}
	return object
}
