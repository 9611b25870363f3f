package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/gateway/flood"
	"pasban/internal/gateway/pass"
	"pasban/internal/keys"
	"pasban/internal/page"
)

// What visitors carry, by the names of its cookies. They are stripped before
// the upstream with the session's, whose name they begin with.
const (
	passCookie   = page.SessionCookie + "-pass"
	ticketCookie = page.SessionCookie + "-ticket"
	placeCookie  = page.SessionCookie + "-place-" // and the room
	insideCookie = page.SessionCookie + "-in-"    // likewise
)

// TokenHeader is the header in which programs send their token. It does not
// reach the upstream.
const TokenHeader = "Pasban-Token"

// gate stands between the listener and the sites: under attack mode it keeps
// strangers out until they have shown that they are none, and it is the door
// of the waiting rooms.
type gate struct {
	g        *Gateway
	key      *keys.PassKey
	book     pass.Book
	carriers *pass.Carriers
	waits    pass.Waits
	spent    pass.Spent
	modes    *pass.Modes
	rooms    *pass.Rooms
	pages    gatePages
	metrics  gateMetrics

	mu    sync.Mutex // covers loads
	loads map[string]*load
}

// load is what one site has seen, over reloads.
type load struct {
	asked, away, saved atomic.Int64
	auto               atomic.Bool // the mode may start by itself

	watch pass.Watch // of the gate's goroutine
	rest  atomic.Bool
}

func newGate(g *Gateway, c *config.Config, key *keys.PassKey) (*gate, error) {
	if key == nil {
		key = keys.NewPassKey()
	}
	gt := &gate{g: g, key: key, book: pass.Book{Key: key}, carriers: pass.NewCarriers(), loads: map[string]*load{}}
	err := key.Rotate(time.Now())
	if err != nil {
		return nil, err
	}
	if gt.modes, err = pass.OpenModes(filepath.Join(c.Data, "attack.json")); err != nil {
		return nil, err
	}
	if gt.rooms, err = pass.OpenRooms(filepath.Join(c.Data, "queue.json")); err != nil {
		return nil, err
	}
	if gt.pages, err = newGatePages(g.o.Pages); err != nil {
		return nil, err
	}
	gt.metrics = newGateMetrics()
	return gt, nil
}

// load returns what is counted of the site of that name.
func (gt *gate) load(site string) *load {
	gt.mu.Lock()
	defer gt.mu.Unlock()
	l := gt.loads[site]
	if l == nil {
		l = &load{}
		gt.loads[site] = l
	}
	return l
}

// door is what the gate knows of one site.
type door struct {
	load   *load
	auto   bool // the mode may start by itself
	tokens [][sha256.Size]byte
}

func (gt *gate) door(name string, a config.Attack) door {
	d := door{load: gt.load(name), auto: a.Start == "auto"}
	for _, t := range a.Tokens {
		d.tokens = append(d.tokens, sha256.Sum256([]byte(t.Value())))
	}
	return d
}

// begin puts in force what a state says of its sites: whose attack mode may
// start by itself, and how many each waiting room admits.
func (gt *gate) begin(st *state, now time.Time) {
	gt.mu.Lock()
	for _, l := range gt.loads {
		l.auto.Store(false) // its site may be gone
	}
	gt.mu.Unlock()
	for s := range st.all() {
		s.door.load.auto.Store(s.door.auto)
		for _, h := range s.halls {
			h.Admit(h.rate, now)
		}
	}
}

// hall is the waiting room of one route.
type hall struct {
	*pass.Room
	id            pass.ID
	rate          float64 // visitors a second
	stay          time.Duration
	place, inside string // names of cookies
}

func (gt *gate) hall(site string, r config.Route) *hall {
	if r.Queue == nil {
		return nil
	}
	name := site + " " + r.Match
	id := pass.RoomID(name)
	short := strconv.FormatUint(uint64(id[0])<<24|uint64(id[1])<<16|uint64(id[2])<<8|uint64(id[3]), 36)
	return &hall{Room: gt.rooms.Room(name, r.Queue.Admit, time.Now()), id: id, rate: r.Queue.Admit, stay: r.Queue.Stay,
		place: placeCookie + short, inside: insideCookie + short}
}

