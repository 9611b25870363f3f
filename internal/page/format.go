package page

import (
	"fmt"
	"html/template"
	"strconv"
	"time"

	"github.com/go-playground/locales"
	"github.com/go-playground/locales/en_GB"
	"github.com/go-playground/locales/ur_PK"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"golang.org/x/text/number"
)

// timeValue keeps "time" free as a word in templates' function names.
type timeValue = time.Time

// Zone is Pakistan Standard Time, +05:00 without daylight saving: people are
// shown times in it. It is fixed, so that no time zone database is needed.
func Zone() *time.Location { return time.FixedZone("PKT", 5*60*60) }

func translator(lang string) locales.Translator {
	if lang == "ur" {
		return ur_PK.New()
	}
	return en_GB.New()
}

// Months returns the twelve month names of a language, January first.
func Months(lang string) []string {
	tr := translator(lang)
	all := make([]string, 12)
	for i := range all {
		all[i] = tr.MonthWide(time.Month(i + 1))
	}
	return all
}

// Date is a day in Pakistan's time: "21 November 2026", "21 نومبر 2026".
func Date(lang string, t time.Time) string {
	t = t.In(Zone())
	return fmt.Sprintf("%d %s %d", t.Day(), translator(lang).MonthWide(t.Month()), t.Year())
}

// Clock is the time of day in Pakistan: "10:42 am", "صبح 10:42".
func Clock(lang string, t time.Time) string {
	t = t.In(Zone())
	if lang == "ur" {
		return Period(lang, t.Hour()) + " " + t.Format("3:04")
	}
	return t.Format("3:04") + " " + Period(lang, t.Hour())
}

// Period is what an hour of the day (0 to 23) belongs to: am and pm in
// English, the four parts of the day that Urdu speaks of.
func Period(lang string, hour int) string {
	switch {
	case lang != "ur" && hour < 12:
		return "am"
	case lang != "ur":
		return "pm"
	case hour < 4 || hour >= 20:
		return "رات"
	case hour < 12:
		return "صبح"
	case hour < 16:
		return "دوپہر"
	}
	return "شام"
}

// DateTime is day and time in Pakistan: "21 November 2026, 10:42 am".
func DateTime(lang string, t time.Time) string {
	comma := ", "
	if lang == "ur" {
		comma = "، "
	}
	return Date(lang, t) + comma + Clock(lang, t)
}

// Num writes a whole number or a float with the language's grouping, always
// in Latin digits, as Pakistan writes them.
func Num(lang string, n any) string {
	tag := language.BritishEnglish
	if lang == "ur" {
		tag = language.MustParse("ur-PK-u-nu-latn")
	}
	return message.NewPrinter(tag).Sprint(number.Decimal(n))
}

// parseTime accepts a time.Time or the RFC 3339 text of a fact's body.
func parseTime(v any) (time.Time, error) {
	switch v := v.(type) {
	case time.Time:
		return v, nil
	case string:
		return time.Parse(time.RFC3339Nano, v)
	}
	return time.Time{}, fmt.Errorf("not a time: %T", v)
}

func withTime(v any, show func(time.Time) string) (string, error) {
	t, err := parseTime(v)
	if err != nil {
		return "", err
	}
	return show(t), nil
}

// timeElement is <time datetime="…">21 November 2026, 10:42 am</time>.
func timeElement(lang string, v any) (template.HTML, error) {
	t, err := parseTime(v)
	if err != nil {
		return "", err
	}
	return template.HTML(`<time datetime=` + strconv.Quote(t.UTC().Format(time.RFC3339)) + `>` + template.HTMLEscapeString(DateTime(lang, t)) + `</time>`), nil
}
