package console

import (
	"cmp"
	_ "embed"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"pasban"
	"pasban/internal/detect"
	"pasban/internal/soc"
)

// Technique is one ATT&CK technique in the grid.
type Technique struct {
	ID    string
	Name  string // "" if ATT&CK has no such technique
	Count int    // alerts of the last day that we saw
	Class string // l0 … l4: how many
	Rules int    // rules that we have for it
	Fed   int    // of these: rules that data comes for
}

// URL is where ATT&CK describes it.
func (t Technique) URL() string {
	return "https://attack.mitre.org/techniques/" + strings.ReplaceAll(t.ID, ".", "/") + "/"
}

// Blind says that rules look for it and no data comes for any of them.
func (t Technique) Blind() bool { return t.Rules > 0 && t.Fed == 0 }

// Tactic is one column of the grid.
type Tactic struct {
	Code       string // as tags write it: initial-access
	Techniques []Technique
}

// tactics are ATT&CK's, in the order of an attack.
func tactics() []string {
	return []string{
		"reconnaissance", "resource-development", "initial-access", "execution", "persistence", "privilege-escalation", "stealth",
		"defense-impairment", "credential-access", "discovery", "lateral-movement", "collection", "command-and-control", "exfiltration", "impact",
	}
}

//go:embed attack.tsv
var attackTSV string

// known are ATT&CK's techniques by id: tactic and name. A technique of several
// tactics has the first in the order of an attack.
var known = sync.OnceValue(func() map[string][2]string {
	all := map[string][2]string{}
	for line := range strings.Lines(attackTSV) {
		if f := strings.Split(strings.TrimSpace(line), "\t"); len(f) == 3 {
			all[f[0]] = [2]string{f[1], f[2]}
		}
	}
	return all
})

func techniqueOf(id string) Technique { return Technique{ID: id, Name: known()[id][1]} }

// shade is the class of a cell by its count; the count is printed in it too.
func shade(n int) string {
	switch {
	case n == 0:
		return "l0"
	case n < 3:
		return "l1"
	case n < 10:
		return "l2"
	case n < 30:
		return "l3"
	}
	return "l4"
}

// grid lists the techniques that rules look for or that were seen, by tactic.
// Sub-techniques count for their technique. fed says for which rules data comes.
func grid(rules []*detect.Rule, seen map[string]int, fed func(*detect.Rule) bool) []Tactic {
	cells := map[string]*Technique{}
	where := map[string]string{}
	names := known()
	add := func(id, tactic string) *Technique {
		id, _, _ = strings.Cut(id, ".")
		cell := cells[id]
		if cell == nil {
			cell = &Technique{ID: id, Name: names[id][1], Count: seen[id], Class: shade(seen[id])}
			cells[id] = cell
			where[id] = cmp.Or(names[id][0], tactic)
		}
		return cell
	}
	for _, r := range rules {
		tactic := firstTactic(r.Tags)
		counted := map[*Technique]bool{}
		comes := fed(r)
		for _, id := range r.Techniques() {
			if cell := add(id, tactic); !counted[cell] {
				counted[cell] = true
				cell.Rules++
				if comes {
					cell.Fed++
				}
			}
		}
	}
	for id := range seen {
		add(id, "")
	}
	var out []Tactic
	for _, code := range append(tactics(), "") {
		column := Tactic{Code: code}
		for id, cell := range cells {
			if where[id] == code {
				column.Techniques = append(column.Techniques, *cell)
			}
		}
		if len(column.Techniques) > 0 {
			slices.SortFunc(column.Techniques, func(a, b Technique) int { return cmp.Or(b.Count-a.Count, cmp.Compare(a.ID, b.ID)) })
			out = append(out, column)
		}
	}
	return out
}

func firstTactic(tags []string) string {
	for _, tag := range tags {
		name, ok := strings.CutPrefix(tag, "attack.")
		if ok && slices.Contains(tactics(), name) {
			return name
		}
	}
	return ""
}

