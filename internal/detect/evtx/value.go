package evtx

import (
	"encoding/binary"
	"math"
	"strconv"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// The value types of BinXml, [MS-EVEN6] 2.2.12; with 0x80 an array.
const (
	typeNull     = 0x00
	typeString   = 0x01
	typeAnsi     = 0x02
	typeInt8     = 0x03
	typeUInt8    = 0x04
	typeInt16    = 0x05
	typeUInt16   = 0x06
	typeInt32    = 0x07
	typeUInt32   = 0x08
	typeInt64    = 0x09
	typeUInt64   = 0x0a
	typeReal32   = 0x0b
	typeReal64   = 0x0c
	typeBool     = 0x0d
	typeBinary   = 0x0e
	typeGUID     = 0x0f
	typeSizeT    = 0x10
	typeFileTime = 0x11
	typeSysTime  = 0x12
	typeSID      = 0x13
	typeHex32    = 0x14
	typeHex64    = 0x15
	typeBinXML   = 0x21
	typeEvtXML   = 0x23
	typeArray    = 0x80
)

// bareType reports whether values of a type are JSON numbers or booleans.
func bareType(typ byte) bool { return typ >= typeInt8 && typ <= typeUInt64 || typ == typeBool }

// widthOf is how many bytes one value of a type takes in an array, 0 if they
// differ in length.
func widthOf(typ byte) int {
	switch typ {
	case typeInt8, typeUInt8:
		return 1
	case typeInt16, typeUInt16:
		return 2
	case typeInt32, typeUInt32, typeReal32, typeBool, typeHex32:
		return 4
	case typeInt64, typeUInt64, typeReal64, typeFileTime, typeHex64, typeSizeT:
		return 8
	case typeGUID, typeSysTime:
		return 16
	}
	return 0
}

// appendValue appends a value's text, without quotes, as it stands within a
// JSON string. A value that is shorter than its type is filled up with zeros;
// a type that is not known is written as hexadecimal digits.
func appendValue(out []byte, typ byte, d []byte) []byte {
	switch typ {
	case typeNull:
		return out
	case typeString, typeEvtXML:
		return appendUTF16(out, trim(d))
	case typeAnsi:
		return appendAnsi(out, d)
	case typeInt8, typeInt16, typeInt32, typeInt64:
		width := min(widthOf(typ), max(len(d), 1))
		shift := 64 - 8*width
		return strconv.AppendInt(out, int64(little(d)<<shift)>>shift, 10)
	case typeUInt8, typeUInt16, typeUInt32, typeUInt64:
		return strconv.AppendUint(out, little(d[:min(len(d), widthOf(typ))]), 10)
	case typeReal32:
		return appendFloat(out, float64(math.Float32frombits(uint32(little(d)))), 32)
	case typeReal64:
		return appendFloat(out, math.Float64frombits(little(d)), 64)
	case typeBool:
		return strconv.AppendBool(out, little(d) != 0)
	case typeGUID:
		return appendGUID(out, d)
	case typeFileTime:
		return appendTime(out, little(d))
	case typeSysTime:
		return appendSystemTime(out, d)
	case typeSID:
		return appendSID(out, d)
	case typeHex32, typeHex64, typeSizeT:
		out = append(out, "0x"...)
		return strconv.AppendUint(out, little(d), 16)
	}
	return appendHex(out, d)
}

// little reads up to eight bytes, least significant first.
func little(d []byte) uint64 {
	if len(d) >= 8 {
		return binary.LittleEndian.Uint64(d)
	}
	var v uint64
	for i, b := range d {
		v |= uint64(b) << (8 * i)
	}
	return v
}

func appendHex(out, d []byte) []byte {
	for _, b := range d {
		out = append(out, upperHex[b>>4], upperHex[b&15])
	}
	return out
}

const upperHex = "0123456789ABCDEF"

// appendGUID writes the canonical form; the first three groups are stored
// least significant byte first.
func appendGUID(out, d []byte) []byte {
	if len(d) != 16 {
		return appendHex(out, d)
	}
	for i, at := range [16]int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15} {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			out = append(out, '-')
		}
		out = append(out, upperHex[d[at]>>4], upperHex[d[at]&15])
	}
	return out
}

// appendSID writes a security identifier, [MS-DTYP] 2.4.2.
func appendSID(out, d []byte) []byte {
	if len(d) < 8 || len(d) < 8+4*int(d[1]) {
		return appendHex(out, d)
	}
	var authority uint64
	for _, b := range d[2:8] {
		authority = authority<<8 | uint64(b)
	}
	out = append(out, "S-"...)
	out = strconv.AppendUint(out, uint64(d[0]), 10)
	out = append(out, '-')
	out = strconv.AppendUint(out, authority, 10)
	for i := range int(d[1]) {
		out = append(out, '-')
		out = strconv.AppendUint(out, uint64(binary.LittleEndian.Uint32(d[8+4*i:])), 10)
	}
	return out
}

