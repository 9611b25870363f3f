package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode"

	"pasban"
	"pasban/internal/page"
	"pasban/internal/store"
)

// Session is a signed-in browser.
type Session struct {
	Person  Person
	Started time.Time
	Seen    time.Time // last request, to within a minute
	AuthAt  time.Time // when the passkey was used; zero if none was
	Client  string    // browser and system, as they call themselves
	IP      string
	Work    Work
	Current bool // in a listing: the session that asks

	hash []byte
}

// Work is what an officer said they are working on.
type Work struct {
	Purpose string    `json:"purpose"`
	Case    string    `json:"case"`
	Until   time.Time `json:"until"`
	// HideUntil is when citizens are told of the looks; zero: at once.
	HideUntil time.Time `json:"hide_until,omitzero"`
}

// Actor is the person as decisions and facts see them.
func (s *Session) Actor() pasban.Actor { return s.Person.Actor(s.AuthAt) }

// Purpose is the purpose and case that hold now; zero if none was chosen or
// the time for it is over.
func (s *Session) Purpose() pasban.Purpose {
	if s.Work.Purpose == "" || !time.Now().Before(s.Work.Until) {
		return pasban.Purpose{}
	}
	return pasban.Purpose{Code: s.Work.Purpose, Case: s.Work.Case, HideUntil: s.Work.HideUntil}
}

// signIn is the sealed part of a session.
type signIn struct {
	Person  string    `json:"person"`
	Started int64     `json:"started"` // Unix milliseconds
	AuthAt  time.Time `json:"auth_at,omitzero"`
	Client  string    `json:"client,omitempty"`
	IP      string    `json:"ip,omitempty"`
}

type sessionKey struct{}

// FromContext returns the session that Middleware found, nil for a visitor who
// is not signed in.
func FromContext(ctx context.Context) *Session {
	s, _ := ctx.Value(sessionKey{}).(*Session)
	return s
}

// Middleware puts the request's session into its context. A cookie that is
// unknown, over, or of a disabled person counts as none. If the store cannot
// be asked the request ends here: whoever might be signed in is not taken for
// a stranger.
func (i *Identity) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := i.session(r)
		if err != nil {
			i.fail(w, r, err)
			return
		}
		if s != nil {
			r = r.WithContext(context.WithValue(r.Context(), sessionKey{}, s))
		}
		next.ServeHTTP(w, r)
	})
}

// cookieHash is the hash of the session token that a request bears, nil if none.
func cookieHash(r *http.Request) []byte {
	c, err := r.Cookie(page.SessionCookie)
	if err != nil {
		return nil
	}
	hash, _ := tokenHash(c.Value)
	return hash
}

