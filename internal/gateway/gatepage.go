package gateway

import (
	"embed"
	"encoding/base64"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"pasban/internal/gateway/pass"
	"pasban/internal/page"
)

//go:embed templates/*.html
var gateTemplates embed.FS

// gatePath is where the pages of the gate are: what follows names the page that
// the visitor asked for.
const gatePath = "/pasban/pass/"

// maxNext is the longest address that a visitor is led back to.
const maxNext = 2048

// How often the page of a waiting room asks again, in seconds.
const (
	minRefresh = 3
	maxRefresh = 30
)

// gatePages are made in advance: they are sent to everybody in a flood. Each
// comes in two kinds, the second for those whose form did not reach the service.
type gatePages struct {
	challenge, queue [2]*page.Stamped
}

// challengeView is the data of the challenge's page.
type challengeView struct {
	Lost                     bool
	Challenge, Refresh, Wait string
	Bits, Parts              int
}

// queueView is the data of the waiting room's page.
type queueView struct {
	Lost         bool
	Refresh, Say string
}

// throughView is the data of the page for those who are let through but whose
// form must be sent again, and for those whose browser keeps no cookie.
type throughView struct {
	Cookies bool
	Back    string
}

func newGatePages(pages *page.Pages) (g gatePages, err error) {
	sub, err := fs.Sub(gateTemplates, "templates")
	if err != nil {
		return g, err
	}
	if err := pages.Add(page.Portal, sub); err != nil {
		return g, err
	}
	o := page.StampOptions{Workers: true, Types: []string{"pass"}}
	for i, lost := range []bool{false, true} {
		g.challenge[i], err = pages.Stamp(func(lang string) page.View {
			return page.View{Surface: page.Portal, Name: "challenge", Title: pages.T(lang, "pass.challenge.title"),
				Data: challengeView{Lost: lost, Challenge: page.Hole(0), Refresh: page.Hole(1), Wait: page.Hole(2), Bits: pass.PartBits(), Parts: pass.Parts}}
		}, 3, o)
		if err != nil {
			return g, err
		}
		g.queue[i], err = pages.Stamp(func(lang string) page.View {
			return page.View{Surface: page.Portal, Name: "queue", Title: pages.T(lang, "pass.queue.title"),
				Data: queueView{Lost: lost, Refresh: page.Hole(0), Say: page.Hole(1)}}
		}, 2, o)
		if err != nil {
			return g, err
		}
	}
	return g, nil
}

// destination is where a visitor wanted to go.
type destination struct {
	path string // path and query; "" if it is not known
	lost bool   // they sent something, which did not arrive; path is where they came from
}

// token writes a destination as the last part of a gate page's address.
func (d destination) token() string {
	kind := "g"
	if d.lost {
		kind = "p"
	}
	return base64.RawURLEncoding.EncodeToString([]byte(kind + d.path))
}

// parseDestination reads what token wrote. Nothing but an address on this very
// host comes out of it, whatever goes in.
func parseDestination(token string) (destination, bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || strings.ContainsAny(token, "\r\n") || len(raw) == 0 || raw[0] != 'g' && raw[0] != 'p' {
		return destination{}, false
	}
	d := destination{path: string(raw[1:]), lost: raw[0] == 'p'}
	if d.path == "" {
		return d, d.lost
	}
	return d, localPath(d.path)
}

// localPath reports whether p is an address on this host, and none of the
// gate's own.
func localPath(p string) bool {
	if len(p) > maxNext || p[0] != '/' || strings.HasPrefix(p, "//") || strings.HasPrefix(p, gatePath) || strings.ContainsAny(p, "\\#") {
		return false
	}
	for _, c := range []byte(p) {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	u, err := url.ParseRequestURI(p)
	return err == nil && u.Host == "" && u.Scheme == ""
}

// destinationOf is where the visitor of a request is led once they are through.
func destinationOf(r *http.Request) destination {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		p := r.URL.RequestURI()
		if len(p) > maxNext {
			p = r.URL.EscapedPath()
		}
		if !localPath(p) {
			p = "/"
		}
		return destination{path: p}
	}
	d := destination{lost: true}
	if from, err := url.Parse(r.Referer()); err == nil && from.Host == r.Host && localPath(from.RequestURI()) {
		d.path = from.RequestURI()
	}
	return d
}

const (
	turnedByMode = "mode"
	turnedByRoom = "room"
)

