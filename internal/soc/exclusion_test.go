package soc_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/soc"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

// exclusion is one that an analyst may make.
func exclusion() soc.Exclusion {
	return soc.Exclusion{Host: "land.example", Event: "e1", Exclusion: config.Exclusion{
		Rules: []config.RuleRange{"942100"}, Target: "ARGS:note", Route: "POST /apply", Reason: "synthetic reason",
		Expires: time.Now().UTC().AddDate(0, 0, 30).Format(time.DateOnly)}}
}

func TestExclusions(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st)
		none, err := w.c.ExclusionsVersion(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		made, err := w.c.Exclude(t.Context(), analyst, exclusion())
		if err != nil {
			t.Fatal(err)
		}
		list, err := w.open(t).Exclusions(t.Context()) // another center on the same store
		if err != nil || len(list) != 1 || list[0].ID != made.ID || list[0].By != analyst.ID || list[0].Subject() != made.Subject() || !list[0].InForce(time.Now()) {
			t.Fatalf("list: %+v %v", list, err)
		}
		one, err := w.c.ExclusionsVersion(t.Context())
		if err != nil || one == none {
			t.Errorf("the version stays %q: %v", one, err)
		}
		if err := w.c.EndExclusion(t.Context(), analyst, made.ID); err != nil {
			t.Fatal(err)
		}
		if err := w.c.EndExclusion(t.Context(), analyst, made.ID); err != nil {
			t.Errorf("ending it again: %v", err)
		}
		list, err = w.c.Exclusions(t.Context())
		if err != nil || len(list) != 1 || list[0].InForce(time.Now()) || list[0].EndedBy != analyst.ID {
			t.Fatalf("list: %+v %v", list, err)
		}
		if two, _ := w.c.ExclusionsVersion(t.Context()); two == one {
			t.Errorf("the version stays %q", two)
		}
		entries, err := w.j.Latest(t.Context(), pasban.KindAdmin, 100, 10)
		if err != nil || len(entries) != 2 || entries[0].Fact.Body.Action != "waf.exclude-end" || entries[1].Fact.Body.Action != "waf.exclude" {
			t.Fatalf("facts: %+v %v", entries, err)
		}
		r := entries[1].Fact.Restricted
		if r.Actor != analyst.ID || r.More["note"] != "synthetic reason" || r.More["exclusion"] != "rule 942100 for ARGS:note on POST /apply" || r.More["host"] != "land.example" {
			t.Errorf("the fact says %+v", r)
		}
	})
}

// Two exclusions that end at the same instant, or by clocks that differ, change
// the version twice.
func TestExclusionsVersionTellsEveryEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.SQLite(t))
		ctx := context.WithoutCancel(t.Context())
		var ids, versions []string
		for range 2 {
			made, err := w.c.Exclude(ctx, analyst, exclusion())
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, made.ID)
		}
		for _, id := range ids {
			if err := w.c.EndExclusion(ctx, analyst, id); err != nil {
				t.Fatal(err)
			}
			version, err := w.c.ExclusionsVersion(ctx)
			if err != nil {
				t.Fatal(err)
			}
			versions = append(versions, version)
		}
		if versions[0] == versions[1] {
			t.Errorf("the version stays %q", versions[0])
		}
	})
}