// guest is what is known of a visitor when they come to the gate.
type guest struct {
	pass  pass.Pass
	holds bool // the pass is good and gives priority
	met   bool // there is one, but it is still to be earned
	from  pass.Network

	asking        func() bool // whether they are signed in
	asked, answer bool
}

// signed reports whether the visitor is signed in. It asks once.
func (v *guest) signed() bool {
	if !v.asked {
		v.asked, v.answer = true, v.asking()
	}
	return v.answer
}

func (gt *gate) guestOf(r *http.Request, now time.Time) *guest {
	v := &guest{from: pass.NetworkOf(flood.ClientAddr(r))}
	if c, err := r.Cookie(passCookie); err == nil {
		if p, ok := gt.book.Open(c.Value, now); ok {
			v.pass, v.met = p, !p.Gives()
			v.holds = p.Gives() && gt.carriers.Carry(p.ID, p.Home, v.from, now)
		}
	}
	v.asking = func() bool {
		_, err := r.Cookie(page.SessionCookie)
		return err == nil && gt.g.actorOf(r).ID != ""
	}
	return v
}

// knows reports whether a request shows that its visitor is known: it bears a
// pass that was earned, by its signature alone, or a session that was good
// lately. How much they carry is for others to say.
func (gt *gate) knows(r *http.Request) bool {
	if c, err := r.Cookie(passCookie); err == nil {
		if p, ok := gt.book.Open(c.Value, time.Now()); ok && p.Gives() {
			return true
		}
	}
	session := sessionHash(r)
	return session != "" && gt.g.limiter.Met(session)
}

// priorityOf says who goes first where there is not room for everybody. It
// looks a session up if the request bears one's cookie.
func priorityOf(r *http.Request) flood.Priority {
	v := visitOf(r.Context())
	switch {
	case v == nil || v.guest == nil:
		return flood.Stranger
	case v.guest.signed():
		return flood.SignedIn
	case v.guest.holds:
		return flood.Visitor
	}
	return flood.Stranger
}

// enter leads a request to its site, unless the gate is closed to its visitor.
func (gt *gate) enter(s *site, w http.ResponseWriter, r *http.Request) {
	s.door.load.asked.Add(1)
	if next, ok := strings.CutPrefix(r.URL.Path, gatePath); ok {
		gt.page(s, w, r, next)
		return
	}
	now := time.Now()
	v := gt.guestOf(r, now)
	visitOf(r.Context()).guest = v
	if gt.stops(s, r, r.URL.Path, v, now) {
		gt.turn(s, w, r, turnedByMode)
		return
	}
	if h := s.hallOf(r.Method, r.URL, r.Host); h != nil && !gt.walkIn(h, s, w, r, v, now) {
		gt.turn(s, w, r, turnedByRoom)
		return
	}
	s.ServeHTTP(gt.earning(s, w, r, v, now), r)
}

// stops reports whether attack mode keeps a visitor from a path.
func (gt *gate) stops(s *site, r *http.Request, path string, v *guest, now time.Time) bool {
	if _, on := gt.modes.Of(s.name, now); !on || always(path) {
		return false
	}
	return !v.holds && !s.door.bears(r) && !v.signed()
}

// always reports whether a path is open under attack too: where people sign
// in, those who defend the site, and what tells the public of it. What
// citizens come to without signing in is not.
func always(path string) bool {
	if !config.Owns(path) {
		return false
	}
	for _, p := range []string{"/en/", "/ur/", "/api/v1/"} {
		if strings.HasPrefix(path, p) {
			return false
		}
	}
	return true
}

// bears reports whether a request bears one of the site's tokens. Hashes are
// compared, all of them, so that the time says nothing.
func (d *door) bears(r *http.Request) bool {
	token := r.Header.Get(TokenHeader)
	if token == "" || len(d.tokens) == 0 {
		return false
	}
	sum, found := sha256.Sum256([]byte(token)), 0
	for i := range d.tokens {
		found |= subtle.ConstantTimeCompare(sum[:], d.tokens[i][:])
	}
	return found == 1
}