// turn leads a visitor who cannot go on yet to the page that says how they
// will, and tells programs. It is what most of a flood gets, so it is cheap.
func (gt *gate) turn(s *site, w http.ResponseWriter, r *http.Request, by string) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if by == turnedByMode {
		s.door.load.away.Add(1)
	}
	if takesHTML(r) {
		gt.metrics.turned.WithLabelValues(by, "page").Inc()
		to := gatePath + destinationOf(r).token()
		if strings.HasPrefix(r.URL.Path, "/ur/") {
			to += "?lang=ur"
		}
		h.Set("Location", to)
		h["Vary"] = append(h["Vary"], "Accept, Cookie")
		w.WriteHeader(http.StatusSeeOther)
		return
	}
	gt.metrics.turned.WithLabelValues(by, "problem").Inc()
	h.Set("Retry-After", "30")
	p := page.Problem{Type: "about:blank", Title: http.StatusText(http.StatusTooManyRequests), Status: http.StatusTooManyRequests, Kind: "limited",
		Detail: "the site is under attack: only known visitors and programs with a token are let through",
		Hint:   "send the token that the agency gave you in the header " + TokenHeader + "; people open the page in a browser first"}
	if by == turnedByRoom {
		p.Detail = "more people want to use this than it can serve at once: they wait in a queue"
		p.Hint = "open the page in a browser to get a place; programs send the token that the agency gave them in the header " + TokenHeader
	}
	gt.g.o.Pages.JSON(w, r, p.Status, "application/problem+json", p)
}

