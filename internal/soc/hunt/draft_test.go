package hunt

import (
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/detect"
	"pasban/internal/eventstore"
)

func TestDraft(t *testing.T) {
	for _, c := range []struct {
		query, detection string
		differs          []string // reasons
	}{
		{`Action:=waf Status:=403`, "    selection:\n        Action|cased: 'waf'\n        Status: '403'\n    condition: selection\n", nil},
		{`SrcIP:in(10.0.0.1, 10.0.0.2)`, "    selection:\n        SrcIP:\n            - '10.0.0.1'\n            - '10.0.0.2'\n    condition: selection\n", nil},
		{`SrcIP:=10.0.0.1 or SrcIP:=10.0.0.2`, "    selection:\n        SrcIP:\n            - '10.0.0.1'\n            - '10.0.0.2'\n    condition: selection\n", nil},
		{`Kind:=block or SrcIP:="10.0.0.2"`, "    selection:\n        - Kind|cased: 'block'\n        - SrcIP: '10.0.0.2'\n    condition: selection\n", nil},
		{`Kind:=block !Path:="/x"* !(Host:=a Method:=GET)`, "    selection:\n        Kind|cased: 'block'\n    filter:\n        Path|startswith|cased: '/x'\n    filter_2:\n        Host|cased: 'a'\n        Method|cased: 'GET'\n    condition: selection and not filter and not filter_2\n", nil},
		{`(Kind:=block or Kind:=alarm) (SrcIP:ipv4_range(10.0.0.0/8) or Count:>10)`, "    selection:\n        Kind|cased:\n            - 'block'\n            - 'alarm'\n    selection_2:\n        - SrcIP|cidr: '10.0.0.0/8'\n        - Count|gt: 10\n    condition: selection and selection_2\n", nil},
		{`Path:*.php* Path:*admin*`, "    selection:\n        Path|contains|cased: '.php'\n    selection_2:\n        Path|contains|cased: 'admin'\n    condition: selection and selection_2\n", nil},
		{`Count:range[10, 20) UserAgent:~"(?i)sql ?map"`, "    selection:\n        Count|gte: 10\n        Count|lt: 20\n        UserAgent|re|i: 'sql ?map'\n    condition: selection\n", nil},
		{`Role:* Subject:=""`, "    selection:\n        Role: '?*'\n    filter:\n        Subject: '?*'\n    condition: selection and not filter\n", nil},
		{`Path:i(AdMin)`, "    selection:\n        Path|contains: 'AdMin'\n    condition: selection\n", []string{whyWord}},
		{`UserAgent:contains_all(curl,bot)`, "    selection:\n        UserAgent|contains|cased|all:\n            - 'curl'\n            - 'bot'\n    condition: selection\n", []string{whyWord}},
		{`sqlmap or nikto*`, "    keywords:\n        - 'sqlmap'\n        - 'nikto'\n    condition: keywords\n", []string{whyKeyword, whyKeyword}},
		{`_time:5m Kind:=block | sort by (_time) | stats count() n`, "    selection:\n        Kind|cased: 'block'\n    condition: selection\n", []string{whyTime, whyShow, whyPipe}},
		{`Kind:=block {event_source="journal"} event_id:=x Path:len_range(1,2) WafRules:="[\"942100\"]" Count:>10KB SrcIP:ipv4_range(10.0.0.1, 10.0.0.5) Pa*:=x`, "    selection:\n        Kind|cased: 'block'\n    condition: selection\n",
			[]string{whyStream, whyStored, whyForm, whyList, whyNumber, whyNetwork, whyWildcard}},
		{`Path:="C:\\a\\*"`, "    selection:\n        Path|cased: 'C:\\a\\\\\\*'\n    condition: selection\n", nil},
	} {
		d, err := NewDraft(c.query, About{Source: detect.Logsource{Product: "pasban", Service: "gateway"}, Date: time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)})
		if err != nil || len(d.Problems) > 0 {
			t.Errorf("%s: %v, %v\n%s", c.query, err, d.Problems, d.Rule)
			continue
		}
		_, rest, _ := strings.Cut(d.Rule, "detection:\n")
		got, _, _ := strings.Cut(rest, "falsepositives:")
		if got != c.detection {
			t.Errorf("%s: the rule detects\n%swant\n%s", c.query, got, c.detection)
		}
		var whys []string
		for _, diff := range d.Differences {
			whys = append(whys, diff.Why)
		}
		if strings.Join(whys, "\n") != strings.Join(c.differs, "\n") {
			t.Errorf("%s: it differs by %q, want %q", c.query, whys, c.differs)
		}
		if !strings.Contains(d.Rule, "product: 'pasban'\n    service: 'gateway'") || !strings.Contains(d.Rule, "TITLE") || !strings.Contains(d.Rule, "LEVEL") {
			t.Errorf("%s: the head of the rule is\n%s", c.query, d.Rule)
		}
	}
}

