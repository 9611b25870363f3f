package config_test

import (
	"strings"
	"testing"
	"time"

	"pasban/internal/config"
)

// withWAF is a config whose only site has one route and the given firewall.
func withWAF(listen, waf, routeWAF string) string {
	return minimal + "listen: " + listen + "\nsites:\n  - host: land.example\n    upstream: [http://127.0.0.1:9000]\n    waf: " + waf +
		"\n    routes:\n      - {match: \"POST /apply\", signin: none, waf: " + routeWAF + "}\n      - {match: /, signin: none}\n"
}

func TestExclusions(t *testing.T) {
	c, problems := read(t, withWAF("127.0.0.1:8443", `{test_markers: true, exclusions: [{rules: [942100, "942200-942299"], target: "ARGS:note", route: "POST /apply", reason: r, expires: 2027-03-01}, {tag: attack-sqli, method: PUT, reason: "اردو", expires: 2027-03-01}]}`,
		`{mode: detect, exclusions: [{rules: [941100], reason: r, expires: 2027-03-01}]}`))
	if problems != nil {
		t.Fatal(problems)
	}
	all := c.Sites[0].Exclusions()
	if len(all) != 3 || all[0].Subject() != "rule 942100, 942200-942299 for ARGS:note on POST /apply" || all[1].Subject() != "rules tagged attack-sqli with method PUT" ||
		all[2].Route != "POST /apply" || !all[0].Until().Equal(time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", all)
	}
}

func TestExclusionProblems(t *testing.T) {
	good := `{rules: [942100], reason: r, expires: 2027-03-01}`
	for want, waf := range map[string]string{
		`missing key "reason"`:                  `{exclusions: [{rules: [942100], expires: 2027-03-01}]}`,
		`missing key "expires"`:                 `{exclusions: [{rules: [942100], reason: r}]}`,
		`not a day: "never"`:                    `{exclusions: [{rules: [942100], reason: r, expires: never}]}`,
		"want rules or a tag":                   `{exclusions: [{reason: r, expires: 2027-03-01}]}`,
		"want rules or a tag, one of them":      `{exclusions: [{rules: [942100], tag: attack-sqli, reason: r, expires: 2027-03-01}]}`,
		`excluded: "949110"`:                    `{exclusions: [{rules: [949110], reason: r, expires: 2027-03-01}]}`,
		`excluded: "940000-943000"`:             `{exclusions: [{rules: ["940000-943000"], reason: r, expires: 2027-03-01}]}`,
		`excluded: "8000001"`:                   `{exclusions: [{rules: [8000001], reason: r, expires: 2027-03-01}]}`,
		`excluded: "0942100"`:                   `{exclusions: [{rules: ["0942100"], reason: r, expires: 2027-03-01}]}`,
		`not a rule's tag: "a,b"`:               `{exclusions: [{tag: "a,b", reason: r, expires: 2027-03-01}]}`,
		`not a part of a request: "TX:x"`:       `{exclusions: [{rules: [942100], target: "TX:x", reason: r, expires: 2027-03-01}]}`,
		`not a part of a request: "ARGS:a b"`:   `{exclusions: [{rules: [942100], target: "ARGS:a b", reason: r, expires: 2027-03-01}]}`,
		`no route of this site has match "/ap"`: `{exclusions: [{rules: [942100], route: /ap, reason: r, expires: 2027-03-01}]}`,
		`unknown method "post"`:                 `{exclusions: [{rules: [942100], method: post, reason: r, expires: 2027-03-01}]}`,
		"get past the firewall":                 `{test_markers: true}`,
		"say why":                               `{exclusions: [{rules: [942100], reason: "a\nb", expires: 2027-03-01}]}`,
	} {
		_, problems := read(t, withWAF(`":8443"`, waf, "{}"))
		if problems == nil || !strings.Contains(problems.Error(), want) || !strings.Contains(problems.Error(), "pasban.yaml:") {
			t.Errorf("%s: %v", want, problems)
		}
	}
	if _, problems := read(t, withWAF(`":8443"`, "{mode: off}", "{mode: detect}")); problems == nil || !strings.Contains(problems.Error(), "is off") {
		t.Errorf("a watched route without a firewall: %v", problems)
	}
	if _, problems := read(t, withWAF(`":8443"`, "{}", `{exclusions: [{rules: [942100], route: /, reason: r, expires: 2027-03-01}]}`)); problems == nil || !strings.Contains(problems.Error(), "under its route") {
		t.Errorf("a route in a route: %v", problems)
	}
	if _, problems := read(t, withWAF(`":8443"`, "{exclusions: ["+good+"]}", "{exclusions: ["+good+"]}")); problems != nil {
		t.Error(problems)
	}
}

// TestWarnings: an exclusion is warned about from fourteen days before its end.
func TestWarnings(t *testing.T) {
	c, problems := read(t, withWAF(`":8443"`, `{exclusions: [{rules: [942100], reason: the note is free text, expires: 2027-03-15}]}`, "{}"))
	if problems != nil {
		t.Fatal(problems)
	}
	for day, want := range map[string]string{"2027-02-28": "", "2027-03-01": "ends on 2027-03-15", "2027-03-14": "ends on", "2027-03-15": "has ended on 2027-03-15", "2028-01-01": "has ended on"} {
		now, _ := time.Parse(time.DateOnly, day)
		got := strings.Join(c.Warnings(now), "\n")
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", day, got, want)
		}
	}
}

// FuzzTarget: what is taken for a target needs no escape in SecLang.
func FuzzTarget(f *testing.F) {
	f.Add("ARGS:note")
	f.Add("ARGS:a,ctl:ruleEngine=Off")
	f.Fuzz(func(t *testing.T, s string) {
		if _, _, ok := config.ParseTarget(s); ok && strings.ContainsAny(s, " \t\r\n\"'`,;\\/%{}|!&=") {
			t.Errorf("%q is taken for a target", s)
		}
	})
}
