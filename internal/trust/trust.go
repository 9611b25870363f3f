// Package trust is the public's surface: whether the ledger is whole and up to
// date, the key that signs it, and whom to tell of a security problem.
//
// [Trust] answers /trust, /.well-known/pasban.json and
// /.well-known/security.txt. What it shows comes from one call, [Options].Status,
// which must answer from memory: the page has to work when the rest does not.
//
// # Guarantees
//
// The page runs no script and asks for no session. A problem is never shown
// as health: when entries wait for a checkpoint, or the ledger tells of a
// problem, the first sentence says so.
//
// # What it must never do
//
// It reads no record and no journal, and shows the public only that a part
// fails, not why.
package trust

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"pasban"
	"pasban/internal/page"
)

//go:embed templates/*.html
var templates embed.FS

// Status is what the ledger says of itself.
type Status struct {
	Size      uint64    // leaves under the latest checkpoint
	Published time.Time // when that checkpoint was signed; zero if there is none
	// Waiting is the age of the oldest entry that no checkpoint covers yet; zero
	// if there is none. An idle log signs nothing anew and is not stale.
	Waiting    time.Duration
	Checkpoint string    // the signed checkpoint itself (C2SP tlog-checkpoint); may be ""
	Audited    time.Time // when every tile was last recomputed; zero if never
	Problem    error     // why guarded services do not answer; nil if they do
	Alarm      error     // what the last audit found; nil if nothing

	Hidden   int64     // entries that citizens are told of at a later date
	Overdue  int64     // those of them that should have been disclosed by now
	NextOpen time.Time // when the next one is; zero if there is none

	Need        int // of Witnesses, for a checkpoint to be final; 0 if there are none
	Witnesses   []Witness
	Final       uint64    // leaves under the newest final checkpoint
	FinalAt     time.Time // when it became final; zero if there is none
	Unwitnessed error     // why the newest have not been final for long; nil otherwise
}

// Witness is one who cosigns the ledger.
type Witness struct {
	Name     string
	Size     uint64    // leaves that it has cosigned last
	Cosigned time.Time // when; zero if not since the start
	OK       bool      // it cosigned when it was asked last
}

// Watch is this node as a witness of others.
type Watch struct {
	Key  string   // verifier key (C2SP tlog-cosignature)
	Logs []string // origins of the ledgers that it watches
}

// Attack is a service that is under attack mode now.
type Attack struct {
	Service      map[string]string // its name, by language
	Reason       string            // a message of pass.reason
	Since, Until time.Time
}

// Options say whose page it is.
type Options struct {
	Pages  *page.Pages
	Agency string            // id
	Name   map[string]string // by language
	Origin string            // of the ledger
	VKey   string            // the ledger's verifier key
	Labels string            // public key of the citizens' labels, base64url; "" without lists
	Status func() Status
	// Attacks are the services under attack mode; nil says that there are none.
	Attacks func() []Attack
	// Cosigners are the verifier keys of the witnesses of the ledger, Need how many
	// of them make a checkpoint final.
	Cosigners []string
	Need      int
	// Witness is this node as a witness of others; nil if it is none.
	Witness *Watch
	Contact []string // URIs for security.txt, e.g. mailto:security@agency.example
	// Stale is how long an entry may wait for a checkpoint before the page says
	// so; zero is a minute.
	Stale time.Duration
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Trust answers the public's pages.
type Trust struct {
	o   Options
	mux *http.ServeMux
}

// New makes the trust page and hands its template to pages.
func New(o Options) (*Trust, error) {
	if o.Pages == nil || o.Status == nil || o.VKey == "" {
		return nil, errors.New("trust: pages, status and the verifier key are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Stale == 0 {
		o.Stale = time.Minute
	}
	sub, err := fs.Sub(templates, "templates")
	if err != nil {
		return nil, err
	}
	if err := o.Pages.Add(page.Trust, sub); err != nil {
		return nil, err
	}
	t := &Trust{o: o, mux: http.NewServeMux()}
	t.mux.HandleFunc("GET /trust", t.page)
	t.mux.HandleFunc("GET /.well-known/pasban.json", t.wellKnown)
	t.mux.HandleFunc("GET /.well-known/security.txt", t.securityTxt)
	t.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		o.Pages.Error(w, r, &pasban.Error{Kind: pasban.NotFound, Msg: "there is no such page"})
	})
	return t, nil
}

// Handler answers the three addresses; anything else is not found.
func (t *Trust) Handler() http.Handler { return t.mux }

// Health is how the page sums a status up.
type Health string

const (
	Whole       Health = "whole"       // no entry waits for long, nothing is wrong
	Unwitnessed Health = "unwitnessed" // the witnesses have not confirmed the newest entries for long
	Stale       Health = "stale"       // entries wait too long for a checkpoint, or there is none
	Closed      Health = "closed"      // guarded services answer 503
	Late        Health = "late"        // what was hidden until a date was not disclosed at it
	Broken      Health = "broken"      // the audit found the ledger changed
)

// health sums a status up, the worst first.
func (t *Trust) health(s Status) Health {
	switch {
	case s.Alarm != nil:
		return Broken
	case s.Overdue > 0:
		return Late
	case s.Problem != nil:
		return Closed
	case s.Published.IsZero() || s.Waiting > t.o.Stale:
		return Stale
	case s.Unwitnessed != nil:
		return Unwitnessed
	}
	return Whole
}

