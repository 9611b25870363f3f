package console

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"pasban/internal/detect"
)

// Technique is one ATT&CK technique in the grid.
type Technique struct {
	ID    string
	Name  string // "" if it is not among those that Pasban's own rules name
	Count int    // alerts of the last day
	Class string // l0 … l4: how many
	Rules int    // rules that look for it
}

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

// known are the techniques that Pasban's own rules name: tactic and name, as
// ATT&CK (attack.mitre.org, enterprise) has them.
func known() map[string][2]string {
	return map[string][2]string{
		"T1595":     {"reconnaissance", "Active Scanning"},
		"T1595.002": {"reconnaissance", "Vulnerability Scanning"},
		"T1595.003": {"reconnaissance", "Wordlist Scanning"},
		"T1190":     {"initial-access", "Exploit Public-Facing Application"},
		"T1078":     {"initial-access", "Valid Accounts"},
		"T1059":     {"execution", "Command and Scripting Interpreter"},
		"T1059.007": {"execution", "JavaScript"},
		"T1203":     {"execution", "Exploitation for Client Execution"},
		"T1505":     {"persistence", "Server Software Component"},
		"T1505.003": {"persistence", "Web Shell"},
		"T1136":     {"persistence", "Create Account"},
		"T1098":     {"persistence", "Account Manipulation"},
		"T1098.005": {"persistence", "Device Registration"},
		"T1548":     {"privilege-escalation", "Abuse Elevation Control Mechanism"},
		"T1036":     {"stealth", "Masquerading"},
		"T1027":     {"stealth", "Obfuscated Files or Information"},
		"T1070":     {"stealth", "Indicator Removal"},
		"T1550":     {"stealth", "Use Alternate Authentication Material"},
		"T1550.004": {"stealth", "Web Session Cookie"},
		"T1562":     {"defense-impairment", "Impair Defenses"},
		"T1110":     {"credential-access", "Brute Force"},
		"T1110.004": {"credential-access", "Credential Stuffing"},
		"T1539":     {"credential-access", "Steal Web Session Cookie"},
		"T1083":     {"discovery", "File and Directory Discovery"},
		"T1087":     {"discovery", "Account Discovery"},
		"T1213":     {"collection", "Data from Information Repositories"},
		"T1119":     {"collection", "Automated Collection"},
		"T1105":     {"command-and-control", "Ingress Tool Transfer"},
		"T1498":     {"impact", "Network Denial of Service"},
		"T1499":     {"impact", "Endpoint Denial of Service"},
		"T1499.004": {"impact", "Application or System Exploitation"},
		"T1485":     {"impact", "Data Destruction"},
		"T1531":     {"impact", "Account Access Removal"},
		"T1565":     {"impact", "Data Manipulation"},
		"T1565.001": {"impact", "Stored Data Manipulation"},
	}
}

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
// Sub-techniques count for their technique.
func grid(rules []*detect.Rule, seen map[string]int) []Tactic {
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
		for _, id := range r.Techniques() {
			if cell := add(id, tactic); !counted[cell] {
				counted[cell] = true
				cell.Rules++
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
	Rules   []RuleRow
}

// RuleRow is one rule that is loaded.
type RuleRow struct {
	Title, ID, Description string
	Level, Class, Glyph    string
	Techniques             []string
	Correlates             bool
}

// attack shows which techniques the rules look for and which were seen.
func (c *Console) attack(w http.ResponseWriter, r *http.Request, v Visitor) {
	rules := c.o.Detection().Rules()
	seen, err := c.o.Alerts.Techniques(r.Context(), c.o.Now().Add(-day))
	if err != nil {
		c.fail(w, r, err)
		return
	}
	view := AttackView{Tactics: grid(rules, seen)}
	for _, rule := range rules {
		row := RuleRow{Title: rule.Title, ID: rule.ID, Description: strings.Join(strings.Fields(rule.Description), " "),
			Level: rule.Level.String(), Techniques: rule.Techniques(), Correlates: rule.Correlates()}
		row.Class, row.Glyph = severity(rule.Level)
		view.Rules = append(view.Rules, row)
	}
	c.render(w, r, v, http.StatusOK, "attack", "nav.attack", view)
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
	ID      string `json:"techniqueID"`
	Score   int    `json:"score"`
	Comment string `json:"comment"`
	Enabled bool   `json:"enabled"`
}

type navigatorGradient struct {
	Colors []string `json:"colors"`
	Min    int      `json:"minValue"`
	Max    int      `json:"maxValue"`
}

// layer hands out what was seen in the last day as a Navigator layer: the score
// is the number of alerts, 0 where only a rule looks.
func (c *Console) layer(w http.ResponseWriter, r *http.Request, _ Visitor) {
	now := c.o.Now()
	seen, err := c.o.Alerts.Techniques(r.Context(), now.Add(-day))
	if err != nil {
		c.fail(w, r, err)
		return
	}
	titles := map[string][]string{}
	for _, rule := range c.o.Detection().Rules() {
		for _, id := range rule.Techniques() {
			titles[id] = append(titles[id], rule.Title)
		}
	}
	for id := range seen {
		if titles[id] == nil {
			titles[id] = []string{} // seen, but by a rule that is gone, or for its sub-technique
		}
	}
	l := navigatorLayer{
		Name: "Pasban, " + c.o.Agency, Versions: map[string]string{"layer": "4.5"}, Domain: "enterprise-attack", Sorting: 3,
		Description: "Alerts of the day before " + stamp(now) + " UTC by technique; score 0: a rule looks for it, nothing was seen.",
		Techniques:  []navigatorTechnique{}, Legend: []any{},
		Gradient: navigatorGradient{Colors: []string{"#f7e6c4", "#a3201a"}, Max: 30},
	}
	for id, rules := range titles {
		l.Techniques = append(l.Techniques, navigatorTechnique{id, seen[id], strings.Join(rules, "; "), true})
		l.Gradient.Max = max(l.Gradient.Max, seen[id])
	}
	slices.SortFunc(l.Techniques, func(a, b navigatorTechnique) int { return cmp.Compare(a.ID, b.ID) })
	w.Header().Set("Content-Disposition", `attachment; filename="pasban-attack-layer.json"`)
	c.o.Pages.JSON(w, r, http.StatusOK, "", l)
}