// session returns the request's session, nil if it has none that holds.
func (i *Identity) session(r *http.Request) (*Session, error) {
	hash := cookieHash(r)
	if hash == nil {
		return nil, nil
	}
	ctx := r.Context()
	rows, err := i.sessions(ctx, `s.hash = ?`, hash)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, nil
	}
	s := rows[0]
	if now := time.Now(); now.Sub(s.Seen) >= min(time.Minute, i.o.Idle/4) {
		err := i.st.Write(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE identity_session SET seen = ? WHERE hash = ? AND seen < ?`, now.UnixMilli(), hash, now.UnixMilli())
			return err
		})
		if err != nil { // the session ends a little early then; what it asks for may still be answered
			slog.WarnContext(ctx, "identity: last use of a session not kept", "person", s.Person.ID, "err", err)
		}
	}
	return s, nil
}

// sessions reads the sessions that match and hold now, newest first.
func (i *Identity) sessions(ctx context.Context, where string, args ...any) ([]*Session, error) {
	rows, err := i.st.Query(ctx, `SELECT `+personColumns+`, s.hash, s.seen, s.sealed, s.work FROM identity_session s
		JOIN identity_person p ON p.id = s.person WHERE `+where+` ORDER BY s.started DESC, s.hash LIMIT 100`, args...)
	if err != nil {
		return nil, fmt.Errorf("read sessions: %w", err)
	}
	var found []sessionRow
	for rows.Next() {
		var f sessionRow
		if err := rows.Scan(append(f.person.dest(), &f.hash, &f.seen, &f.sealed, &f.work)...); err != nil {
			return nil, errors.Join(fmt.Errorf("read sessions: %w", err), rows.Close())
		}
		found = append(found, f)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil { // closed before keys are asked for: they come from the same pool
		return nil, fmt.Errorf("read sessions: %w", err)
	}
	var out []*Session
	for _, f := range found {
		s, err := i.openSession(ctx, f)
		if err != nil {
			return nil, err
		}
		if s != nil {
			out = append(out, s)
		}
	}
	return out, nil
}

// sessionRow is a session as the database holds it.
type sessionRow struct {
	person             personRow
	hash, sealed, work []byte
	seen               int64
}

// openSession opens a row; nil is a session that does not hold: over, of a
// disabled or forgotten person, or not one that Pasban made.
func (i *Identity) openSession(ctx context.Context, row sessionRow) (*Session, error) {
	var in signIn
	p, err := i.person(ctx, row.person)
	if err == nil {
		err = i.open(ctx, "", rowSession, row.hash, row.sealed, &in)
	}
	s := &Session{Person: p, Started: time.UnixMilli(in.Started), Seen: time.UnixMilli(row.seen),
		AuthAt: in.AuthAt, Client: in.Client, IP: in.IP, hash: row.hash}
	if err == nil && row.work != nil {
		err = i.open(ctx, "", rowWork, row.hash, row.work, &s.Work)
	}
	if kind := pasban.KindOf(err); err != nil && (kind == pasban.NotFound || kind == pasban.Invalid) {
		slog.WarnContext(ctx, "identity: a session's row does not open", "person", row.person.id, "err", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if p.Disabled || in.Person != p.ID || now.Sub(s.Started) >= i.o.Life || now.Sub(s.Seen) >= i.o.Idle {
		return nil, nil
	}
	return s, nil
}

// StartSession signs the visitor in as a person without a passkey: the
// session's AuthAt stays zero. Only the demo's persona links may use it; it is
// recorded as such. The session that the browser came with ends.
func (i *Identity) StartSession(w http.ResponseWriter, r *http.Request, personID string) error {
	p, err := i.Lookup(r.Context(), personID)
	if err != nil {
		return err
	}
	return i.start(w, r, p, time.Time{}, map[string]string{"how": "persona"}, nil)
}

// start makes a session. step, if there is one, runs in the same transaction,
// before the session is there; its facts come before that of the sign-in.
func (i *Identity) start(w http.ResponseWriter, r *http.Request, p Person, authAt time.Time, more map[string]string, step func(tx *store.Tx) ([]pasban.Fact, error)) error {
	now, ctx := time.Now(), r.Context()
	token, hash := newToken()
	client := ClientOf(r)
	sealed, err := i.seal(ctx, "", rowSession, hash, signIn{Person: p.ID, Started: now.UnixMilli(), AuthAt: authAt, Client: client.UserAgent, IP: client.IP})
	if err != nil {
		return err
	}
	fact := i.signinFact("signin", p, client, more)
	_, err = i.o.Journal.Commit(ctx, func(tx *store.Tx) (facts []pasban.Fact, err error) {
		if step != nil {
			if facts, err = step(tx); err != nil {
				return nil, err
			}
		}
		if _, err := tx.Exec(`DELETE FROM identity_session WHERE started <= ? OR seen <= ?`,
			now.Add(-i.o.Life).UnixMilli(), now.Add(-i.o.Idle).UnixMilli()); err != nil {
			return nil, err
		}
		if old := cookieHash(r); old != nil {
			if _, err := tx.Exec(`DELETE FROM identity_session WHERE hash = ?`, old); err != nil {
				return nil, err
			}
		}
		res, err := tx.Exec(`INSERT INTO identity_session (hash, person, started, seen, sealed)
			SELECT ?, id, ?, ?, ? FROM identity_person WHERE id = ? AND disabled = 0`, hash, now.UnixMilli(), now.UnixMilli(), sealed, p.ID)
		if err := one(res, err, "the person is disabled", p.ID); err != nil {
			return nil, err
		}
		return append(facts, fact), nil
	})
	if err != nil {
		return err
	}
	setCookie(w, page.SessionCookie, token)
	return nil
}

// setCookie sets a cookie that only this host gets, over TLS, and no script
// sees; an empty value removes it. It ends with the browser.
func setCookie(w http.ResponseWriter, name, value string) {
	c := &http.Cookie{Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

var purposeForm = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}$`)

// SetWork keeps what the session's person is working on, for WorkLife from
// now: the purpose's code, the case number, and when citizens are told of it if
// not at once. An empty code and case end it.
func (i *Identity) SetWork(ctx context.Context, s *Session, p pasban.Purpose) error {
	caseNo := strings.TrimSpace(p.Case)
	work, sealed := Work{}, []byte(nil)
	if p.Code != "" || caseNo != "" {
		if !purposeForm.MatchString(p.Code) {
			return &pasban.Error{Kind: pasban.Invalid, Where: "purpose", Msg: "choose a purpose"}
		}
		unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
		if caseNo == "" || len(caseNo) > 64 || strings.ContainsFunc(caseNo, unprintable) {
			return &pasban.Error{Kind: pasban.Invalid, Where: "case", Msg: "give the case number", Hint: "at most 64 printable characters"}
		}
		now := time.Now()
		if !p.HideUntil.IsZero() && !p.HideUntil.After(now) {
			return &pasban.Error{Kind: pasban.Invalid, Where: "hide", Msg: "give a date that is still to come"}
		}
		work = Work{Purpose: p.Code, Case: caseNo, Until: now.Add(i.o.WorkLife), HideUntil: p.HideUntil}
		var err error
		if sealed, err = i.seal(ctx, "", rowWork, s.hash, work); err != nil {
			return err
		}
	}
	err := i.st.Write(ctx, func(tx *store.Tx) error {
		res, err := tx.Exec(`UPDATE identity_session SET work = ? WHERE hash = ?`, sealed, s.hash)
		return one(res, err, "the session has ended", "")
	})
	if err != nil {
		return err
	}
	s.Work = work
	return nil
}

// Sessions lists where a person is signed in, newest first, at most a hundred.
func (i *Identity) Sessions(ctx context.Context, personID string) ([]*Session, error) {
	return i.sessions(ctx, `s.person = ?`, personID)
}

// SignOut ends one session and records it.
func (i *Identity) SignOut(r *http.Request, s *Session) error {
	return i.endSessions(r, s, `hash = ?`, s.hash)
}

// SignOutEverywhere ends every session of the person whose session s is.
func (i *Identity) SignOutEverywhere(r *http.Request, s *Session) error {
	return i.endSessions(r, s, `person = ?`, s.Person.ID)
}

func (i *Identity) endSessions(r *http.Request, s *Session, where string, arg any) error {
	fact := i.signinFact("signout", s.Person, ClientOf(r), nil)
	_, err := i.o.Journal.Commit(r.Context(), func(tx *store.Tx) ([]pasban.Fact, error) {
		res, err := tx.Exec(`DELETE FROM identity_session WHERE `+where, arg)
		if err := one(res, err, "the session has ended", ""); err != nil {
			return nil, err
		}
		return []pasban.Fact{fact}, nil
	})
	if e, ok := errors.AsType[*pasban.Error](err); ok && e.Kind == pasban.Conflict {
		return nil // somebody else ended it
	}
	return err
}

// signinFact is the fact of a sign-in or sign-out of a person who is known.
func (i *Identity) signinFact(action string, p Person, client pasban.Restricted, more map[string]string) pasban.Fact {
	f := pasban.NewFact(pasban.KindSignin, i.o.Agency, p.Actor(time.Time{}), time.Now())
	f.Subject = p.about()
	f.Body.Action, f.Body.Service = action, "identity"
	client.Actor, client.More = p.ID, more
	f.Restricted = client
	return f
}