// View is the data of the page.
type View struct {
	Health       Health
	Size         uint64
	Published    time.Time
	HasPublished bool
	Audited      time.Time
	HasAudited   bool
	Checkpoint   string
	Origin       string
	VKey         string
	Agency       string // id
	Attacks      []AttackView

	Hidden, Overdue int64
	NextOpen        time.Time
	HasNextOpen     bool

	Need      int
	Witnesses []Witness
	Final     uint64
	FinalAt   time.Time
	Watches   []string // origins of the ledgers that this node watches
	WatchKey  string
}

// AttackView is a service under attack mode, in the visitor's language.
type AttackView struct {
	Service, Reason string
	Since, Until    time.Time
}

func (t *Trust) attacks(lang string) (out []AttackView) {
	if t.o.Attacks == nil {
		return nil
	}
	for _, a := range t.o.Attacks() {
		out = append(out, AttackView{Service: a.Service[lang], Reason: t.o.Pages.T(lang, "pass.reason."+a.Reason), Since: a.Since, Until: a.Until})
	}
	return out
}

// pageAge is how long caches may keep the page: it is about seconds.
const pageAge = 5 * time.Second

func (t *Trust) page(w http.ResponseWriter, r *http.Request) {
	s := t.o.Status()
	var watch Watch
	if t.o.Witness != nil {
		watch = *t.o.Witness
	}
	t.o.Pages.Render(w, r, http.StatusOK, page.View{
		Surface: page.Trust, Name: "trust", Title: t.o.Pages.T(page.Lang(r), "trust.title"), Public: pageAge,
		Data: View{
			Health: t.health(s), Size: s.Size, Published: s.Published, HasPublished: !s.Published.IsZero(),
			Audited: s.Audited, HasAudited: !s.Audited.IsZero(),
			Checkpoint: s.Checkpoint, Origin: t.o.Origin, VKey: t.o.VKey, Agency: t.o.Agency,
			Attacks: t.attacks(page.Lang(r)),
			Hidden:  s.Hidden, Overdue: s.Overdue, NextOpen: s.NextOpen, HasNextOpen: !s.NextOpen.IsZero() && s.Overdue == 0,
			Need: s.Need, Witnesses: s.Witnesses, Final: s.Final, FinalAt: s.FinalAt,
			Watches: watch.Logs, WatchKey: watch.Key,
		},
	})
}

// AgencySchema names the version of /.well-known/pasban.json.
const AgencySchema = "pasban.agency.v1"

// Agency is the document at /.well-known/pasban.json.
type Agency struct {
	Schema string `json:"schema"` // AgencySchema
	Agency struct {
		ID   string            `json:"id"`
		Name map[string]string `json:"name"`
	} `json:"agency"`
	Ledger struct {
		Origin string `json:"origin"`
		VKey   string `json:"vkey"` // signed-note verifier key
		Path   string `json:"path"` // where the tlog-tiles are
		// Labels is the public key of the citizens' labels (RFC 9381,
		// ECVRF-EDWARDS25519-SHA512-TAI), base64url without padding; every epoch
		// names it. "" where no lists are committed.
		Labels string `json:"labels,omitempty"`
	} `json:"ledger"`
	Witnesses []string       `json:"witnesses"`         // verifier keys of the ledger's witnesses, if any
	Need      int            `json:"need,omitempty"`    // so many of them make a checkpoint final
	Witness   *AgencyWitness `json:"witness,omitempty"` // this node as a witness of others
}

// AgencyWitness is a node as a witness of others (C2SP tlog-witness).
type AgencyWitness struct {
	VKey string   `json:"vkey"` // verifier key of its cosignatures
	Path string   `json:"path"` // what add-checkpoint is appended to
	Logs []string `json:"logs"` // origins of the ledgers that it watches
}

func (t *Trust) wellKnown(w http.ResponseWriter, r *http.Request) {
	a := Agency{Schema: AgencySchema, Witnesses: t.o.Cosigners, Need: t.o.Need}
	if a.Witnesses == nil {
		a.Witnesses = []string{}
	}
	if v := t.o.Witness; v != nil {
		a.Witness = &AgencyWitness{VKey: v.Key, Path: "/ledger/", Logs: v.Logs}
	}
	a.Agency.ID, a.Agency.Name = t.o.Agency, t.o.Name
	a.Ledger.Origin, a.Ledger.VKey, a.Ledger.Path = t.o.Origin, t.o.VKey, "/ledger/"
	a.Ledger.Labels = t.o.Labels
	w.Header().Set("Access-Control-Allow-Origin", "*")
	t.o.Pages.JSON(w, r, http.StatusOK, "", a)
}

// securityTxt answers RFC 9116. It expires 90 days ahead of now: a server that
// still answers still means it.
func (t *Trust) securityTxt(w http.ResponseWriter, r *http.Request) {
	var b strings.Builder
	contacts := t.o.Contact
	if len(contacts) == 0 {
		contacts = []string{"https://" + r.Host + "/trust"}
	}
	for _, c := range contacts {
		fmt.Fprintf(&b, "Contact: %s\n", strings.NewReplacer("\r", "", "\n", "").Replace(c))
	}
	fmt.Fprintf(&b, "Expires: %s\nPreferred-Languages: en, ur\n", t.o.Now().UTC().AddDate(0, 0, 90).Truncate(24*time.Hour).Format(time.RFC3339))
	page.SetHeaders(w.Header(), r.TLS != nil, "")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if _, err := w.Write([]byte(b.String())); err != nil {
		return // the visitor left
	}
}