// AttackView is the data of the techniques' page.
type AttackView struct {
	Tactics []Tactic
	Covered int // techniques that rules look for
	Fed     int // of these: data comes for a rule
	Seen    int // techniques that alerts were about
	Sources []SourceRow
	Missing []SourceRow
	More    int // sources that rules wait for and that are not listed
}

// SourceRow is a logsource and the rules over it.
type SourceRow struct {
	Name  string
	Rules int
	soc.Rate
}

// missingMax is how many logsources that nobody sends are listed.
const missingMax = 15

// attack shows which techniques the rules look for, for which of them data
// comes, and which were seen.
func (c *Console) attack(w http.ResponseWriter, r *http.Request, v Visitor) error {
	now := c.o.Now()
	seen, err := c.o.Alerts.Techniques(r.Context(), now.Add(-day))
	if err != nil {
		return err
	}
	received, err := c.o.Alerts.Received(r.Context(), now)
	if err != nil {
		return err
	}
	come := sourcesOf(received)
	fed := func(r *detect.Rule) bool { return r.Fed(come) }
	rules := c.o.Detection().Rules()
	view := AttackView{Tactics: grid(rules, seen, fed)}
	for _, tactic := range view.Tactics {
		for _, t := range tactic.Techniques {
			if t.Rules > 0 {
				view.Covered++
			}
			if t.Fed > 0 {
				view.Fed++
			}
			if t.Count > 0 {
				view.Seen++
			}
		}
	}
	view.Sources, view.Missing = sourceRows(rules, received, fed)
	if len(view.Missing) > missingMax {
		view.More = len(view.Missing) - missingMax
		view.Missing = view.Missing[:missingMax]
	}
	c.render(w, r, v, http.StatusOK, "attack", "nav.attack", view)
	return nil
}

// sourceRows lists the logsources that come, with the rules that they feed, and
// those that rules wait for in vain, with most rules first. An event of several
// logsources counts for each.
func sourceRows(rules []*detect.Rule, received []soc.Received, fed func(*detect.Rule) bool) (come, missing []SourceRow) {
	rates := map[detect.Logsource]*SourceRow{}
	for _, r := range received {
		for _, s := range r.Sources {
			if s == (detect.Logsource{}) {
				continue
			}
			row := rates[s]
			if row == nil {
				row = &SourceRow{Name: s.String()}
				rates[s] = row
				for _, rule := range rules {
					if !rule.Correlates() && rule.Source.Covers(s) {
						row.Rules++
					}
				}
			}
			row.Hour, row.Day, row.Week = row.Hour+r.Hour, row.Day+r.Day, row.Week+r.Week
		}
	}
	for _, row := range rates {
		come = append(come, *row)
	}
	waits := map[detect.Logsource]int{}
	for _, rule := range rules {
		if !rule.Correlates() && !fed(rule) {
			waits[rule.Source]++
		}
	}
	for s, n := range waits {
		missing = append(missing, SourceRow{Name: s.String(), Rules: n})
	}
	slices.SortFunc(come, func(a, b SourceRow) int { return cmp.Or(b.Week-a.Week, cmp.Compare(a.Name, b.Name)) })
	slices.SortFunc(missing, func(a, b SourceRow) int { return cmp.Or(b.Rules-a.Rules, cmp.Compare(a.Name, b.Name)) })
	return come, missing
}

// navigatorLayer is an ATT&CK Navigator layer, format 4.5
// (mitre-attack/attack-navigator, layers/spec/v4.5).
type navigatorLayer struct {
	Name        string               `json:"name"`
	Versions    map[string]string    `json:"versions"`
	Domain      string               `json:"domain"`
	Description string               `json:"description"`
	Sorting     int                  `json:"sorting"` // 3: by score, descending
	Techniques  []navigatorTechnique `json:"techniques"`
	Gradient    navigatorGradient    `json:"gradient"`
	Legend      []any                `json:"legendItems"`
}

