package hunt

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/detect"
	"pasban/internal/eventstore"
)

// About is what a rule says beside its detection, as far as it is known. What
// is not becomes a placeholder in capitals.
type About struct {
	Title       string
	Description string
	Source      detect.Logsource // that the hunt's events have; see Common
	Date        time.Time
}

// Draft is a Sigma rule that says what a hunt says, as far as Sigma can.
type Draft struct {
	ID          string // the rule's
	Rule        string // as YAML
	Source      detect.Logsource
	Differences []Difference
	Problems    config.Problems // what "pasban rules lint" finds; none if the rule holds

	engine *detect.Engine // nil if there are problems
}

// NewDraft writes a query as a Sigma rule. Errors: Invalid if the query cannot
// be read.
func NewDraft(query string, about About) (Draft, error) {
	whole, err := canonical(query)
	if err != nil {
		return Draft{}, err
	}
	filter, pipes := split(whole)
	root, err := parse(filter)
	if err != nil {
		return Draft{}, &pasban.Error{Kind: pasban.Invalid, Msg: "this query has a form that is not known here", Hint: "write it in a simpler way", Err: err}
	}
	t := &translator{names: map[string]int{}}
	d := Draft{ID: uuid(whole + "\n" + about.Title)}
	detection := t.expr(root, true, false)
	t.pipes(pipes)
	d.Differences, d.Source = t.differs, t.source
	if d.Source == (detect.Logsource{}) {
		d.Source = about.Source
	}
	if detection == "" {
		d.Problems = config.Problems{{File: "draft", Field: "detection", Msg: "nothing of this hunt can be said in Sigma", Hint: "narrow the hunt by a field first"}}
		return d, nil
	}
	d.Rule = d.write(whole, about, t.text.String(), detection)
	d.engine, err = detect.LoadText("draft.yml", []byte(d.Rule))
	if problems, ok := errors.AsType[config.Problems](err); ok {
		d.Problems = problems
	} else if err != nil {
		return Draft{}, fmt.Errorf("check the draft: %w", err)
	}
	return d, nil
}

// pipes tells of each pipe that a rule does not say it.
func (t *translator) pipes(pipes string) {
	shows := []string{"fields", "keep", "sort", "order", "limit", "head", "offset", "skip", "delete", "drop", "del", "rm", "first", "last"}
	for pipes != "" {
		one, rest := split(strings.TrimPrefix(strings.TrimSpace(pipes), "|"))
		one = strings.TrimSpace(one)
		name, _, _ := strings.Cut(one, " ")
		why := whyPipe
		if slices.Contains(shows, name) {
			why = whyShow
		}
		t.lose("| "+one, why)
		pipes = rest
	}
}

// write puts the rule together.
func (d *Draft) write(query string, about About, searches, condition string) string {
	var b strings.Builder
	text := func(key, value, missing string) {
		if value = strings.Join(strings.Fields(value), " "); value == "" {
			value = missing
		}
		v, ok := scalar(value)
		if !ok {
			v = "'" + missing + "'"
		}
		fmt.Fprintf(&b, "%s: %s\n", key, v)
	}
	b.WriteString("# A draft, written by Pasban from a hunt. What stands in capitals is for a person to fill in.\n")
	fmt.Fprintf(&b, "# The hunt: %s\n", oneLine(query))
	for _, diff := range d.Differences {
		what := "Said otherwise"
		if diff.Lost {
			what = "Not said"
		}
		fmt.Fprintf(&b, "# %s: %s\n#   %s\n", what, oneLine(diff.Part), diff.Why)
	}
	text("title", about.Title, "TITLE: what was found, in a few words")
	fmt.Fprintf(&b, "id: %s\nstatus: experimental\n", d.ID)
	text("description", about.Description, "DESCRIPTION: what the rule finds, and why that matters")
	fmt.Fprintf(&b, "author: 'AUTHOR'\ndate: %s\nlogsource:\n", about.Date.UTC().Format(time.DateOnly))
	for _, part := range [][2]string{{"product", d.Source.Product}, {"category", d.Source.Category}, {"service", d.Source.Service}} {
		if v, ok := scalar(part[1]); ok && part[1] != "" {
			fmt.Fprintf(&b, "    %s: %s\n", part[0], v)
		}
	}
	if d.Source == (detect.Logsource{}) {
		b.WriteString("    product: 'PRODUCT'\n    service: 'SERVICE'\n")
	}
	fmt.Fprintf(&b, "detection:\n%s    condition: %s\n", searches, condition)
	b.WriteString("falsepositives:\n    - 'FALSE POSITIVES: what else looks like this'\n")
	b.WriteString("level: medium # LEVEL: informational, low, medium, high or critical\n")
	return b.String()
}

// oneLine is a text that cannot leave a comment of YAML.
func oneLine(s string) string {
	q := strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r == 0xfffd {
			return ' '
		}
		return r
	}, s)
	return strings.ToValidUTF8(q, " ")
}

// Try reports whether the rule holds for an event that was found. An error says
// that the event is not one that rules can see. A draft with problems holds for
// none.
func (d Draft) Try(row eventstore.Row) (bool, error) {
	if d.engine == nil {
		return false, nil
	}
	raw, err := eventJSON(row)
	if err != nil {
		return false, err
	}
	hits, err := d.engine.Scan(raw, SourceOf(row))
	return len(hits) > 0, err
}

// SourceOf is the logsource of an event that was found.
func SourceOf(row eventstore.Row) detect.Logsource {
	return detect.Logsource{Product: row.Get(eventstore.FieldProduct), Category: row.Get(eventstore.FieldCategory), Service: row.Get(eventstore.FieldService)}
}

// eventJSON is an event that was found as rules see it: without the store's own
// fields, and with lists, which the store keeps as JSON, as lists again.
func eventJSON(row eventstore.Row) ([]byte, error) {
	event := map[string]any{}
	for _, f := range row {
		name := eventstore.EventName(f.Name)
		switch {
		case name == "":
		case isList(f.Value):
			event[name] = json.RawMessage(f.Value)
		default:
			event[name] = f.Value
		}
	}
	raw, err := json.Marshal(event)
	if err != nil {
		return nil, fmt.Errorf("write an event: %w", err)
	}
	return raw, nil
}

// isList reports whether a value is a list, which the store keeps as JSON.
func isList(value string) bool { return strings.HasPrefix(value, "[") && json.Valid([]byte(value)) }

// Common is the narrowest logsource that all of the given ones are of; the zero
// value if there is none.
func Common(sources []detect.Logsource) detect.Logsource {
	if len(sources) == 0 {
		return detect.Logsource{}
	}
	same := sources[0]
	for _, s := range sources[1:] {
		if s.Product != same.Product {
			same.Product = ""
		}
		if s.Category != same.Category {
			same.Category = ""
		}
		if s.Service != same.Service {
			same.Service = ""
		}
	}
	return same
}

// uuid names a rule by what it is made from, so that the same hunt gives the
// same rule (RFC 9562, version 8).
func uuid(of string) string {
	b := sha256.Sum256([]byte("pasban hunt draft v1\n" + of))
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
