// Package landregistry is an existing land-record application, as a ministry's
// contractor would have written it years ago: search by district, mouza and
// khasra, a page per owner and per plot, a JSON API, and a form for mutations
// (transfers). It is the service that the demo and the tests put behind a
// guard, and it knows nothing of one: it imports nothing of the project around
// it, has no sign-in, keeps no audit trail, and shows database errors to
// everyone.
//
// # It is unsafe on purpose
//
// Two holes are left in, so that attacks on it are real ones:
//
//   - SQL injection: [App.search] pastes district, mouza and khasra of
//     GET /records/search into its statement (marked HOLE 1).
//   - Stored XSS: the note of a mutation is shown as it was typed, by the raw
//     template function that [New] registers (marked HOLE 2).
//
// Never run it where anyone but you can reach it. Everything else it does with
// placeholders and escaped templates, so these two are the only known ones.
//
// Use: [New] opens the database (SQLite, or PostgreSQL for a postgres:// DSN),
// creates its tables if they are missing and returns an [App], which is an
// http.Handler; [App.Seed] fills it.
package landregistry

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
	_ "modernc.org/sqlite"             // driver "sqlite"
)

//go:embed templates static schema.sql
var files embed.FS

// Owner is a person in the register of owners.
type Owner struct {
	CNIC     string `json:"cnic"` // 12345-1234567-1
	Name     string `json:"name"`
	NameUr   string `json:"name_ur"`
	Father   string `json:"father"`
	FatherUr string `json:"father_ur"`
	Address  string `json:"address"`
	Mobile   string `json:"mobile"`
}

// Plot is a parcel of land. Khasra is the number of the field in its mouza
// (revenue estate), such as 123/4; in addresses the stroke is written as a
// hyphen. 20 marla are a kanal.
type Plot struct {
	District string `json:"district"`
	Mouza    string `json:"mouza"`
	Khasra   string `json:"khasra"`
	Kanal    int    `json:"kanal"`
	Marla    int    `json:"marla"`
	Kind     string `json:"kind"` // chahi, barani, nehri, ghair mumkin …
}

// Path is the plot's part of an address: district/mouza/khasra.
func (p Plot) Path() string {
	return p.District + "/" + p.Mouza + "/" + strings.ReplaceAll(p.Khasra, "/", "-")
}

// Holding says that a person owns a share of a plot, such as 1/2.
type Holding struct {
	Plot
	CNIC  string `json:"cnic"`
	Share string `json:"share"`
}

// Mutation is the transfer of a holding from one person to another, entered
// first and attested later.
type Mutation struct {
	ID       int64
	Plot     Plot
	From, To string // CNICs
	Kind     string // sale, gift, inheritance
	Note     string // as typed
	Status   string // entered, attested
	Entered  string // date and time, as text
}

// Options say which database the application uses.
type Options struct {
	// DSN is the path of an SQLite file, or a postgres:// address.
	DSN string
}

// App is the application. It is safe for use by several goroutines.
type App struct {
	db       *sql.DB
	postgres bool
	pages    *template.Template
	mux      *http.ServeMux
}

// New opens the database, creates the tables that are missing, and returns the
// application. The caller closes it.
func New(ctx context.Context, o Options) (*App, error) {
	driver, dsn := "sqlite", "file:"+(&url.URL{Path: o.DSN}).EscapedPath()+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)"
	postgres := strings.HasPrefix(o.DSN, "postgres://") || strings.HasPrefix(o.DSN, "postgresql://")
	if postgres {
		driver, dsn = "pgx", o.DSN
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, fmt.Errorf("open the land registry's database: %w", err)
	}
	a := &App{db: db, postgres: postgres, mux: http.NewServeMux()}
	if err := a.createTables(ctx); err != nil {
		db.Close()
		return nil, err
	}
	a.pages, err = template.New("").Funcs(template.FuncMap{
		// HOLE 2 (on purpose): the note of a mutation goes into the page as it
		// was typed. "The clerks want to use bold type", says the old ticket.
		"raw": func(s string) template.HTML { return template.HTML(s) },
	}).ParseFS(files, "templates/*.html")
	if err != nil {
		db.Close()
		return nil, err
	}
	a.routes()
	return a, nil
}

