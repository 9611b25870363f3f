package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"pasban"
)

// TestReload exchanges the configuration of a node under load, for better and
// for worse, adds people beside it, and ends it while it works.
func TestReload(t *testing.T) {
	t.Parallel()
	land := newLegacy(t)
	s := newNode(t, land.URL, "off")
	s.edit("timeout: 2s", "timeout: 60s")
	links := s.add(staff(pasban.RoleOfficer, "LHR-032"), staff(pasban.RoleOfficer, "LHR-033"))
	s.up()
	people := []*visitor{s.enrolled(links[0]), s.enrolled(links[1]), s.visitor()}
	good := string(must(os.ReadFile(s.config)))

	// Two officers at guarded pages and a stranger at the front page, without a pause.
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	var answered atomic.Int64
	for i, v := range people {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				path := "/"
				if i < 2 {
					path = land.record(n)
				}
				a, err := v.ask(ctx, http.MethodGet, path, nil, working...)
				if ctx.Err() != nil {
					return
				}
				if err != nil || a.status != http.StatusOK {
					t.Errorf("visitor %d at %s while the node reloads: %d %v", i, path, a.status, err)
					return
				}
				answered.Add(1)
			}
		})
	}
	underLoad := func() {
		t.Helper()
		from := answered.Load()
		check(t, await(func() error {
			if t.Failed() || answered.Load() >= from+30 {
				return nil
			}
			return fmt.Errorf("only %d answers", answered.Load()-from)
		}))
	}
	v := s.visitor()
	becomes := func(path string, status int) {
		t.Helper()
		check(t, await(func() error {
			if a := v.get(path); a.status != status {
				return fmt.Errorf("%s: %d, want %d", path, a.status, status)
			}
			return nil
		}))
	}
	says := func(what string, times int) {
		t.Helper()
		check(t, await(func() error {
			if n := strings.Count(s.log(), what); n < times {
				return fmt.Errorf("the log says %q %d times, want %d", what, n, times)
			}
			return nil
		}))
	}

	// A route comes and goes, ten times.
	const route = `      - {match: "GET /static/", signin: none}` + "\n"
	underLoad()
	for range 5 {
		s.write(strings.Replace(good, "    routes:\n", "    routes:\n"+route, 1))
		s.signal(syscall.SIGHUP)
		becomes("/static/style.css", http.StatusOK)
		s.write(good)
		s.signal(syscall.SIGHUP)
		becomes("/static/style.css", http.StatusNotFound)
	}
	underLoad()

	// Another process writes to the same journal, as `pasban user add` does.
	for i := range 3 {
		s.add(staff(pasban.RoleOfficer, fmt.Sprintf("LHR-1%02d", i)))
	}
	underLoad()

	// A bad file, one that changes what cannot change, and none: the old one stays in force.
	const kept = "the old one stays in force"
	for i, bad := range []string{
		strings.Replace(good, "upstream:", "upstraem:", 1),
		strings.Replace(good, "listen: ", "listen: 127.0.0.1:1 #", 1),
		"",
	} {
		s.write(bad)
		s.signal(syscall.SIGHUP)
		says(kept, i+1)
		underLoad()
	}
	for _, hint := range []string{"upstream", "restart the node to change them", "pasban.yaml"} {
		says(hint, 1)
	}
	// A log that was set aside begins anew, also with a bad file.
	access := s.data("log/access.log")
	check(t, os.Rename(access, access+"-yesterday"))
	s.signal(syscall.SIGHUP)
	says(kept, 4)
	underLoad()
	check(t, await(func() error { _, err := os.Stat(access); return err }))

	s.write(good)
	s.signal(syscall.SIGHUP)
	says("the configuration was reloaded", 11)
	stop()
	wg.Wait()
	s.drains(land, people[0])
	s.gapless()
}

// drains ends the node while somebody waits for a page: they get it, and
// nobody else gets in.
func (s *serving) drains(land *legacy, officer *visitor) {
	s.t.Helper()
	arrived, release := land.hold()
	defer release()
	page := land.record(3) + "?last=1" // those who gave up before may still be on their way
	type outcome struct {
		answer
		err error
	}
	got := make(chan outcome, 1)
	go func() {
		a, err := officer.ask(s.t.Context(), http.MethodGet, page, nil, working...)
		got <- outcome{a, err}
	}()
	for <-arrived != page {
	}
	s.signal(syscall.SIGTERM)
	check(s.t, await(func() error {
		conn, err := net.Dial("tcp", s.listen)
		if err == nil {
			conn.Close()
			return errors.New("the node still listens")
		}
		return nil
	}))
	release()
	o := <-got
	if o.err != nil || o.status != http.StatusOK || !strings.Contains(string(o.body), land.owners[3].Name) {
		s.t.Errorf("the request under way was cut off: %d %v %s", o.status, o.err, o.body)
	}
	if err := s.ended(); err != nil {
		s.t.Errorf("the node ended with %v", err)
	}
}
