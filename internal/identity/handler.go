package identity

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"pasban"
	"pasban/internal/page"
	"pasban/internal/store"
)

const (
	// ceremonyCookie tells which challenge a browser answers.
	ceremonyCookie = "__Host-pasban-ceremony"
	// maxBody is the largest answer of an authenticator in bytes.
	maxBody = 64 << 10
)

func (i *Identity) routes() {
	i.mux = http.NewServeMux()
	i.mux.HandleFunc("GET /pasban/signin", i.signinPage)
	i.mux.HandleFunc("POST /pasban/signin/begin", i.signinBegin)
	i.mux.HandleFunc("POST /pasban/signin/finish", i.signinFinish)
	i.mux.HandleFunc("GET /pasban/enrol/{token}", i.enrolPage)
	i.mux.HandleFunc("POST /pasban/enrol/{token}/begin", i.enrolBegin)
	i.mux.HandleFunc("POST /pasban/enrol/{token}/finish", i.enrolFinish)
	i.mux.HandleFunc("POST /pasban/signout", i.signout)
	i.mux.HandleFunc("GET /pasban/account", i.accountPage)
	i.mux.HandleFunc("POST /pasban/account/signout", i.signoutEverywhere)
	i.mux.HandleFunc("/pasban/", func(w http.ResponseWriter, r *http.Request) {
		i.fail(w, r, &pasban.Error{Kind: pasban.NotFound, Msg: "there is no such page"})
	})
}

// Handler answers /pasban/signin, /pasban/enrol/…, /pasban/signout and
// /pasban/account. Requests that change something from another origin are
// refused. It stands behind [Identity.Middleware].
func (i *Identity) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.o.Pages.SameOrigin(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			i.mux.ServeHTTP(w, r)
		})).ServeHTTP(w, masked(r))
	})
}

// ClientOf says where a request comes from, as the facts of every surface carry
// it: one client has one address everywhere, and nothing is longer than a fact
// should be. The path is there but for the token of an enrolment link, the
// query is not.
func ClientOf(r *http.Request) pasban.Restricted {
	path, _, _ := strings.Cut(r.URL.Path, EnrolPath)
	if path == "" { // a link's token is nobody's business
		path = EnrolPath
	}
	return pasban.Restricted{IP: AddrOf(r), UserAgent: cut(r.UserAgent(), 256), Host: cut(r.Host, 255),
		Method: cut(r.Method, 32), Path: cut(path, 2048)}
}

// AddrOf is the address that a request comes from, as facts and logs carry it.
func AddrOf(r *http.Request) string {
	if a, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return a.Addr().Unmap().WithZone("").String()
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return cut(host, 64)
	}
	return cut(r.RemoteAddr, 64)
}

// clientKey is what a client is bounded by: its address, or its network of 64
// bits if that is IPv6, of which anybody has a whole one.
func clientKey(r *http.Request) string {
	ip := AddrOf(r)
	if a, err := netip.ParseAddr(ip); err == nil && a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip
}

func cut(s string, max int) string { return strings.ToValidUTF8(s[:min(len(s), max)], "") }

// masked is the request as logs and error pages may know it: without a link's token.
func masked(r *http.Request) *http.Request {
	if !strings.HasPrefix(r.URL.Path, EnrolPath) {
		return r
	}
	u := *r.URL
	u.Path, u.RawPath = EnrolPath, ""
	r = r.WithContext(r.Context())
	r.URL = &u
	return r
}

// fail answers with an error.
func (i *Identity) fail(w http.ResponseWriter, r *http.Request, err error) {
	i.o.Pages.Error(w, masked(r), err)
}

// SafeNext is next if it is a path of this site that a browser cannot take for
// anything else, and "" otherwise.
func SafeNext(next string) string {
	if len(next) > 2000 || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") {
		return ""
	}
	for _, c := range []byte(next) {
		if c <= ' ' || c == '\\' || c >= 0x7f {
			return ""
		}
	}
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" || strings.HasPrefix(u.Path, "//") ||
		u.Path == "/pasban/signin" || strings.HasPrefix(u.Path, EnrolPath) || strings.Contains(u.Path, "\\") {
		return ""
	}
	return next
}

// home is where people of a role begin.
func home(role pasban.Role, lang string) string {
	switch role {
	case pasban.RoleOfficer, pasban.RoleSupervisor:
		return "/desk"
	case pasban.RoleCitizen:
		return "/" + lang + "/"
	}
	return "/soc"
}

// PasskeyView is the data of the sign-in and enrolment pages.
type PasskeyView struct {
	Begin   string // where the script asks for the challenge
	Finish  string // and where it sends the answer
	Next    string // SafeNext
	Name    string // whose link it is; "" on the sign-in page
	Minutes int    // how long a challenge may be answered
}

func (i *Identity) render(w http.ResponseWriter, r *http.Request, v page.View) {
	v.Surface, v.Title = page.Portal, i.o.Pages.T(page.Lang(r), "identity."+v.Name+".title")
	if s := FromContext(r.Context()); s != nil {
		v.User = s.Person.Name(page.Lang(r))
	}
	i.o.Pages.Render(w, r, http.StatusOK, v)
}

