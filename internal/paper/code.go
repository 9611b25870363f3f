package paper

import (
	"fmt"
	"image/color"
	"strings"

	"github.com/boombuler/barcode/qr"
)

// QR is a QR code (ISO/IEC 18004) of Size × Size modules, with error correction
// of level M: it is read with a seventh of it gone.
type QR struct {
	Size int
	dark []bool // by row
}

// quiet is how many light modules must surround a code.
const quiet = 4

// NewQR makes the code of a text of digits, capital letters and " $%*+-./:". It
// fails for any other and for one of more than 3,391 characters.
func NewQR(text string) (QR, error) {
	code, err := qr.Encode(text, qr.M, qr.AlphaNumeric)
	if err != nil {
		return QR{}, fmt.Errorf("QR code of %d characters: %w", len(text), err)
	}
	q := QR{Size: code.Bounds().Dx()}
	for y := range q.Size {
		for x := range q.Size {
			q.dark = append(q.dark, color.GrayModel.Convert(code.At(x, y)).(color.Gray).Y < 128)
		}
	}
	return q, nil
}

// Box is the viewBox of an SVG image that shows the code with its margin.
func (q QR) Box() string { return fmt.Sprintf("0 0 %d %[1]d", q.Size+2*quiet) }

// Path is a path in that image whose stroke, one module wide, is the dark ones.
func (q QR) Path() string {
	var b strings.Builder
	for y := range q.Size {
		at := -1 // where the row's last stroke ended; -1 before the first
		for x := 0; x < q.Size; x++ {
			n := 0
			for x+n < q.Size && q.dark[y*q.Size+x+n] {
				n++
			}
			switch {
			case n == 0:
				continue
			case at < 0:
				fmt.Fprintf(&b, "M%d %d.5h%d", x+quiet, y+quiet, n)
			default:
				fmt.Fprintf(&b, "m%d 0h%d", x-at, n)
			}
			at = x + n
			x = at
		}
	}
	return b.String()
}

// bits are the modules as an image of one bit each, 1 for light, its rows padded
// to bytes.
func (q QR) bits() []byte {
	row := (q.Size + 7) / 8
	out := make([]byte, row*q.Size)
	for i, dark := range q.dark {
		if !dark {
			out[i/q.Size*row+i%q.Size/8] |= 0x80 >> (i % q.Size % 8)
		}
	}
	return out
}
