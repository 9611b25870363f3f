package soc_test

import (
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/soc"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

func TestHunts(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st)
		h := soc.Hunt{Name: " Blocks  by night ", Note: "a synthetic note", Query: `Kind:=block SrcIP:="203.0.113.7"`, Span: 24 * time.Hour, Columns: []string{"SrcIP", "Path"}}
		kept, err := w.c.SaveHunt(t.Context(), analyst, h)
		if err != nil {
			t.Fatal(err)
		}
		list, err := w.open(t).Hunts(t.Context()) // another center on the same store
		if err != nil || len(list) != 1 || list[0].Name != "Blocks by night" || list[0].Query != h.Query || list[0].Span != h.Span || list[0].By != analyst.ID || len(list[0].Columns) != 2 {
			t.Fatalf("hunts: %+v %v", list, err)
		}
		colleague := pasban.Actor{ID: "analyst:other", Kind: pasban.ActorPerson, Role: pasban.RoleAnalyst}
		if err := w.c.DeleteHunt(t.Context(), colleague, kept.ID); pasban.KindOf(err) != pasban.Forbidden {
			t.Errorf("a colleague deletes it: %v", err)
		}
		if err := w.c.RecordSearch(t.Context(), colleague, list[0]); err != nil {
			t.Fatal(err)
		}
		if err := w.c.RecordExport(t.Context(), colleague, list[0], soc.Parquet); err != nil {
			t.Fatal(err)
		}
		if err := w.c.RecordExported(t.Context(), colleague, list[0], soc.Parquet, 42, true); err != nil {
			t.Fatal(err)
		}
		if err := w.c.DeleteHunt(t.Context(), analyst, kept.ID); err != nil {
			t.Fatal(err)
		}
		if err := w.c.DeleteHunt(t.Context(), analyst, kept.ID); pasban.KindOf(err) != pasban.NotFound {
			t.Errorf("deleted twice: %v", err)
		}
		entries, err := w.j.Latest(t.Context(), pasban.KindAdmin, 100, 10)
		if err != nil {
			t.Fatal(err)
		}
		var acts []string
		for _, e := range entries {
			acts = append(acts, e.Fact.Body.Action)
			if e.Fact.Restricted.More["query"] != h.Query {
				t.Errorf("%s says of the query %q", e.Fact.Body.Action, e.Fact.Restricted.More["query"])
			}
		}
		if got := strings.Join(acts, " "); got != "hunt.delete hunt.exported hunt.export hunt.search hunt.save" {
			t.Errorf("the facts are %s", got)
		}
		if more := entries[1].Fact.Restricted.More; more["events"] != "42" || more["whole"] != "true" || more["format"] != "parquet" || entries[1].Fact.Restricted.Actor != colleague.ID {
			t.Errorf("the export's fact says %+v", more)
		}
	})
}

func TestHuntsRefused(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	good := soc.Hunt{Name: "x", Query: "a:b"}
	supervisor := pasban.Actor{ID: "supervisor:test", Kind: pasban.ActorPerson, Role: pasban.RoleSupervisor}
	for name, c := range map[string]struct {
		actor  pasban.Actor
		change func(*soc.Hunt)
		kind   pasban.ErrorKind
	}{
		"a supervisor":   {supervisor, func(*soc.Hunt) {}, pasban.Forbidden},
		"no name":        {analyst, func(h *soc.Hunt) { h.Name = " " }, pasban.Invalid},
		"a long name":    {analyst, func(h *soc.Hunt) { h.Name = strings.Repeat("x", 121) }, pasban.Invalid},
		"a long note":    {analyst, func(h *soc.Hunt) { h.Note = strings.Repeat("x", 2001) }, pasban.Invalid},
		"a wrong query":  {analyst, func(h *soc.Hunt) { h.Query = "a:(" }, pasban.Invalid},
		"many columns":   {analyst, func(h *soc.Hunt) { h.Columns = make([]string, 31) }, pasban.Invalid},
		"backwards time": {analyst, func(h *soc.Hunt) { h.From, h.To = time.Now(), time.Now().Add(-time.Hour) }, pasban.Invalid},
	} {
		h := good
		c.change(&h)
		if _, err := w.c.SaveHunt(t.Context(), c.actor, h); pasban.KindOf(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
	kept, err := w.c.SaveHunt(t.Context(), analyst, good)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.c.DeleteHunt(t.Context(), supervisor, kept.ID); err != nil {
		t.Errorf("a supervisor deletes it: %v", err)
	}
}