// TestDraftStored: what only a row has is not asked of events, and an event's own
// field goes by the event's name for it.
func TestDraftStored(t *testing.T) {
	d, err := NewDraft(`event_cut:=x event_more:=y original_event_id:=z original_event_more:=w`, About{Source: detect.Logsource{Product: "linux"}})
	if err != nil || len(d.Problems) > 0 || !strings.Contains(d.Rule, "    selection:\n        event_id|cased: 'z'\n        event_more|cased: 'w'\n    condition: selection\n") {
		t.Errorf("%v, %v\n%s", err, d.Problems, d.Rule)
	}
	if len(d.Differences) != 2 || d.Differences[0].Why != whyStored || d.Differences[1].Why != whyStored {
		t.Errorf("it differs by %+v", d.Differences)
	}
}

func TestDraftSource(t *testing.T) {
	d, err := NewDraft(`logsource_product:=windows logsource_category:="process_creation" Image:*cmd.exe*`, About{Title: "Shells", Source: detect.Logsource{Product: "linux"}})
	if err != nil || len(d.Problems) > 0 {
		t.Fatal(err, d.Problems)
	}
	if want := (detect.Logsource{Product: "windows", Category: "process_creation"}); d.Source != want || !strings.Contains(d.Rule, "title: 'Shells'") {
		t.Errorf("the source is %+v\n%s", d.Source, d.Rule)
	}
	if got := Common([]detect.Logsource{{Product: "windows", Service: "a"}, {Product: "windows", Service: "b"}}); got != (detect.Logsource{Product: "windows"}) {
		t.Errorf("in common they have %+v", got)
	}
}

func TestDraftOfNothing(t *testing.T) {
	for _, q := range []string{"", "*", "_time:5m", "* | stats count() n", "event_id:=x"} {
		d, err := NewDraft(q, About{})
		if err != nil || len(d.Problems) != 1 || d.Rule != "" {
			t.Errorf("%q: %v, %+v", q, err, d)
		}
	}
	if _, err := NewDraft("a:(", About{}); pasban.KindOf(err) != pasban.Invalid {
		t.Errorf("a wrong query: %v", err)
	}
}

func TestTry(t *testing.T) {
	d, err := NewDraft(`Image:*cmd.exe* event_source:=lab`, About{Source: detect.Logsource{Product: "windows"}})
	if err != nil || len(d.Problems) > 0 {
		t.Fatal(err, d.Problems)
	}
	row := eventstore.Row{{Name: "_time", Value: "2026-11-28T00:00:00Z"}, {Name: "_msg", Value: "raw"}, {Name: "event_source", Value: "lab"}, {Name: "logsource_product", Value: "windows"}, {Name: "Image", Value: `C:\cmd.exe`}}
	if ok, err := d.Try(row); err != nil || !ok {
		t.Errorf("it does not hold: %v\n%s", err, d.Rule)
	}
	list, err := NewDraft(`Image:942100 cmd:x`, About{Source: detect.Logsource{Product: "windows"}})
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := list.Try(append(row[:4:4], eventstore.Field{Name: "Image", Value: `["1","942100"]`}, eventstore.Field{Name: "cmd", Value: "x"})); err != nil || !ok {
		t.Errorf("it does not hold for one of a list: %v\n%s", err, list.Rule)
	}
	row[3].Value = "linux"
	if ok, err := d.Try(row); err != nil || ok {
		t.Errorf("it holds for another source: %v", err)
	}
}