func (i *Identity) signinPage(w http.ResponseWriter, r *http.Request) {
	i.render(w, r, page.View{Name: "signin", Data: PasskeyView{Begin: "/pasban/signin/begin", Finish: "/pasban/signin/finish",
		Next: SafeNext(r.URL.Query().Get("next")), Minutes: int(ceremonyLife.Minutes())}})
}

// begin keeps the state of a challenge and answers with it.
func (i *Identity) begin(w http.ResponseWriter, r *http.Request, options any, data *webauthn.SessionData, link []byte) {
	token, hash := newToken()
	i.ceremonies.put(string(hash), &ceremony{data: *data, link: string(link), client: clientKey(r)})
	http.SetCookie(w, &http.Cookie{Name: ceremonyCookie, Value: token, Path: "/", MaxAge: int(ceremonyLife.Seconds()),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	i.o.Pages.JSON(w, r, http.StatusOK, "", options)
}

// answered takes the challenge that the request answers, nil if there is none.
func (i *Identity) answered(w http.ResponseWriter, r *http.Request) *ceremony {
	c, err := r.Cookie(ceremonyCookie)
	if err != nil {
		return nil
	}
	setCookie(w, ceremonyCookie, "")
	hash, _ := tokenHash(c.Value)
	return i.ceremonies.take(string(hash))
}

func (i *Identity) signinBegin(w http.ResponseWriter, r *http.Request) {
	options, data, err := i.auth.BeginDiscoverableLogin()
	if err != nil {
		i.fail(w, r, err)
		return
	}
	i.begin(w, r, options, data, nil)
}

// signinFinish is the way in: limit, challenge, assertion, then counter,
// session and fact in one transaction. Every way out is recorded.
func (i *Identity) signinFinish(w http.ResponseWriter, r *http.Request) {
	if !i.attempt(w, r) {
		return
	}
	c := i.answered(w, r)
	if c != nil && c.link != "" {
		c = nil // a challenge for registering proves nothing here
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		i.refuse(w, r, &refusal{reason: "malformed", cause: err})
		return
	}
	good, no, err := i.verify(r.Context(), c, body)
	if err == nil && good != nil {
		no, err = i.admit(w, r, good)
	}
	switch {
	case err != nil:
		i.fail(w, r, err)
	case no != nil:
		i.refuse(w, r, no)
	default:
		i.welcome(w, r, good.person)
	}
}

// admit makes the session of a verified person.
func (i *Identity) admit(w http.ResponseWriter, r *http.Request, v *verified) (*refusal, error) {
	now, who := time.Now(), credentialHash(v.credential.ID)
	keep, err := i.keepUse(r.Context(), v, now)
	if err != nil {
		return nil, err
	}
	err = i.start(w, r, v.person, now, map[string]string{"how": "passkey", "credential": who}, func(tx *store.Tx) ([]pasban.Fact, error) {
		return nil, keep(tx)
	})
	if err != nil && pasban.KindOf(err) == pasban.Conflict { // used twice at once, or disabled meanwhile
		return &refusal{reason: "counter_went_back", person: &v.person, credential: who, cause: err}, nil
	}
	return nil, err
}

// attempt spends one of the client's attempts; without one left it answers 429.
func (i *Identity) attempt(w http.ResponseWriter, r *http.Request) bool {
	ok, first := i.attempts.take(clientKey(r))
	if ok {
		return true
	}
	limited := &pasban.Error{Kind: pasban.Limited, Msg: "too many attempts from here", Hint: "wait a few seconds"}
	if first { // one fact for each time that it runs out: refusals must not fill the journal
		id, err := i.recordRefusal(r, &refusal{reason: "too_many_attempts"})
		if err != nil {
			i.fail(w, r, err)
			return false
		}
		limited.ID = id
	}
	i.fail(w, r, limited)
	return false
}

// refuse records a failed attempt and gives the one answer that all of them get.
func (i *Identity) refuse(w http.ResponseWriter, r *http.Request, no *refusal) {
	id, err := i.recordRefusal(r, no)
	if err != nil {
		i.fail(w, r, err)
		return
	}
	i.fail(w, r, &pasban.Error{Kind: pasban.Unauthenticated, Msg: "this did not sign you in",
		Hint: "try again, or ask for a new link if your passkey is lost", ID: id, Err: no.cause})
}

func (i *Identity) recordRefusal(r *http.Request, no *refusal) (id string, err error) {
	f := pasban.NewFact(pasban.KindSignin, i.o.Agency, pasban.Actor{}, time.Now())
	f.Body.Action, f.Body.Service, f.Body.Outcome = "signin", "identity", pasban.Denied
	f.Restricted = ClientOf(r)
	f.Restricted.More = map[string]string{"reason": no.reason}
	if no.credential != "" {
		f.Restricted.More["credential"] = no.credential
	}
	if no.person != nil {
		f.Subject, f.Restricted.Actor = no.person.about(), no.person.ID
	}
	if e, ok := errors.AsType[*protocol.Error](no.cause); ok {
		slog.DebugContext(r.Context(), "identity: attempt refused", "incident", f.Body.ID, "reason", no.reason, "details", e.Details)
	}
	if _, err := i.o.Journal.Record(context.WithoutCancel(r.Context()), f); err != nil {
		return "", err
	}
	return f.Body.ID, nil
}

// welcome tells the script where to go on.
func (i *Identity) welcome(w http.ResponseWriter, r *http.Request, p Person) {
	i.attempts.giveBack(clientKey(r))
	next := SafeNext(r.URL.Query().Get("next"))
	if next == "" {
		next = home(p.Role, page.Lang(r))
	}
	i.o.Pages.JSON(w, r, http.StatusOK, "", map[string]string{"next": next})
}

func (i *Identity) enrolPage(w http.ResponseWriter, r *http.Request) {
	token := r.PathValue("token")
	p, _, err := i.linkHolder(r.Context(), token)
	if err != nil {
		i.fail(w, r, err)
		return
	}
	i.render(w, r, page.View{Name: "enrol", Data: PasskeyView{Begin: EnrolPath + token + "/begin", Finish: EnrolPath + token + "/finish",
		Name: p.Name(page.Lang(r)), Minutes: int(ceremonyLife.Minutes())}})
}

func (i *Identity) enrolBegin(w http.ResponseWriter, r *http.Request) {
	p, hash, err := i.linkHolder(r.Context(), r.PathValue("token"))
	if err != nil {
		i.fail(w, r, err)
		return
	}
	have, err := i.descriptors(r.Context(), p.ID)
	if err != nil {
		i.fail(w, r, err)
		return
	}
	options, data, err := i.auth.BeginRegistration(account{person: p}, webauthn.WithExclusions(have))
	if err != nil {
		i.fail(w, r, err)
		return
	}
	i.begin(w, r, options, data, hash)
}

func (i *Identity) enrolFinish(w http.ResponseWriter, r *http.Request) {
	if !i.attempt(w, r) {
		return
	}
	c := i.answered(w, r)
	p, hash, err := i.linkHolder(r.Context(), r.PathValue("token"))
	if err != nil {
		if pasban.KindOf(err) == pasban.NotFound {
			id, recErr := i.recordRefusal(r, &refusal{reason: "bad_link"})
			no := errLink
			if no.ID = id; recErr == nil {
				err = &no
			} else {
				err = recErr
			}
		}
		i.fail(w, r, err)
		return
	}
	if c == nil || c.link != string(hash) {
		i.refuse(w, r, &refusal{reason: "no_challenge", person: &p})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		i.refuse(w, r, &refusal{reason: "malformed", person: &p, cause: err})
		return
	}
	no, err := i.register(w, r, c, p, hash, body)
	switch {
	case err != nil:
		i.fail(w, r, err)
	case no != nil:
		i.refuse(w, r, no)
	default:
		i.welcome(w, r, p)
	}
}

// signedIn returns the request's session, or answers that there is none.
func (i *Identity) signedIn(w http.ResponseWriter, r *http.Request) *Session {
	s := FromContext(r.Context())
	if s == nil {
		i.fail(w, r, &pasban.Error{Kind: pasban.Unauthenticated, Msg: "sign in to see this page"})
	}
	return s
}

// AccountView is the data of the account page.
type AccountView struct {
	Person   Person
	Name     string
	Sessions []*Session
	Passkeys int
}

func (i *Identity) accountPage(w http.ResponseWriter, r *http.Request) {
	s := i.signedIn(w, r)
	if s == nil {
		return
	}
	p, err := i.Lookup(r.Context(), s.Person.ID)
	if err != nil {
		i.fail(w, r, err)
		return
	}
	list, err := i.Sessions(r.Context(), p.ID)
	if err != nil {
		i.fail(w, r, err)
		return
	}
	for _, other := range list {
		other.Current = string(other.hash) == string(s.hash)
	}
	i.render(w, r, page.View{Name: "account", Data: AccountView{Person: p, Name: p.Name(page.Lang(r)), Sessions: list, Passkeys: p.Passkeys}})
}

func (i *Identity) signout(w http.ResponseWriter, r *http.Request) {
	i.leave(w, r, i.SignOut)
}

func (i *Identity) signoutEverywhere(w http.ResponseWriter, r *http.Request) {
	i.leave(w, r, i.SignOutEverywhere)
}

// leave ends sessions and the browser's cookie, and goes to the front page.
func (i *Identity) leave(w http.ResponseWriter, r *http.Request, end func(*http.Request, *Session) error) {
	if s := FromContext(r.Context()); s != nil {
		if err := end(r, s); err != nil {
			i.fail(w, r, err)
			return
		}
	}
	setCookie(w, page.SessionCookie, "")
	page.SetHeaders(w.Header(), r.TLS != nil, "")
	w.Header().Set("Clear-Site-Data", `"cache", "storage"`)
	http.Redirect(w, r, "/"+page.Lang(r)+"/", http.StatusSeeOther)
}