// page is everything under gatePath: what stands between a visitor and where
// they want to go, a challenge, a queue, or nothing any more.
func (gt *gate) page(s *site, w http.ResponseWriter, r *http.Request, token string) {
	d, ok := parseDestination(token)
	if !ok {
		d = destination{path: "/"}
	}
	now := time.Now()
	v := gt.guestOf(r, now)
	switch r.Method {
	case http.MethodPost:
		gt.answered(s, w, r, d, v, now)
		return
	case http.MethodGet, http.MethodHead:
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	to, err := url.ParseRequestURI(d.path)
	if err != nil {
		to = &url.URL{Path: "/"}
	}
	if gt.stops(s, r, to.Path, v, now) {
		if page.WantsJSON(r) { // from the page of a waiting room: it looks again and finds the challenge
			gt.g.o.Pages.JSON(w, r, http.StatusOK, "", queueStatus{Ready: true})
			return
		}
		gt.challenge(s, w, r, d, v, now)
		return
	}
	if h := s.hallOf(http.MethodGet, to, r.Host); h != nil && !s.door.bears(r) && gt.shows(h, w, r, d, v, now) {
		return
	}
	gt.through(w, r, d)
}

// through leads a visitor on.
func (gt *gate) through(w http.ResponseWriter, r *http.Request, d destination) {
	if page.WantsJSON(r) {
		gt.g.o.Pages.JSON(w, r, http.StatusOK, "", queueStatus{Ready: true})
		return
	}
	if d.lost {
		gt.g.o.Pages.Render(w, r, http.StatusOK, page.View{Surface: page.Portal, Name: "through",
			Title: gt.g.o.Pages.T(page.Lang(r), "pass.through.title"), Data: throughView{Cookies: true, Back: d.path}})
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", d.path)
	w.WriteHeader(http.StatusSeeOther)
}

// challenge shows the page with work to do, or lets a visitor through who has
// waited instead.
func (gt *gate) challenge(s *site, w http.ResponseWriter, r *http.Request, d destination, v *guest, now time.Time) {
	var t pass.Ticket
	c, err := r.Cookie(ticketCookie)
	ok := err == nil
	if ok {
		t, ok = gt.book.OpenTicket(c.Value, now)
	}
	switch {
	case ok && !now.Before(t.Ready) && gt.carriers.Mint(v.from, now):
		gt.metrics.tickets.WithLabelValues("used").Inc()
		clearCookie(w, ticketCookie)
		gt.give(s, w, pass.Earned(pass.Waited, t.ID, v.from, now), now)
		gt.through(w, r, d)
		return
	case !ok:
		t = gt.waits.Next(now)
		gt.metrics.tickets.WithLabelValues("given").Inc()
		setCookie(w, ticketCookie, gt.book.SealTicket(t), time.Hour)
	}
	wait := max(1, int(t.Ready.Sub(now).Seconds()+0.999))
	gt.metrics.challenges.WithLabelValues("issued").Inc()
	w.Header().Set("Retry-After", strconv.Itoa(wait))
	gt.pages.challenge[kind(d.lost)].Send(w, r, http.StatusServiceUnavailable, gt.book.Challenge(v.from, now), strconv.Itoa(wait), strconv.Itoa(wait))
}

func kind(lost bool) int {
	if lost {
		return 1
	}
	return 0
}

// give hands out an earned pass.
func (gt *gate) give(s *site, w http.ResponseWriter, p pass.Pass, now time.Time) {
	s.door.load.saved.Add(1)
	gt.metrics.passes.WithLabelValues(p.Level.String()).Inc()
	setCookie(w, passCookie, gt.book.Seal(p), p.Expires.Sub(now))
}

// maxForm bounds the form that brings a challenge's answer.
const maxForm = 4096

// answered takes the work of a challenge. Whoever's work does not hold gets
// another challenge.
func (gt *gate) answered(s *site, w http.ResponseWriter, r *http.Request, d destination, v *guest, now time.Time) {
	w.Header().Set("Cache-Control", "no-store")
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		gt.metrics.challenges.WithLabelValues("failed").Inc()
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if _, err := r.Cookie(ticketCookie); err != nil && !v.holds {
		gt.g.o.Pages.Render(w, r, http.StatusBadRequest, page.View{Surface: page.Portal, Name: "through",
			Title: gt.g.o.Pages.T(page.Lang(r), "pass.nocookies.title"), Data: throughView{Back: d.path}})
		return
	}
	id, ok := gt.book.Solved(r.PostForm.Get("challenge"), r.PostForm.Get("answer"), v.from, now)
	outcome := "failed"
	switch {
	case ok && !gt.spent.Spend(id, now):
		outcome = "replayed"
	case ok && gt.carriers.Mint(v.from, now):
		outcome = "solved"
		gt.give(s, w, pass.Earned(pass.Solved, id, v.from, now), now)
		clearCookie(w, ticketCookie)
	}
	gt.metrics.challenges.WithLabelValues(outcome).Inc()
	if outcome == "solved" {
		gt.through(w, r, d)
		return
	}
	w.Header().Set("Location", r.URL.RequestURI())
	w.WriteHeader(http.StatusSeeOther)
}

// queueStatus is what the script of the waiting room's page asks for.
type queueStatus struct {
	Ready   bool   `json:"ready"`
	Say     string `json:"say,omitempty"`
	Refresh int    `json:"refresh,omitempty"` // ask again after so many seconds
}

// shows shows how a visitor's place stands, and reports false if they need not
// wait.
func (gt *gate) shows(h *hall, w http.ResponseWriter, r *http.Request, d destination, v *guest, now time.Time) bool {
	if c, err := r.Cookie(h.inside); err == nil {
		if _, ok := gt.book.OpenAdmission(c.Value, h.id, now); ok {
			return false
		}
	}
	_, turn, ok := gt.placeOf(h, w, r, v, now)
	if ok && turn.Called {
		return false
	}
	refresh := minRefresh
	say := gt.g.o.Pages.T(page.Lang(r), "pass.queue.next")
	if !ok { // too many from this network: the place is given a little later
		refresh = maxRefresh
	} else if turn.Ahead > 0 {
		refresh = min(max(int(turn.Wait.Seconds()/4), minRefresh), maxRefresh)
		say = gt.ahead(page.Lang(r), turn)
	}
	if page.WantsJSON(r) {
		gt.g.o.Pages.JSON(w, r, http.StatusOK, "", queueStatus{Say: say, Refresh: refresh})
		return true
	}
	w.Header().Set("Retry-After", strconv.Itoa(refresh))
	gt.pages.queue[kind(d.lost)].Send(w, r, http.StatusServiceUnavailable, strconv.Itoa(refresh), say)
	return true
}

// ahead says how a place stands: no more exactly than it is known.
func (gt *gate) ahead(lang string, t pass.Turn) string {
	wait, n := "pass.seconds", max(5, (int(t.Wait.Seconds())+4)/5*5)
	if n > 90 {
		wait, n = "pass.minutes", (n+59)/60
	}
	p := gt.g.o.Pages
	return p.T(lang, "pass.queue.ahead", "Count", int(t.Ahead), "Wait", p.T(lang, wait, "Count", n))
}
