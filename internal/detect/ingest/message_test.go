package ingest

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestReadMessage(t *testing.T) {
	long := strings.Repeat("x", maxMessage)
	for _, tt := range []struct {
		name, in string
		want     string // messages, with a bar between
		bad      bool
	}{
		{"lines", "<1>a\n<2>b\n", "<1>a\n|<2>b\n", false},
		{"lengths", "4 <1>a5 <2>bc", "<1>a|<2>bc", false},
		{"both", "4 <1>a<2>b\n4 <3>c", "<1>a|<2>b\n|<3>c", false},
		{"a line that begins with a number", "12a4 x\n<1>a\n", "12a4 x\n|<1>a\n", false},
		{"a year is no length", "2026-11-28T07:05:09Z h p: x\n", "2026-11-28T07:05:09Z h p: x\n", false},
		{"the last line is open", "<1>a", "<1>a", false},
		{"ends within a message", "10 <1>a", "<1>a", false},
		{"ends within a length", "12", "", false},
		{"length over the limit", "9999999 x", "", true},
		{"length without an end", "99999999999 x", "", true},
		{"line over the limit", "<1>" + long + "\n", "", true},
	} {
		in := bufio.NewReaderSize(strings.NewReader(tt.in), 64<<10)
		var got []string
		var err error
		for err == nil {
			var m []byte
			if m, err = readMessage(in, nil); len(m) > 0 {
				got = append(got, string(m))
			}
		}
		if strings.Join(got, "|") != tt.want || errors.Is(err, errMessage) != tt.bad {
			t.Errorf("%s: %.80q, %v", tt.name, got, err)
		}
	}
}

// FuzzReadMessage: any bytes end, and no message is over the limit.
func FuzzReadMessage(f *testing.F) {
	f.Add([]byte("4 <1>a<2>b\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bufio.NewReader(bytes.NewReader(data))
		for n := 0; ; n++ {
			m, err := readMessage(in, nil)
			if len(m) > maxMessage || n > len(data) {
				t.Fatalf("%d bytes, message %d", len(m), n)
			}
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, errMessage) {
					t.Fatal(err)
				}
				return
			}
		}
	})
}
