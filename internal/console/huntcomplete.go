package console

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf16"

	"pasban/internal/detect"
	"pasban/internal/eventstore"
	"pasban/internal/soc"
	"pasban/internal/soc/hunt"
)

const (
	// completions is how many are offered at once.
	completions = 12
	// completeTime is how long the store may take for them.
	completeTime = 5 * time.Second
	// fieldsAge is how long the names of fields are remembered.
	fieldsAge = time.Minute
	// listedAge is how long the fact that somebody had a field's values listed
	// stands for listing them again.
	listedAge = time.Hour
	// listedMax bounds how many such facts are remembered.
	listedMax = 1000
	// completeMax is the longest text that is completed, in bytes.
	completeMax = 16 << 10
)

// fieldNames remembers the fields of the last day's events, and who had whose
// values listed.
type fieldNames struct {
	mu     sync.Mutex // covers everything below
	at     time.Time
	counts []eventstore.FieldCount
	listed map[string]time.Time // actor and field → when that was recorded
}

// pipes are LogsQL's pipes with an example of each that hunters use
// (docs.victoriametrics.com/victorialogs/logsql/#pipes).
func pipes() [][2]string {
	return [][2]string{
		{"stats", "stats by (SrcIP) count() as n"}, {"sort", "sort by (n desc)"}, {"limit", "limit 20"}, {"top", "top 10 by (Actor)"},
		{"uniq", "uniq by (SrcIP, Actor)"}, {"fields", "fields _time, Actor, SrcIP"}, {"filter", "filter n:>10"}, {"field_values", "field_values Actor"},
		{"facets", "facets 5"}, {"first", "first 1 by (_time)"}, {"last", "last 1 by (_time)"}, {"extract", `extract "user=<user> " from _msg`},
		{"extract_regexp", `extract_regexp "port (?P<port>[0-9]+)"`}, {"unpack_json", "unpack_json from _msg"}, {"unpack_logfmt", "unpack_logfmt from _msg"},
		{"format", `format "<Actor> from <SrcIP>" as who`}, {"math", "math n / 60 as per_minute"}, {"len", "len(Path) as length"},
		{"rename", "rename SrcIP as address"}, {"delete", "delete UserAgent"}, {"replace", `replace ("a", "b") at Path`}, {"sample", "sample 100"},
		{"collapse_nums", "collapse_nums at Path"}, {"stream_context", "stream_context before 5 after 5"}, {"union", "union (Kind:=alarm)"}, {"join", "join by (Actor) (Kind:=signin | fields Actor, SrcIP)"},
	}
}

// partial is what is being written where a text ends.
type partial struct {
	text   string // that a completion replaces
	kind   string // field, value, pipe, name (a field in a pipe) or ""
	field  string // whose value it is
	prefix string // as far as it is written
}

// completing finds out what is being written at the end of a text.
func completing(text string) partial {
	word, bar := 0, -1
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '"', '`', '\'':
			end := closing(text, i)
			if end < 0 {
				return partialValue(text[word:i], text[i+1:], text[word:])
			}
			i = end
		case '|':
			bar, word = i, i+1
		case ' ', '\t', '\n', '(', ',', '!', ')':
			word = i + 1
		}
	}
	w := text[word:]
	switch {
	case strings.Contains(w, ":") && bar < 0:
		at := strings.LastIndexByte(w, ':')
		return partialValue(w[:at+1], strings.TrimPrefix(w[at+1:], "="), w)
	case bar >= 0 && strings.TrimSpace(text[bar+1:word]) == "":
		return partial{text: w, kind: "pipe", prefix: w}
	case bar >= 0:
		return partial{text: w, kind: "name", prefix: w}
	}
	return partial{text: w, kind: "field", prefix: w}
}

// closing is where the quote that opens at i closes, -1 if it does not.
func closing(text string, i int) int {
	for j := i + 1; j < len(text); j++ {
		switch {
		case text[j] == '\\' && text[i] != '`':
			j++
		case text[j] == text[i]:
			return j
		}
	}
	return -1
}

// partialValue is a value of the field whose name and colon stand before it.
func partialValue(name, prefix, whole string) partial {
	field, ok := strings.CutSuffix(strings.TrimSuffix(name, "="), ":")
	if unquoted, err := strconv.Unquote(field); err == nil {
		field = unquoted
	}
	if !ok || field == "" {
		return partial{}
	}
	prefix = strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(prefix)
	return partial{text: whole, kind: "value", field: field, prefix: prefix}
}

// completionJSON is one thing that may be written next.
type completionJSON struct {
	Text  string `json:"text"`  // what takes the place of what is there
	Label string `json:"label"` // what is offered
	Hint  string `json:"hint,omitempty"`
}