// hallOf is the waiting room of the route that a request takes, nil if it has
// none.
func (s *site) hallOf(method string, u *url.URL, host string) *hall {
	if len(s.halls) == 0 {
		return nil
	}
	h, _ := s.mux.Handler(&http.Request{Method: method, URL: u, Host: host})
	if rt, ok := h.(*route); ok {
		return rt.hall
	}
	return nil
}

// walkIn reports whether a visitor may be in a waiting room's route: they are
// in already, their place is called, or nobody waits. Otherwise they hold a
// place afterwards, if their browser can keep one.
func (gt *gate) walkIn(h *hall, s *site, w http.ResponseWriter, r *http.Request, v *guest, now time.Time) bool {
	if s.door.bears(r) {
		return true
	}
	if c, err := r.Cookie(h.inside); err == nil {
		if a, ok := gt.book.OpenAdmission(c.Value, h.id, now); ok && gt.carriers.Carry(a.ID, a.Home, v.from, now) {
			if a.Expires.Sub(now) < h.stay/2 {
				a.Expires = now.Add(h.stay)
				setCookie(w, h.inside, gt.book.SealAdmission(a), h.stay)
			}
			return true
		}
	}
	if !isVisit(r) {
		return false
	}
	place, turn, ok := gt.placeOf(h, w, r, v, now)
	if !ok || !turn.Called {
		return false
	}
	if !h.Enter(place.N, v.from) {
		clearCookie(w, h.place)
		return false
	}
	gt.metrics.places.WithLabelValues("called").Inc()
	a := pass.Admission{ID: place.ID, Room: h.id, Home: v.from, Expires: now.Add(h.stay)}
	setCookie(w, h.inside, gt.book.SealAdmission(a), h.stay)
	clearCookie(w, h.place)
	return true
}

// placeOf is the visitor's place in a room, a new one if they have none that
// is good. ok is false if their network has had too many.
func (gt *gate) placeOf(h *hall, w http.ResponseWriter, r *http.Request, v *guest, now time.Time) (p pass.Place, turn pass.Turn, ok bool) {
	if c, err := r.Cookie(h.place); err == nil {
		if p, ok := gt.book.OpenPlace(c.Value, h.id); ok {
			if turn := h.Turn(p.N, now); !turn.Late {
				return p, turn, true
			}
			gt.metrics.places.WithLabelValues("late").Inc()
		}
	}
	if !gt.carriers.Mint(v.from, now) {
		return p, turn, false
	}
	gt.metrics.places.WithLabelValues("given").Inc()
	p = pass.NewPlace(h.id, h.Join(now))
	setCookie(w, h.place, gt.book.SealPlace(p), 24*time.Hour)
	return p, h.Turn(p.N, now), true
}

// isVisit reports whether a person's browser asks for a page.
func isVisit(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	return takesHTML(r)
}

func takesHTML(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	return strings.Contains(accept, "text/html") || strings.Contains(accept, "application/xhtml+xml")
}

