// Package portal is the citizens' surface: the services they may apply for,
// their applications, and "Who looked at my data", where every look at their
// records stands with its proof.
//
// # Main types
//
// [Portal] answers /, /en/…, /ur/… and /ledger/receipt/{index}. What it needs
// of other rooms it names itself: [Journal], [Ledger], [Registry] and [Names].
//
// # The way of an entry
//
//	journal.BySubject → phrases (body → words) → card
//	                                              │ "Check this entry"
//	/ledger/receipt/{index} → verify.js: signature, inclusion, commitment
//	                                              │
//	                        verified body → the same words → card, written anew
//
// The server's words and the script's come from one table and two small
// implementations that a test keeps alike, so that the card after checking
// differs only if the page had shown something else than the ledger holds.
//
// An entry's receipt, as a page and as a PDF to carry, is written from the leaf
// after it was verified, too; paper.go.
//
// # Guarantees
//
// A citizen sees entries about themselves alone. A receipt is shown to the
// citizen concerned, to the actor who made the entry and to auditors; whoever
// else asks learns nothing, not even whether it exists. That an auditor opened
// an entry is itself recorded, before it is shown. Every page works without
// scripts, in English and Urdu.
//
// # What it must never do
//
// It opens no record itself: what a citizen applied for is opened by the
// registry, which accounts for it like any other look.
package portal

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/identity"
	"pasban/internal/journal"
	"pasban/internal/page"
	"pasban/internal/paper"
	"pasban/internal/registry"
)

//go:embed templates/*.html
var templates embed.FS

// Journal is what the portal reads and writes of the journal.
type Journal interface {
	BySubject(ctx context.Context, id pasban.SubjectID, before uint64, max int) ([]journal.Entry, error)
	ByIndex(ctx context.Context, index uint64) (journal.Entry, error)
	Record(ctx context.Context, facts ...pasban.Fact) ([]journal.Entry, error)
}

var _ Journal = (*journal.Journal)(nil)

// Ledger proves entries.
type Ledger interface {
	// Receipt proves e; it is Unavailable while e is not yet under a checkpoint.
	Receipt(ctx context.Context, e journal.Entry) (pasban.Receipt, error)
}

// Lists proves that lists are whole.
type Lists interface {
	// Statement proves the citizen's list, also an empty one; it is Unavailable
	// until an epoch covers it.
	Statement(ctx context.Context, who pasban.Subject) (pasban.Statement, error)
	// Epoch is the receipt of the last commitment to where all lists end.
	Epoch(ctx context.Context) (pasban.Receipt, error)
	// EpochAt is the receipt of an earlier one.
	EpochAt(ctx context.Context, epoch int64) (pasban.Receipt, error)
	// Grown are the labels of the lists that grew in an epoch, for everyone.
	Grown(ctx context.Context, epoch int64) ([]byte, error)
	// WatchKey finds the citizen's own among them.
	WatchKey(ctx context.Context, id pasban.SubjectID) (pasban.WatchKey, error)
}

// Names gives words to codes that configuration declares.
type Names interface {
	// Name is the name of a code in a language, or "" if it has none. kind is
	// "agency", "service", "purpose", "basis" or "field"; a field's code is
	// its service and its name with a dot between.
	Name(lang, kind, code string) string
}

// Visitor is who is signed in.
type Visitor struct {
	Actor pasban.Actor
	CNIC  pasban.CNIC       // of a citizen
	Name  map[string]string // by language, as the person is greeted
}

// session is the visitor of the identity's session.
func session(r *http.Request) (Visitor, bool) {
	s := identity.FromContext(r.Context())
	if s == nil {
		return Visitor{}, false
	}
	return Visitor{Actor: s.Actor(), CNIC: s.Person.Subject.CNIC, Name: map[string]string{"en": s.Person.Name("en"), "ur": s.Person.Name("ur")}}, true
}

// Options are the parts that the portal works with.
type Options struct {
	Pages   *page.Pages
	Agency  string // the agency's id, as facts carry it
	Journal Journal
	Ledger  Ledger
	Lists   Lists         // nil gives no statements
	VKey    string        // the ledger's verifier key, pinned in the page; required
	Size    func() uint64 // leaves under the latest checkpoint
	// Final says whether enough witnesses have cosigned a checkpoint, yes or no,
	// or "" if the ledger has none; likewise if it is nil.
	Final func(checkpoint []byte) string
	// Visitor says who is signed in; nil asks the identity's session.
	Visitor func(r *http.Request) (Visitor, bool)
	// Registry holds the declared services; nil offers none.
	Registry Registry
	// Names knows words that the declared services do not, such as those of
	// guarded sites; nil knows none.
	Names Names
	// Now is the clock of periods; nil is time.Now.
	Now func() time.Time
}

// Portal answers the citizens' pages.
type Portal struct {
	o        Options
	mux      *http.ServeMux
	verifier note.Verifier // of the ledger's key
	printer  func() (*paper.Printer, error)
}