type navigatorTechnique struct {
	ID       string              `json:"techniqueID"`
	Score    int                 `json:"score"`
	Comment  string              `json:"comment"`
	Enabled  bool                `json:"enabled"`
	Metadata []navigatorMetadata `json:"metadata"`
}

type navigatorMetadata struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type navigatorGradient struct {
	Colors []string `json:"colors"`
	Min    int      `json:"minValue"`
	Max    int      `json:"maxValue"`
}

// maxComment is how many rules a layer names for a technique.
const maxComment = 20

// layer hands out a Navigator layer. Its score is what ?score= asks for: the
// alerts of the last day (as without it), the rules, or the rules that data
// comes for; all three are each technique's metadata.
func (c *Console) layer(w http.ResponseWriter, r *http.Request, _ Visitor) error {
	now := c.o.Now()
	seen, err := c.o.Alerts.Techniques(r.Context(), now.Add(-day))
	if err != nil {
		return err
	}
	received, err := c.received(r.Context())
	if err != nil {
		return err
	}
	score := cmp.Or(r.URL.Query().Get("score"), "alerts")
	told := map[string]string{
		"alerts": "score: alerts of the day before " + stamp(now) + " UTC; 0: a rule looks for it, nothing was seen",
		"rules":  "score: rules that look for it",
		"fed":    "score: rules that look for it and that data comes for; 0: no data comes",
	}[score]
	if told == "" {
		return &pasban.Error{Kind: pasban.Invalid, Where: "score", Msg: "a layer scores alerts, rules or fed"}
	}
	l := navigatorLayer{
		Name: "Pasban, " + c.o.Agency + ": " + score, Versions: map[string]string{"layer": "4.5"}, Domain: "enterprise-attack", Sorting: 3,
		Description: told + ". The metadata has all three figures.", Techniques: []navigatorTechnique{}, Legend: []any{},
		Gradient: navigatorGradient{Colors: []string{"#f7e6c4", "#a3201a"}, Max: 30},
	}
	for id, t := range techniquesOf(c.o.Detection().Rules(), seen, func(r *detect.Rule) bool { return r.Fed(received) }) {
		t.Score = map[string]int{"alerts": t.count, "rules": t.rules, "fed": t.fed}[score]
		t.ID, t.Enabled = id, true
		t.Metadata = []navigatorMetadata{{"Rules we have", strconv.Itoa(t.rules)}, {"Rules that data comes for", strconv.Itoa(t.fed)}, {"Alerts we saw in a day", strconv.Itoa(t.count)}}
		l.Techniques = append(l.Techniques, t.navigatorTechnique)
		l.Gradient.Max = max(l.Gradient.Max, t.Score)
	}
	slices.SortFunc(l.Techniques, func(a, b navigatorTechnique) int { return cmp.Compare(a.ID, b.ID) })
	w.Header().Set("Content-Disposition", `attachment; filename="pasban-attack-layer-`+score+`.json"`)
	c.o.Pages.JSON(w, r, http.StatusOK, "", l)
	return nil
}

// layerTechnique is a technique of a layer while it is counted.
type layerTechnique struct {
	navigatorTechnique
	rules, fed, count int
}

// techniquesOf counts the rules for each technique, and names some. One that was
// seen stands there also if its rule is gone.
func techniquesOf(rules []*detect.Rule, seen map[string]int, fed func(*detect.Rule) bool) map[string]*layerTechnique {
	out := map[string]*layerTechnique{}
	of := func(id string) *layerTechnique {
		if out[id] == nil {
			out[id] = &layerTechnique{count: seen[id]}
		}
		return out[id]
	}
	for _, r := range rules {
		comes := fed(r)
		for _, id := range r.Techniques() {
			t := of(id)
			t.rules++
			if comes {
				t.fed++
			}
			if t.rules <= maxComment {
				t.Comment += strings.Repeat("; ", min(t.rules-1, 1)) + r.Title
			} else if t.rules == maxComment+1 {
				t.Comment += "; …"
			}
		}
	}
	for id := range seen {
		of(id)
	}
	return out
}