func setCookie(w http.ResponseWriter, name, value string, life time.Duration) {
	if value == "" { // the key is gone: the node is stopping
		return
	}
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: int(life / time.Second),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

func clearCookie(w http.ResponseWriter, name string) {
	http.SetCookie(w, &http.Cookie{Name: name, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// earning has visitors who behave earn a pass quietly: while there is no
// attack, pages that were answered count.
func (gt *gate) earning(s *site, w http.ResponseWriter, r *http.Request, v *guest, now time.Time) http.ResponseWriter {
	if !isVisit(r) {
		return w
	}
	if _, on := gt.modes.Of(s.name, now); on {
		return w
	}
	return &earner{ResponseWriter: w, gt: gt, guest: v, now: now}
}

// earner puts the grown pass into an answer that went well.
type earner struct {
	http.ResponseWriter
	gt    *gate
	guest *guest
	now   time.Time
	begun bool
}

func (e *earner) WriteHeader(status int) {
	if !e.begun && status >= 200 {
		e.begun = true
		if status < 400 && !shared(e.Header().Get("Cache-Control")) {
			e.grow()
		}
	}
	e.ResponseWriter.WriteHeader(status)
}

// shared reports whether caches may give an answer to others: it must carry
// nobody's pass.
func shared(cacheControl string) bool {
	cacheControl = strings.ToLower(cacheControl)
	return strings.Contains(cacheControl, "public") || strings.Contains(cacheControl, "s-maxage")
}

func (e *earner) grow() {
	p, change := e.guest.pass, true
	if e.guest.holds || e.guest.met {
		p, change = p.Answered(e.guest.from, e.now)
	} else if change = e.gt.carriers.Mint(e.guest.from, e.now); change {
		p = pass.Meet(e.guest.from, e.now)
	}
	if !change {
		return
	}
	if p.Level == pass.Known {
		e.gt.metrics.passes.WithLabelValues(p.Level.String()).Inc()
	}
	setCookie(e.ResponseWriter, passCookie, e.gt.book.Seal(p), p.Expires.Sub(e.now))
}

func (e *earner) Write(b []byte) (int, error) {
	if !e.begun {
		e.WriteHeader(http.StatusOK)
	}
	return e.ResponseWriter.Write(b)
}

// Unwrap lets a ResponseController reach the connection.
func (e *earner) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// run keeps the gate's state until ctx ends: modes that start and end, rooms on
// disk, keys that grow old.
func (gt *gate) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			gt.saveRooms()
			return
		case now := <-tick.C:
			gt.second(now)
			if n%3600 == 0 {
				if err := gt.key.Rotate(now); err != nil {
					slog.Error("the pass key was not exchanged; the old one stays in use", "err", err)
				}
			}
		}
	}
}

// second is what is done once a second.
func (gt *gate) second(now time.Time) {
	gt.saveRooms()
	over, err := gt.modes.Expired(now)
	if err != nil {
		slog.Error("the end of an attack mode could not be written down", "err", err)
	}
	for _, m := range over {
		gt.g.record(gt.g.ctx, gt.modeFact(pasban.Actor{Kind: pasban.ActorSystem}, "attack.end", m))
	}
	gt.mu.Lock()
	loads := maps.Clone(gt.loads)
	gt.mu.Unlock()
	for name, l := range loads {
		if l.rest.Swap(false) {
			l.watch.Rest(now)
		}
		gt.decide(name, l.watch.Step(now, pass.Counts{Asked: l.asked.Load(), Away: l.away.Load() - l.saved.Load()}), l.auto.Load(), now)
	}
}

func (gt *gate) saveRooms() {
	if err := gt.rooms.Save(time.Now()); err != nil {
		slog.Error("the state of the waiting rooms could not be written down", "err", err)
	}
}

// decide does what a site's watch says.
func (gt *gate) decide(site string, v pass.Verdict, auto bool, now time.Time) {
	m, on := gt.modes.Of(site, now)
	switch {
	case on && m.Auto() && v != pass.Calm && m.Until.Sub(now) < pass.AutoLife/2:
		m.Until = now.Add(pass.AutoLife) // it goes on
	case !on && auto && v == pass.Alarm:
		m = pass.Mode{Site: site, Reason: pass.Overload, Since: now, Until: now.Add(pass.AutoLife)}
		// A flood must not wait for the journal: the fact follows.
		defer func() { gt.g.record(gt.g.ctx, gt.modeFact(pasban.Actor{Kind: pasban.ActorSystem}, "attack.start", m)) }()
	default:
		return
	}
	if err := gt.modes.Start(m); err != nil {
		slog.Error("an attack mode could not be written down; it is in force until the node stops", "site", site, "err", err)
	}
}

// modeFact tells that a mode began or ended.
func (gt *gate) modeFact(who pasban.Actor, action string, m pass.Mode) pasban.Fact {
	f := pasban.NewFact(pasban.KindAdmin, gt.g.agency(), who, time.Now())
	f.Body.Service, f.Body.Action, f.Body.Resource = m.Site, action, string(m.Reason)
	f.Restricted.More = map[string]string{
		"reason": string(m.Reason), "since": m.Since.UTC().Format(pasban.TimeFormat), "until": m.Until.UTC().Format(pasban.TimeFormat),
		"started": "by hand",
	}
	if m.Note != "" {
		f.Restricted.More["note"] = m.Note
	}
	if m.Auto() {
		f.Restricted.More["started"] = "by itself"
	}
	return f
}