// New makes the portal and hands its templates to pages.
func New(o Options) (*Portal, error) {
	if o.Pages == nil || o.Journal == nil || o.Ledger == nil || o.Size == nil {
		return nil, errors.New("portal: pages, journal, ledger and size are required")
	}
	if o.Visitor == nil {
		o.Visitor = session
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	sub, err := fs.Sub(templates, "templates")
	if err != nil {
		return nil, err
	}
	if err := o.Pages.Add(page.Portal, sub); err != nil {
		return nil, err
	}
	p := &Portal{o: o, mux: http.NewServeMux(), printer: sync.OnceValues(paper.NewPrinter)} // the fonts cost some megabytes
	if p.verifier, err = note.NewVerifier(o.VKey); err != nil {
		return nil, fmt.Errorf("portal: the ledger's key: %w", err)
	}
	p.mux.HandleFunc("/", p.missing)
	p.mux.HandleFunc("GET /{$}", p.start)
	p.mux.HandleFunc("GET /ledger/receipt/{index}", p.receipt)
	if o.Lists != nil {
		p.mux.HandleFunc("GET /ledger/statement", p.statement)
		p.mux.HandleFunc("GET /ledger/heads", p.heads)
		p.mux.HandleFunc("GET /ledger/watch/{epoch}", p.grown)
		p.mux.HandleFunc("GET /ledger/watch-key", p.watchKey)
	}
	for _, lang := range page.Langs() {
		at := "/" + lang
		p.mux.HandleFunc("GET "+at+"/{$}", p.home)
		p.mux.HandleFunc("GET "+at+"/accessibility", p.accessibility)
		p.mux.HandleFunc("GET "+at+"/my-data", p.citizen(p.myData))
		p.mux.HandleFunc("GET "+at+"/receipt/{index}", p.citizen(p.receiptPage))
		p.mux.HandleFunc("GET "+at+"/receipt/{index}/pdf", p.citizen(p.receiptPDF))
		p.mux.HandleFunc("GET "+at+"/report/{index}", p.citizen(p.reportForm))
		p.mux.HandleFunc("POST "+at+"/report/{index}", p.citizen(p.report))
		p.mux.HandleFunc(at+"/", p.missing)
		if o.Registry != nil {
			p.mux.HandleFunc("GET "+at+"/apply/{service}", p.citizen(p.form))
			p.mux.HandleFunc("POST "+at+"/apply/{service}", p.citizen(p.submit))
			p.mux.HandleFunc("GET "+at+"/applications", p.citizen(p.applications))
			p.mux.HandleFunc("GET "+at+"/applications/{service}/{id}", p.citizen(p.application))
		}
	}
	return p, nil
}

// Handler answers every path of the portal. Requests that change something
// from another origin are refused.
func (p *Portal) Handler() http.Handler { return p.o.Pages.SameOrigin(p.mux) }

// start sends a visitor to the home page of their language.
func (p *Portal) start(w http.ResponseWriter, r *http.Request) {
	page.SetHeaders(w.Header(), r.TLS != nil, "")
	w.Header().Set("Vary", "Accept-Language, Cookie")
	http.Redirect(w, r, "/"+page.Lang(r)+"/", http.StatusSeeOther)
}

func (p *Portal) missing(w http.ResponseWriter, r *http.Request) {
	p.o.Pages.Error(w, r, &pasban.Error{Kind: pasban.NotFound, Msg: "there is no such page"})
}

// citizen lets signed-in citizens through; others are sent to sign in, or told
// that the page is not for them.
func (p *Portal) citizen(next func(http.ResponseWriter, *http.Request, Visitor)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, ok := p.o.Visitor(r)
		switch {
		case !ok:
			p.o.Pages.Error(w, r, &pasban.Error{Kind: pasban.Unauthenticated, Msg: "sign in to see this page"})
		case v.Actor.Subject == "":
			p.o.Pages.Error(w, r, &pasban.Error{Kind: pasban.Forbidden, Msg: "this page is for citizens", Hint: "sign out, then sign in as the citizen"})
		default:
			next(w, r, v)
		}
	}
}

// render shows one of the portal's templates.
func (p *Portal) render(w http.ResponseWriter, r *http.Request, status int, v *Visitor, view page.View) {
	lang := page.Lang(r)
	view.Surface = page.Portal
	if v != nil {
		view.User = v.Name[lang]
		if view.User == "" {
			view.User = v.Name["en"]
		}
	}
	p.o.Pages.Render(w, r, status, view)
}

// say is a message of the portal in the request's language.
func (p *Portal) say(r *http.Request, key string, args ...any) string {
	return p.o.Pages.T(page.Lang(r), "portal."+key, args...)
}

// back is a link to a page of the portal in the visitor's language.
func (p *Portal) back(r *http.Request, key, path string) *page.Link {
	return &page.Link{Text: p.say(r, key), Href: "/" + page.Lang(r) + path}
}

// accessibility says what can be relied on, and whom to tell of a barrier.
func (p *Portal) accessibility(w http.ResponseWriter, r *http.Request) {
	var who *Visitor
	if v, ok := p.o.Visitor(r); ok {
		who = &v
	}
	p.render(w, r, http.StatusOK, who, page.View{Name: "accessibility", Title: p.say(r, "accessibility.title"), Back: p.back(r, "back.home", "/")})
}

// HomeView is the data of the home page.
type HomeView struct {
	Services []*registry.Service
	SignedIn bool
}

func (p *Portal) home(w http.ResponseWriter, r *http.Request) {
	data := HomeView{Services: p.offered()}
	var who *Visitor
	if v, ok := p.o.Visitor(r); ok {
		who, data.SignedIn = &v, true
	}
	p.render(w, r, http.StatusOK, who, page.View{Name: "home", Title: p.say(r, "home.title"), Data: data})
}
