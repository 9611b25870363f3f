package identity_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pasban"
)

func TestSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := sqliteRig(t)
		b := r.direct("192.0.2.1")
		a := newAuthenticator(t)
		res, body := b.enrol(r.link(r.add(officer()).ID), a)
		want(t, "enrolment", res, body, http.StatusOK)
		time.Sleep(29 * time.Minute)
		if !b.signedIn() {
			t.Fatal("over before the idle time")
		}
		time.Sleep(29 * time.Minute)
		if !b.signedIn() {
			t.Fatal("use does not prolong the session")
		}
		time.Sleep(30 * time.Minute)
		if b.signedIn() {
			t.Fatal("holds after the idle time")
		}
		res, body = b.signIn(a)
		want(t, "sign-in", res, body, http.StatusOK)
		for range 12*6 - 1 {
			time.Sleep(10 * time.Minute)
			if !b.signedIn() {
				t.Fatal("over while in use")
			}
		}
		time.Sleep(10 * time.Minute)
		if b.signedIn() {
			t.Error("holds longer than its life")
		}
	})
}

func TestLinkExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := sqliteRig(t)
		p := r.add(officer())
		link := r.link(p.ID)
		b := r.direct("192.0.2.1")
		time.Sleep(72*time.Hour - time.Second)
		if res, _ := b.get(link); res.StatusCode != http.StatusOK {
			t.Errorf("a second before: %d", res.StatusCode)
		}
		answer := newAuthenticator(t).create(b.begin(link))
		time.Sleep(time.Second)
		if res, body := b.do(http.MethodPost, link+"/finish", answer); res.StatusCode != http.StatusNotFound {
			t.Errorf("expired: %d %s", res.StatusCode, body)
		}
	})
}

func TestChallengeExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := sqliteRig(t)
		a := newAuthenticator(t)
		b := r.direct("192.0.2.1")
		b.enrol(r.link(r.add(officer()).ID), a)
		answer := a.get(b.begin("/pasban/signin"))
		time.Sleep(5 * time.Minute)
		if res, body := b.do(http.MethodPost, "/pasban/signin/finish", answer); res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	})
}

func TestFailuresAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := sqliteRig(t)
		a := newAuthenticator(t)
		b := r.direct("192.0.2.1")
		b.enrol(r.link(r.add(officer()).ID), a)
		for range 30 { // what succeeds costs nothing
			if res, body := b.signIn(a); res.StatusCode != http.StatusOK {
				t.Fatalf("%d %s", res.StatusCode, body)
			}
		}
		try := func() int {
			res, _ := b.do(http.MethodPost, "/pasban/signin/finish", []byte("{}"))
			return res.StatusCode
		}
		for n := range 20 {
			if got := try(); got != http.StatusUnauthorized {
				t.Fatalf("attempt %d: %d", n, got)
			}
		}
		for range 5 {
			if got := try(); got != http.StatusTooManyRequests {
				t.Fatalf("past the limit: %d", got)
			}
		}
		if n := strings.Count(r.reasons(), "too_many_attempts"); n != 1 {
			t.Errorf("%d facts of the limit, want one", n)
		}
		for n := range 25 { // one network of somebody's, many addresses
			res, _ := r.direct(fmt.Sprintf("[2001:db8::%x]", n)).do(http.MethodPost, "/pasban/signin/finish", []byte("{}"))
			if limited := res.StatusCode == http.StatusTooManyRequests; limited != (n >= 20) {
				t.Errorf("attempt %d from an IPv6 network: %d", n, res.StatusCode)
			}
		}
		if res, body := r.direct("192.0.2.2").signIn(a); res.StatusCode != http.StatusOK {
			t.Errorf("another client: %d %s", res.StatusCode, body)
		}
		time.Sleep(3 * time.Second)
		if got := try(); got != http.StatusUnauthorized {
			t.Errorf("after three seconds: %d", got)
		}
	})
}

func TestWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := sqliteRig(t)
		b := r.direct("192.0.2.1")
		p := r.add(officer())
		b.enrol(r.link(p.ID), newAuthenticator(t))
		session := func() pasban.Purpose {
			list, err := r.Sessions(t.Context(), p.ID)
			if err != nil || len(list) != 1 {
				t.Fatalf("%v, %v", list, err)
			}
			return list[0].Purpose()
		}
		list, err := r.Sessions(t.Context(), p.ID)
		if err != nil {
			t.Fatal(err)
		}
		s := list[0]
		for _, bad := range [][2]string{{"", "M-1"}, {"mutation", ""}, {"mutation", " "}, {"Mutation", "M-1"}, {"mutation", "M\n1"}, {"mutation", strings.Repeat("x", 65)}} {
			if err := r.SetWork(t.Context(), s, pasban.Purpose{Code: bad[0], Case: bad[1]}); pasban.KindOf(err) != pasban.Invalid || err == nil {
				t.Errorf("SetWork(%q): %v", bad, err)
			}
		}
		if err := r.SetWork(t.Context(), s, pasban.Purpose{Code: "mutation", Case: "M-1", HideUntil: time.Now()}); pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("hidden until now: %v", err)
		}
		date := time.Now().Add(24 * time.Hour).UTC().Truncate(time.Second)
		if err := r.SetWork(t.Context(), s, pasban.Purpose{Code: "mutation", Case: " M-2026/1 ", HideUntil: date}); err != nil {
			t.Fatal(err)
		}
		if got := session(); got != (pasban.Purpose{Code: "mutation", Case: "M-2026/1", HideUntil: date}) {
			t.Errorf("%+v", got)
		}
		for range 5 {
			time.Sleep(20 * time.Minute)
			b.signedIn()
		}
		if session().Code == "" {
			t.Error("over too early")
		}
		time.Sleep(20 * time.Minute)
		if got := session(); got != (pasban.Purpose{}) {
			t.Errorf("after two hours: %+v", got)
		}
		if err := r.SetWork(t.Context(), s, pasban.Purpose{}); err != nil {
			t.Errorf("end: %v", err)
		}
		if err := r.SignOutEverywhere(httptestRequest(), s); err != nil {
			t.Fatal(err)
		}
		if err := r.SetWork(t.Context(), s, pasban.Purpose{Code: "mutation", Case: "M-1"}); pasban.KindOf(err) != pasban.Conflict {
			t.Errorf("on an ended session: %v", err)
		}
	})
}
