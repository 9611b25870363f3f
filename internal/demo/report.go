package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// Schema names the version of the summary's JSON form.
const Schema = "pasban.demo.v1"

// Summary is how the story went.
type Summary struct {
	Schema   string  `json:"schema"`
	Seed     uint64  `json:"seed"`
	Citizens int     `json:"citizens"`
	Passed   bool    `json:"passed"` // every beat did
	Beats    []Beat  `json:"beats"`
	Seconds  float64 `json:"seconds"` // of the story, without the start
}

// Beat is one scene of the story and how it went. In a beat without an attack
// the first three figures are zero.
type Beat struct {
	Name    string `json:"name"`
	Title   string `json:"title"`
	Tried   int    `json:"tried"`   // attacks
	Blocked int    `json:"blocked"` // of these, how many got nothing
	// Detected is how many of the attacks left their trace in the journal and
	// are covered by an alert in the console; 0 if no alert was raised.
	Detected          int      `json:"detected"`
	RefusedLegitimate int      `json:"refused_legitimate"`
	Requests          int      `json:"requests"` // legitimate ones
	Alerts            []string `json:"alerts"`   // titles of the alerts that were raised
	Failures          []string `json:"failures"` // what did not hold, in words
	See               string   `json:"see"`      // where it is seen in the console
	Seconds           float64  `json:"seconds"`
	Passed            bool     `json:"passed"`
}

// judge decides whether the beat passed.
func (b *Beat) judge() {
	if b.Blocked < b.Tried {
		b.fail("%d of %d attacks got through", b.Tried-b.Blocked, b.Tried)
	}
	if b.Detected < b.Tried {
		b.fail("%d of %d attacks were not detected", b.Tried-b.Detected, b.Tried)
	}
	if b.RefusedLegitimate > 0 {
		b.fail("%d of %d legitimate requests were refused", b.RefusedLegitimate, b.Requests)
	}
	b.Passed = len(b.Failures) == 0
}

// maxFailures is how many failures of a beat are told one by one.
const maxFailures = 20

func (b *Beat) fail(format string, args ...any) {
	if len(b.Failures) < maxFailures {
		b.Failures = append(b.Failures, fmt.Sprintf(format, args...))
	}
}

// paper writes the story for people. Colours are used only on a terminal and
// without NO_COLOR (no-color.org).
type paper struct {
	w     io.Writer
	color bool
}

func newPaper(w io.Writer) *paper {
	p := &paper{w: w}
	if f, ok := w.(*os.File); ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" {
		info, err := f.Stat()
		p.color = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// Styles of text: bold, dim, good and bad.
const (
	bold = "1"
	dim  = "2"
	good = "32"
	bad  = "1;31"
)

func (p *paper) style(code, text string) string {
	if !p.color || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p *paper) line(format string, args ...any) { fmt.Fprintf(p.w, format+"\n", args...) }

// heading begins a beat.
func (p *paper) heading(n int, title string) {
	p.line("\n%s", p.style(bold, fmt.Sprintf("%d  %s", n, title)))
}

// width is where text is broken; lines of the story begin with a label.
const (
	width  = 96
	indent = 14
)

// say writes a labelled paragraph: tried, pasban, proof, see.
func (p *paper) say(label, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	lead := p.style(dim, fmt.Sprintf("   %-*s", indent-3, label))
	for _, l := range wrap(text, width-indent) {
		p.line("%s%s", lead, l)
		lead = strings.Repeat(" ", indent)
	}
}

// verdict ends a beat.
func (p *paper) verdict(b Beat) {
	mark := p.style(good, "ok")
	if !b.Passed {
		mark = p.style(bad, "FAILED")
	}
	var parts []string
	if b.Tried > 0 {
		parts = append(parts, fmt.Sprintf("%d attacks, %d blocked, %d detected", b.Tried, b.Blocked, b.Detected))
	}
	if b.Requests > 0 {
		parts = append(parts, fmt.Sprintf("%d legitimate requests, %d refused", b.Requests, b.RefusedLegitimate))
	}
	parts = append(parts, fmt.Sprintf("%.1f s", b.Seconds))
	p.say("result", "%s: %s", mark, strings.Join(parts, "; "))
	for _, f := range b.Failures {
		p.say("", "%s", p.style(bad, "- "+f))
	}
}

// summary writes the table at the end.
func (p *paper) summary(s Summary) {
	p.line("\n%s", p.style(bold, "Summary"))
	p.line("   %-34s %7s %8s %9s %11s %8s", "", "attacks", "blocked", "detected", "legitimate", "refused")
	for _, b := range s.Beats {
		result := p.style(good, "ok")
		if !b.Passed {
			result = p.style(bad, "FAILED")
		}
		p.line("   %-34s %7d %8d %9d %11d %8d   %s", clip(b.Title, 34), b.Tried, b.Blocked, b.Detected, b.Requests, b.RefusedLegitimate, result)
	}
	verdict := p.style(good, "Everything held.")
	if !s.Passed {
		verdict = p.style(bad, "It did not hold.")
	}
	p.line("\n   %s The story took %s.", verdict, time.Duration(s.Seconds*float64(time.Second)).Round(100*time.Millisecond))
}

// clip cuts text to n characters.
func clip(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n-1]) + "…"
}

// wrap breaks text at spaces into lines of at most n characters; longer words stand alone.
func wrap(text string, n int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > n {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
