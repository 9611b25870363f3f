package pasban_test

import (
	"slices"
	"strings"
	"testing"

	"pasban"
)

func TestParseCNIC(t *testing.T) {
	const want = pasban.CNIC("61101-1234567-1")
	for _, s := range []string{
		"61101-1234567-1", "6110112345671", " 61101 1234567 1 ", "61101-12345671", "6-1-1-0-1-1-2-3-4-5-6-7-1",
		"۶۱۱۰۱-۱۲۳۴۵۶۷-۱", "٦١١٠١١٢٣٤٥٦٧١", "61101-۱۲۳۴۵۶۷-١",
	} {
		if got, err := pasban.ParseCNIC(s); err != nil || got != want {
			t.Errorf("ParseCNIC(%q) = %q, %v; want %q", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", "-", "61101-1234567", "61101-1234567-12", "01101-1234567-1", "61101–1234567–1", "61101-1234567-x",
		"6110112345671\x00", "٠1101-1234567-1", "६११०११२३४५६७१", "61101\t1234567\t1",
	} {
		if got, err := pasban.ParseCNIC(s); err == nil || got != "" {
			t.Errorf("ParseCNIC(%q) = %q, want an error", s, got)
		} else if pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("ParseCNIC(%q): kind %q, want invalid", s, pasban.KindOf(err))
		}
	}
}

func TestFindCNICs(t *testing.T) {
	for _, c := range []struct {
		text string
		max  int
		want string
		more bool
	}{
		{"", 5, "", false},
		{"owner 61101-1234567-1, buyer 3520212345679.", 5, "61101-1234567-1 35202-1234567-9", false},
		{"61101-1234567-1 and 6110112345671 are one", 5, "61101-1234567-1", false},
		{`{"cnic":"61101-1234567-1"}<b>35202-1234567-9</b>`, 1, "61101-1234567-1", true},
		{"61101-1234567-1 61101-1234567-1", 1, "61101-1234567-1", false},
		{"phone 03001234567, account 611011234567123, 061101-1234567-1", 5, "", false},
	} {
		got, more := pasban.FindCNICs([]byte(c.text), c.max)
		var list []string
		for _, n := range got {
			list = append(list, string(n))
		}
		if strings.Join(list, " ") != c.want || more != c.more {
			t.Errorf("FindCNICs(%q, %d) = %q, %v; want %q, %v", c.text, c.max, list, more, c.want, c.more)
		}
	}
}

func TestMaskCNICs(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "",
		"GET /records/61101-1234567-1?a=b": "GET /records/[CNIC]?a=b",
		"61101 1234567 1, 6110112345671":   "[CNIC], [CNIC]",
		`Get "http://127.0.0.1:9000/records/61101-1234567-1": refused`: `Get "http://127.0.0.1:9000/records/[CNIC]": refused`,
		"LT-2026-T84G5-S1MTF, 123/4, 03001234567":                      "LT-2026-T84G5-S1MTF, 123/4, 03001234567",
	} {
		if got := pasban.MaskCNICs(text); got != want {
			t.Errorf("MaskCNICs(%q) = %q, want %q", text, got, want)
		}
	}
}

// Whatever is read has the written form, reads as itself, and is found in text.
func FuzzParseCNIC(f *testing.F) {
	for _, s := range []string{"61101-1234567-1", "۶۱۱۰۱-۱۲۳۴۵۶۷-۱", "0", "\xff", "61101-1234567-1\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := pasban.ParseCNIC(s)
		if err != nil {
			return
		}
		if len(c) != 15 || c[5] != '-' || c[13] != '-' {
			t.Errorf("ParseCNIC(%q) = %q", s, c)
		}
		if again, err := pasban.ParseCNIC(string(c)); err != nil || again != c {
			t.Errorf("ParseCNIC(%q) = %q, %v", c, again, err)
		}
		if found, _ := pasban.FindCNICs([]byte("a "+c+"."), 2); !slices.Equal(found, []pasban.CNIC{c}) {
			t.Errorf("FindCNICs found %q for %q", found, c)
		}
	})
}
