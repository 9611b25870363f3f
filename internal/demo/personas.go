package demo

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"pasban"
	"pasban/internal/durable"
)

// PersonaPath is where persona links lead: PersonaPath followed by a token.
const PersonaPath = "/pasban/persona/"

// personaLife is how long a link may be used.
const personaLife = 12 * time.Hour

// Door lets a person in without a passkey. Identity has one; only the demo's
// node ever hands it to Personas.
type Door interface {
	StartSession(w http.ResponseWriter, r *http.Request, personID string) error
}

// Link signs its visitor in as a synthetic person, once.
type Link struct {
	Person string      `json:"person"` // id of the person
	Role   pasban.Role `json:"role"`
	Name   string      `json:"name"`
	NameUr string      `json:"name_ur"`
	Number string      `json:"number"` // staff number, or CNIC of a citizen
	URL    string      `json:"url"`
}

// Personas gives out links that sign their visitor in as somebody of the
// synthetic population, each of them once. They live in the memory of one
// process: a restart makes the old ones useless. Only the hashes of their
// tokens are kept after Issue.
//
// It must never be mounted on a node with real people in it: it opens the door
// without a passkey.
type Personas struct {
	door Door
	base string // https://localhost:8443

	mu    sync.Mutex // covers what follows
	open  map[[sha256.Size]byte]ticket
	links []Link
}

type ticket struct {
	person string
	role   pasban.Role
	until  time.Time
}

// NewPersonas returns personas without any link. Base is the node's address as
// visitors type it.
func NewPersonas(door Door, base string) *Personas {
	return &Personas{door: door, base: base, open: map[[sha256.Size]byte]ticket{}}
}

// Issue makes one link for a person; its URL is filled in.
func (p *Personas) Issue(l Link) Link {
	token := rand.Text()
	l.URL = p.base + PersonaPath + token
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[sha256.Sum256([]byte(token))] = ticket{l.Person, l.Role, time.Now().Add(personaLife)}
	p.links = append(p.links, l)
	return l
}

// linksFile is the form of DIR/personas.json.
type linksFile struct {
	Schema   string `json:"schema"`          // pasban.personas.v1
	Error    string `json:"error,omitempty"` // why there are none
	Personas []Link `json:"personas"`
}

// WriteFile writes all links that were issued as JSON, readable by the owner
// alone, and forgets their tokens. If failed is not nil, it is written instead:
// the reader must not wait for links that will not come.
func (p *Personas) WriteFile(path string, failed error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	file := linksFile{Schema: "pasban.personas.v1", Personas: p.links}
	if failed != nil {
		file.Error, file.Personas = failed.Error(), []Link{}
	}
	data, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return err
	}
	p.links = nil
	return durable.WriteFile(path, data, 0o600)
}

// ServeHTTP signs the visitor in and sends them to where their work is. A link
// that is unknown, used or too old says so with 410 and signs nobody in.
func (p *Personas) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "open the link with GET", http.StatusMethodNotAllowed)
		return
	}
	hash := sha256.Sum256([]byte(r.URL.Path[min(len(PersonaPath), len(r.URL.Path)):]))
	p.mu.Lock()
	t, ok := p.open[hash]
	delete(p.open, hash)
	p.mu.Unlock()
	if !ok || time.Now().After(t.until) {
		http.Error(w, "this link has been used or is too old; the demo's terminal has others", http.StatusGone)
		return
	}
	if err := p.door.StartSession(w, r, t.person); err != nil {
		slog.ErrorContext(r.Context(), "persona link", "person", t.person, "err", err)
		http.Error(w, "could not sign in", http.StatusServiceUnavailable)
		return
	}
	http.Redirect(w, r, home(t.role), http.StatusSeeOther)
}

// home is where people of a role begin.
func home(role pasban.Role) string {
	return cmp.Or(map[pasban.Role]string{
		pasban.RoleCitizen: "/en/", pasban.RoleOfficer: "/desk", pasban.RoleSupervisor: "/desk",
	}[role], "/soc")
}