// Close closes the database.
func (a *App) Close() error { return a.db.Close() }

// ServeHTTP answers every request; nobody is asked who they are.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

func (a *App) routes() {
	a.mux.HandleFunc("GET /{$}", a.home)
	a.mux.HandleFunc("GET /records/search", a.search)
	a.mux.HandleFunc("GET /records/{cnic}", a.record)
	a.mux.HandleFunc("GET /plots/{district}/{mouza}/{khasra}", a.plot)
	a.mux.HandleFunc("GET /api/records/{cnic}", a.apiRecord)
	a.mux.HandleFunc("GET /api/plots/{district}/{mouza}/{khasra}", a.apiPlot)
	a.mux.HandleFunc("GET /mutations", a.mutations)
	a.mux.HandleFunc("POST /mutations", a.enterMutation)
	a.mux.HandleFunc("GET /mutations/new", a.mutationForm)
	a.mux.HandleFunc("GET /mutations/{id}", a.mutation)
	a.mux.HandleFunc("POST /mutations/{id}/attest", a.attest)
	static, err := fs.Sub(files, "static")
	if err != nil {
		panic(err) // "static" is embedded above
	}
	a.mux.Handle("GET /static/", http.StripPrefix("/static/", http.FileServerFS(static)))
}

func (a *App) createTables(ctx context.Context) error {
	schema, err := files.ReadFile("schema.sql")
	if err != nil {
		return err
	}
	serial := "INTEGER PRIMARY KEY AUTOINCREMENT"
	if a.postgres {
		serial = "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"
	}
	for statement := range strings.SplitSeq(strings.ReplaceAll(string(schema), "SERIAL_KEY", serial), ";") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := a.db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("create the land registry's tables: %w", err)
		}
	}
	return nil
}

// q writes the placeholders of a statement as the database wants them.
func (a *App) q(statement string) string {
	if !a.postgres {
		return statement
	}
	var b strings.Builder
	n := 0
	for _, r := range statement {
		if r == '?' {
			n++
			b.WriteString("$" + strconv.Itoa(n))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Seed adds owners, and holdings with their plots, in one transaction. Owners
// and plots that are there already are left as they are.
func (a *App) Seed(ctx context.Context, owners []Owner, holdings []Holding) error {
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("seed the land registry: %w", err)
	}
	defer tx.Rollback()
	for _, o := range owners {
		_, err := tx.ExecContext(ctx, a.q(`INSERT INTO owners (cnic, name, name_ur, father, father_ur, address, mobile)
			VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (cnic) DO NOTHING`),
			o.CNIC, o.Name, o.NameUr, o.Father, o.FatherUr, o.Address, o.Mobile)
		if err != nil {
			return fmt.Errorf("seed owner %s: %w", o.CNIC, err)
		}
	}
	for _, h := range holdings {
		_, err := tx.ExecContext(ctx, a.q(`INSERT INTO plots (district, mouza, khasra, kanal, marla, kind)
			VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (district, mouza, khasra) DO NOTHING`),
			h.District, h.Mouza, h.Khasra, h.Kanal, h.Marla, h.Kind)
		if err != nil {
			return fmt.Errorf("seed plot %s: %w", h.Path(), err)
		}
		_, err = tx.ExecContext(ctx, a.q(`INSERT INTO holdings (plot_id, cnic, share)
			SELECT id, ?, ? FROM plots WHERE district = ? AND mouza = ? AND khasra = ?
			ON CONFLICT (plot_id, cnic) DO NOTHING`),
			h.CNIC, h.Share, h.District, h.Mouza, h.Khasra)
		if err != nil {
			return fmt.Errorf("seed holding of %s: %w", h.CNIC, err)
		}
	}
	return tx.Commit()
}