func TestExclusionsRefused(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	day := func(n int) string { return time.Now().UTC().AddDate(0, 0, n).Format(time.DateOnly) }
	supervisor := pasban.Actor{ID: "supervisor:test", Kind: pasban.ActorPerson, Role: pasban.RoleSupervisor}
	for name, c := range map[string]struct {
		actor  pasban.Actor
		change func(*soc.Exclusion)
		kind   pasban.ErrorKind
	}{
		"a supervisor":      {supervisor, func(*soc.Exclusion) {}, pasban.Forbidden},
		"no reason":         {analyst, func(e *soc.Exclusion) { e.Reason = " " }, pasban.Invalid},
		"a line break":      {analyst, func(e *soc.Exclusion) { e.Reason = "a\nb" }, pasban.Invalid},
		"today":             {analyst, func(e *soc.Exclusion) { e.Expires = day(0) }, pasban.Invalid},
		"in two years":      {analyst, func(e *soc.Exclusion) { e.Expires = day(700) }, pasban.Invalid},
		"no day":            {analyst, func(e *soc.Exclusion) { e.Expires = "soon" }, pasban.Invalid},
		"the judging rule":  {analyst, func(e *soc.Exclusion) { e.Rules = []config.RuleRange{"949110"} }, pasban.Invalid},
		"everything":        {analyst, func(e *soc.Exclusion) { e.Rules = []config.RuleRange{"911000-948999"} }, pasban.Invalid},
		"no rule":           {analyst, func(e *soc.Exclusion) { e.Rules = nil }, pasban.Invalid},
		"SecLang":           {analyst, func(e *soc.Exclusion) { e.Target = `ARGS:a,ctl:ruleEngine=Off` }, pasban.Invalid},
		"another variable":  {analyst, func(e *soc.Exclusion) { e.Target = "TX:x" }, pasban.Invalid},
		"a regex of fields": {analyst, func(e *soc.Exclusion) { e.Target = "ARGS:/.*/" }, pasban.Invalid},
	} {
		e := exclusion()
		c.change(&e)
		if _, err := w.c.Exclude(t.Context(), c.actor, e); pasban.KindOf(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := w.c.EndExclusion(t.Context(), analyst, "0"); pasban.KindOf(err) != pasban.NotFound {
		t.Errorf("ending what is not there: %v", err)
	}
	if list, err := w.c.Exclusions(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("list: %+v %v", list, err)
	}
}

func TestWithExclusions(t *testing.T) {
	c := &config.Config{Sites: []config.Site{{Host: "land.example", Routes: []config.Route{{Match: "POST /apply"}}}, {Host: "*"}}}
	ended, gone, over := exclusion(), exclusion(), exclusion()
	ended.Ended, gone.Route, over.Expires = time.Now(), "POST /gone", "2020-01-01"
	got := soc.WithExclusions(c, []soc.Exclusion{exclusion(), ended, gone, over}, time.Now())
	if len(got.Sites[0].WAF.Exclusions) != 1 || len(got.Sites[1].WAF.Exclusions) != 0 || len(c.Sites[0].WAF.Exclusions) != 0 {
		t.Errorf("sites: %+v; before: %+v", got.Sites, c.Sites)
	}
}

func TestFrees(t *testing.T) {
	rules := func(r ...config.RuleRange) config.Exclusion { return config.Exclusion{Rules: r} }
	at := func(e config.Exclusion, target string) config.Exclusion { e.Target = target; return e }
	on := func(e config.Exclusion, route string) config.Exclusion { e.Route = route; return e }
	note, other := soc.Hit{Rule: 942100, Target: "ARGS:note", Score: 5}, soc.Hit{Rule: 942100, Target: "ARGS:other", Score: 5}
	xss, weak := soc.Hit{Rule: 941100, Target: "ARGS:note", Score: 5}, soc.Hit{Rule: 920350, Target: "REQUEST_HEADERS:Host", Score: 3}
	chain := []soc.Hit{{Rule: 921150, Target: "REQUEST_METHOD", Level: 0}, {Rule: 921150, Target: "ARGS_NAMES:a", Level: 1, Score: 5}}
	for name, c := range map[string]struct {
		hits          []soc.Hit
		e             config.Exclusion
		touched, free bool
	}{
		"the rule":               {[]soc.Hit{note}, rules("942100"), true, true},
		"a range":                {[]soc.Hit{note, other}, rules("942000-942999"), true, true},
		"another rule":           {[]soc.Hit{note}, rules("942110"), false, false},
		"its parameter":          {[]soc.Hit{note}, at(rules("942100"), "ARGS:NOTE"), true, true},
		"all parameters":         {[]soc.Hit{note, other}, at(rules("942100"), "ARGS"), true, true},
		"one of two parameters":  {[]soc.Hit{note, other}, at(rules("942100"), "ARGS:note"), true, false},
		"another rule remains":   {[]soc.Hit{note, xss}, rules("942100"), true, false},
		"a weak one remains":     {[]soc.Hit{note, weak}, rules("942100"), true, true},
		"both rules":             {[]soc.Hit{note, xss}, rules("942100", "941100"), true, true},
		"a link of a chain":      {chain, at(rules("921150"), "ARGS_NAMES"), true, true},
		"its route":              {[]soc.Hit{note}, on(rules("942100"), "POST /apply"), true, true},
		"another route":          {[]soc.Hit{note}, on(rules("942100"), "POST /other"), false, false},
		"a rule that is certain": {[]soc.Hit{note, {Rule: 100, Target: "ARGS", Score: 100}}, rules("942100"), true, false},
	} {
		touched, free := soc.Block{Route: "POST /apply", Method: "POST", Hits: c.hits}.Frees(c.e)
		if touched != c.touched || free != c.free {
			t.Errorf("%s: touched %v, free %v", name, touched, free)
		}
	}
}

// TestBlocks reads what the gateway records.
func TestBlocks(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	f := pasban.NewFact(pasban.KindBlock, "land-records", pasban.Actor{}, time.Now())
	f.Body.Service, f.Body.Action = "land.example", "waf"
	f.Restricted = pasban.Restricted{Host: "land.example:8443", Method: "POST", More: map[string]string{"route": "POST /apply",
		"matches": `[{"rule":942100,"msg":"SQL","at":"ARGS:note","shape":"9' or x","score":5}]`}}
	plain := pasban.NewFact(pasban.KindBlock, "land-records", pasban.Actor{}, time.Now())
	plain.Body.Action = "flood"
	if _, err := w.j.Record(t.Context(), f, plain); err != nil {
		t.Fatal(err)
	}
	blocks, err := w.c.Blocks(t.Context(), 10)
	if err != nil || len(blocks) != 1 {
		t.Fatalf("%+v %v", blocks, err)
	}
	b := blocks[0]
	if want := []soc.Hit{{Rule: 942100, Msg: "SQL", Target: "ARGS:note", Shape: "9' or x", Score: 5}}; !slices.Equal(b.Hits, want) || b.Event != f.Body.ID || b.Route != "POST /apply" {
		t.Errorf("%+v", b)
	}
}
