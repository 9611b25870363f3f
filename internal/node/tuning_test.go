package node

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/soc"
)

// TestTune: an exclusion made from a block lets the next such request through,
// over reloads and restarts, until it is ended; every other stays blocked.
func TestTune(t *testing.T) {
	old := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer old.Close()
	path := place(t, map[string]string{"pasban.yaml": strings.Replace(minimal, "http://127.0.0.1:9]", old.URL+"]", 1)})
	n, err := New(t.Context(), load(t, path), quiet())
	check(t, err)
	ask := func(param string) int {
		r := httptest.NewRequest(http.MethodGet, "/search?"+param+"=1%27%20OR%20%271%27=%271%27%20UNION%20SELECT%20cnic%20FROM%20owners--", nil)
		r.Header.Set("User-Agent", "synthetic")
		r.Header.Set("Accept", "text/html")
		w := httptest.NewRecorder()
		n.gateway.Handler().ServeHTTP(w, r)
		return w.Code
	}
	want := func(when string, note, other int) {
		t.Helper()
		if a, b := ask("note"), ask("other"); a != note || b != other {
			t.Errorf("%s: note %d, other %d, want %d and %d", when, a, b, note, other)
		}
	}
	want("before", 403, 403)
	blocks, err := n.soc.Blocks(t.Context(), 10)
	check(t, err)
	if len(blocks) != 2 || blocks[1].Route != "GET /" {
		t.Fatalf("blocks: %+v", blocks)
	}
	e := soc.Exclusion{Host: "*", Event: blocks[1].Event, Exclusion: config.Exclusion{Target: "ARGS:note", Route: "GET /", Reason: "synthetic",
		Expires: time.Now().UTC().AddDate(0, 0, 10).Format(time.DateOnly)}}
	for _, h := range blocks[1].Hits {
		if h.Target == "ARGS:note" {
			e.Rules = append(e.Rules, h.RuleOf())
		}
	}
	if touched, free := blocks[1].Frees(e.Exclusion); !touched || !free {
		t.Errorf("the preview says %v, %v of %+v", touched, free, blocks[1])
	}
	if _, free := blocks[0].Frees(e.Exclusion); free {
		t.Errorf("the preview frees the other one: %+v", blocks[0])
	}
	analyst := pasban.Actor{ID: "analyst:test", Kind: pasban.ActorPerson, Role: pasban.RoleAnalyst}
	made, err := n.soc.Exclude(t.Context(), analyst, e)
	check(t, err)
	want("kept, not in force", 403, 403)
	check(t, n.tune(t.Context()))
	want("in force", 200, 403)
	if w := n.Status(t.Context()).Warnings; len(w) != 1 || !strings.Contains(w[0], "ends on "+e.Expires) {
		t.Errorf("warnings: %q", w)
	}
	check(t, n.Reload(t.Context()))
	want("after a reload", 200, 403)
	check(t, n.close())
	n, err = New(t.Context(), load(t, path), quiet())
	check(t, err)
	defer func() { check(t, n.close()) }()
	want("after a restart", 200, 403)
	check(t, n.soc.EndExclusion(t.Context(), analyst, made.ID))
	check(t, n.tune(t.Context()))
	want("ended", 403, 403)
}

// TestTuneWhileReloading makes exclusions while the configuration is reloaded
// and visitors ask: no request is dropped, and what is in force once stays.
func TestTuneWhileReloading(t *testing.T) {
	old := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer old.Close()
	path := place(t, map[string]string{"pasban.yaml": strings.Replace(minimal, "http://127.0.0.1:9]", old.URL+"]", 1)})
	n, err := New(t.Context(), load(t, path), quiet())
	check(t, err)
	defer func() { check(t, n.close()) }()
	h := n.gateway.Handler()
	ask := func(ip, query string) int {
		r := httptest.NewRequest(http.MethodGet, "/search?"+query, nil)
		r.RemoteAddr = ip + ":1"
		r.Header.Set("User-Agent", "synthetic")
		r.Header.Set("Accept", "text/html")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	const attack = "=1%27%20OR%20%271%27=%271%27%20UNION%20SELECT%20cnic%20FROM%20owners--"
	analyst := pasban.Actor{ID: "analyst:test", Kind: pasban.ActorPerson, Role: pasban.RoleAnalyst}
	ask("192.0.2.1", "first"+attack)
	blocks, err := n.soc.Blocks(t.Context(), 10)
	check(t, err)
	var rules []config.RuleRange
	for _, hit := range blocks[0].Hits {
		if hit.Target == "ARGS:first" {
			rules = append(rules, hit.RuleOf())
		}
	}

	ctx, stop := context.WithCancel(t.Context())
	var others sync.WaitGroup
	others.Go(func() {
		for i := 0; ctx.Err() == nil; i++ { // from everywhere: no client asks too often
			if code := ask(fmt.Sprintf("10.%d.%d.1", i/250%250, i%250), "q=synthetic"); code != http.StatusOK {
				t.Errorf("a harmless request: %d", code)
				return
			}
		}
	})
	others.Go(func() {
		for ctx.Err() == nil {
			if err := n.Reload(t.Context()); err != nil {
				t.Error(err)
				return
			}
		}
	})
	others.Go(func() { // as another node's exclusions are found
		for ctx.Err() == nil {
			if err := n.tune(t.Context()); err != nil {
				t.Error(err)
				return
			}
		}
	})
	names := []string{"note", "reason"}
	for i, name := range names {
		e := soc.Exclusion{Host: "*", Event: blocks[0].Event, Exclusion: config.Exclusion{Target: "ARGS:" + name, Route: "GET /", Reason: "synthetic",
			Rules: rules, Expires: time.Now().UTC().AddDate(0, 0, 10).Format(time.DateOnly)}}
		if _, err := n.soc.Exclude(t.Context(), analyst, e); err != nil {
			t.Fatal(err)
		}
		check(t, n.tune(t.Context()))
		for j, one := range names {
			want := map[bool]int{true: http.StatusOK, false: http.StatusForbidden}[j <= i]
			if got := ask(fmt.Sprintf("172.16.%d.%d", i, j), one+attack); got != want {
				t.Errorf("with %d exclusions: %s is answered %d", i+1, one, got)
			}
		}
	}
	stop()
	others.Wait()
}