// complete offers how the text before the cursor may go on.
func (c *Console) complete(w http.ResponseWriter, r *http.Request, v Visitor) error {
	before := r.URL.Query().Get("before")
	doc := struct {
		Schema string           `json:"schema"`
		From   int              `json:"from"` // where the replaced text begins, in UTF-16 units
		Items  []completionJSON `json:"items"`
	}{"pasban.hunt-complete.v1", 0, []completionJSON{}}
	if len(before) <= completeMax {
		p := completing(before)
		doc.From = len(utf16.Encode([]rune(strings.TrimSuffix(before, p.text))))
		ctx, cancel := context.WithTimeout(r.Context(), completeTime)
		defer cancel()
		doc.Items = append(doc.Items, c.offers(ctx, v, p)...)
	}
	c.o.Pages.JSON(w, r, http.StatusOK, "", doc)
	return nil
}

// offers lists completions. A store that does not answer offers nothing: the
// query can be written without.
func (c *Console) offers(ctx context.Context, v Visitor, p partial) (out []completionJSON) {
	switch p.kind {
	case "pipe":
		for _, pipe := range pipes() {
			if strings.HasPrefix(pipe[0], strings.ToLower(p.prefix)) && len(out) < completions {
				out = append(out, completionJSON{pipe[0] + " ", pipe[0], pipe[1]})
			}
		}
	case "field", "name":
		for _, f := range c.knownFields(ctx) {
			if len(out) == completions || !hasPrefixFold(f.Name, strings.Trim(p.prefix, "\"")) {
				continue
			}
			text := f.Name
			if is, ok := hunt.Is(f.Name, "x"); ok && f.Name != eventstore.FieldMessage {
				text = strings.TrimSuffix(is, ":=x")
			}
			if p.kind == "field" {
				text += ":"
			}
			item := completionJSON{Text: text, Label: f.Name}
			if f.Count > 0 {
				item.Hint = strconv.FormatInt(f.Count, 10)
			}
			out = append(out, item)
		}
	case "value":
		return c.offerValues(ctx, v, p)
	}
	return out
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// offerValues lists the most frequent values of the last day that begin so.
// That somebody had a field's values listed is a fact, once an hour.
func (c *Console) offerValues(ctx context.Context, v Visitor, p partial) (out []completionJSON) {
	if _, ok := hunt.Is(p.field, p.prefix); !ok {
		return nil
	}
	query := strconv.Quote(p.field) + ":*"
	if c.recordListing(ctx, v, p.field, query) != nil {
		return nil
	}
	if p.prefix != "" {
		query = strconv.Quote(p.field) + ":=" + strconv.Quote(p.prefix) + "*"
	}
	now := c.o.Now().UTC()
	counts, err := c.o.Events.Values(ctx, eventstore.Query{LogsQL: query, From: now.Add(-day), To: now}, p.field, completions)
	if err != nil {
		return nil
	}
	for _, count := range counts {
		if is, ok := hunt.Is(p.field, count.Value); ok && count.Value != "" {
			out = append(out, completionJSON{is + " ", count.Value, strconv.FormatInt(count.Count, 10)})
		}
	}
	return out
}

func (c *Console) recordListing(ctx context.Context, v Visitor, field, query string) error {
	key, now := v.Actor.ID+"\n"+field, c.o.Now()
	c.fields.mu.Lock()
	at, ok := c.fields.listed[key]
	c.fields.mu.Unlock()
	if ok && now.Sub(at) < listedAge {
		return nil
	}
	if err := c.o.Alerts.RecordSearch(ctx, v.Actor, soc.Hunt{Query: query, Span: day}); err != nil {
		return err
	}
	c.fields.mu.Lock()
	defer c.fields.mu.Unlock()
	if c.fields.listed == nil || len(c.fields.listed) >= listedMax {
		c.fields.listed = map[string]time.Time{} // some are recorded again
	}
	c.fields.listed[key] = now
	return nil
}

// knownFields are the fields of the last day's events, the most frequent first,
// and after them those that Pasban's own events may have.
func (c *Console) knownFields(ctx context.Context) []eventstore.FieldCount {
	c.fields.mu.Lock()
	defer c.fields.mu.Unlock()
	if now := c.o.Now().UTC(); now.Sub(c.fields.at) > fieldsAge {
		if counts, err := c.o.Events.Fields(ctx, eventstore.Query{From: now.Add(-day), To: now}); err == nil {
			c.fields.counts, c.fields.at = counts, now
		}
	}
	out := slices.DeleteFunc(slices.Clone(c.fields.counts), func(f eventstore.FieldCount) bool { return strings.HasSuffix(f.Name, "*") })
	for _, f := range detect.Fields() {
		if !slices.ContainsFunc(out, func(known eventstore.FieldCount) bool { return known.Name == f.Name }) {
			out = append(out, eventstore.FieldCount{Name: f.Name})
		}
	}
	return out
}