// appendTime writes a FILETIME with microseconds, UTC. One that no calendar of
// four digits holds is written as the number that it is.
func appendTime(out []byte, ft uint64) []byte {
	t := filetime(ft)
	if t.IsZero() {
		return strconv.AppendUint(out, ft, 10)
	}
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	return appendCalendar(out, year, int(month), day, hour, minute, second, t.Nanosecond()/1000)
}

// appendSystemTime writes a SYSTEMTIME: year, month, day of week, day, hour,
// minute, second, millisecond, each of two bytes. All zero means that it is not
// set, which is written as FILETIME's zero.
func appendSystemTime(out, d []byte) []byte {
	if len(d) != 16 {
		return appendHex(out, d)
	}
	if zero(d) {
		return appendTime(out, 0)
	}
	f := func(i int) int { return int(binary.LittleEndian.Uint16(d[2*i:])) }
	if f(0) > 9999 || f(1) > 12 || f(3) > 31 || f(4) > 24 || f(5) > 60 || f(6) > 61 || f(7) > 999 {
		return appendHex(out, d)
	}
	return appendCalendar(out, f(0), f(1), f(3), f(4), f(5), f(6), f(7)*1000)
}

func appendCalendar(out []byte, year, month, day, hour, minute, second, micro int) []byte {
	out = appendDigits(out, year, 4)
	out = append(out, '-')
	out = appendDigits(out, month, 2)
	out = append(out, '-')
	out = appendDigits(out, day, 2)
	out = append(out, 'T')
	out = appendDigits(out, hour, 2)
	out = append(out, ':')
	out = appendDigits(out, minute, 2)
	out = append(out, ':')
	out = appendDigits(out, second, 2)
	out = append(out, '.')
	out = appendDigits(out, micro, 6)
	return append(out, 'Z')
}

func appendDigits(out []byte, v, width int) []byte {
	at := len(out)
	for range width {
		out = append(out, '0')
	}
	for i := at + width - 1; i >= at; i-- {
		out[i] = byte('0' + v%10)
		v /= 10
	}
	return out
}

// appendFloat writes the shortest text that gives the number back, with a
// fraction even if it is whole.
func appendFloat(out []byte, v float64, bits int) []byte {
	at := len(out)
	out = strconv.AppendFloat(out, v, 'f', -1, bits)
	for _, b := range out[at:] {
		if b == '.' || b > '9' {
			return out
		}
	}
	return append(out, ".0"...)
}

// trim cuts the zeros and the white space off that end a string, as the JSON
// form has it. Zeros in its middle stay: what stands behind them is the event's
// as well.
func trim(d []byte) []byte {
	d = d[:len(d)&^1]
	for len(d) >= 2 {
		if r := rune(binary.LittleEndian.Uint16(d[len(d)-2:])); r != 0 && !unicode.IsSpace(r) {
			break
		}
		d = d[:len(d)-2]
	}
	return d
}

// appendAnsi decodes text of an 8-bit code page. The format does not say which;
// Windows-1252 is what most tools take.
func appendAnsi(out, d []byte) []byte {
	for len(d) > 0 && d[len(d)-1] == 0 {
		d = d[:len(d)-1]
	}
	for _, b := range d {
		out = appendRune(out, charmap.Windows1252.DecodeByte(b))
	}
	return out
}

// appendUTF16 appends UTF-16, least significant byte first, as it stands within
// a JSON string. Half of a surrogate pair becomes U+FFFD.
func appendUTF16(out, d []byte) []byte {
	for len(d) >= 2 {
		if d[1] == 0 && d[0] < utf8.RuneSelf {
			b := d[0]
			if b >= 0x20 && b != '"' && b != '\\' {
				out = append(out, b)
			} else {
				out = appendASCII(out, b)
			}
			d = d[2:]
			continue
		}
		r := rune(binary.LittleEndian.Uint16(d))
		d = d[2:]
		if utf16.IsSurrogate(r) {
			low := rune(0)
			if len(d) >= 2 {
				low = rune(binary.LittleEndian.Uint16(d))
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				d = d[2:]
			}
		}
		out = utf8.AppendRune(out, r)
	}
	return out
}

// appendASCII appends one character, escaped if JSON asks for it.
func appendASCII(out []byte, b byte) []byte {
	switch b {
	case '"', '\\':
		return append(out, '\\', b)
	case '\b':
		return append(out, `\b`...)
	case '\f':
		return append(out, `\f`...)
	case '\n':
		return append(out, `\n`...)
	case '\r':
		return append(out, `\r`...)
	case '\t':
		return append(out, `\t`...)
	}
	if b < 0x20 {
		return append(out, '\\', 'u', '0', '0', upperHex[b>>4], "0123456789abcdef"[b&15])
	}
	return append(out, b)
}
