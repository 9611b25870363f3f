package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// GuardedTable is a table of an existing service for the sentinel to watch. Its
// baseline is taken with `pasban sentinel baseline`; until then it is not guarded.
type GuardedTable struct {
	// Name is what alerts call the table: lower-case letters, digits, - and _.
	Name string `yaml:"name" required:"true"`
	// Database is the address of the PostgreSQL database, postgres://user@host/db.
	// Secret: file:PATH and ${ENV} are allowed.
	Database Secret `yaml:"database" required:"true"`
	// Table is schema.table.
	Table string `yaml:"table" required:"true"`
	// Key are the columns of the primary key.
	Key []string `yaml:"key" required:"true"`
	// Columns are the other columns that are watched.
	Columns []string `yaml:"columns" required:"true"`
	// Writers are those whose changes are authorised. Without any, every change
	// is an alert.
	Writers []Writer `yaml:"writers"`
	// Audit is how often the whole table is compared with the ledger.
	Audit time.Duration `yaml:"audit" default:"1h"`
}

// Writer is one whose changes are authorised: everything that is said here must
// hold of the session that makes them.
type Writer struct {
	// Role is the database role that logged in.
	Role string `yaml:"role" required:"true"`
	// Hours is the time of day in Pakistan (UTC+5) in which it may, such as
	// 08:00-17:00. Without it: always.
	Hours string `yaml:"hours"`
	// From are the addresses or CIDRs that it may come from; local is the
	// server's own socket. Without it: anywhere.
	From []string `yaml:"from"`
	// Marker is what the session must have set as pasban.marker. Secret:
	// file:PATH and ${ENV} are allowed.
	Marker Secret `yaml:"marker"`
}

// Span returns the hours as minutes of the day, the first and the one after the
// last; ok is false if they are not such. A span may go over midnight.
func (w Writer) Span() (from, to int, ok bool) {
	a, b, found := strings.Cut(w.Hours, "-")
	first, err := time.Parse("15:04", a)
	last, err2 := time.Parse("15:04", b)
	if !found || err != nil || err2 != nil {
		return 0, 0, false
	}
	return first.Hour()*60 + first.Minute(), last.Hour()*60 + last.Minute(), true
}

// Networks returns the networks of From, without local.
func (w Writer) Networks() []netip.Prefix {
	var out []netip.Prefix
	for _, text := range w.From {
		if p, err := network(text); err == nil && text != "local" {
			out = append(out, p)
		}
	}
	return out
}

// sqlName is a name of PostgreSQL, which has at most 63 bytes.
var sqlName = regexp.MustCompile(`^[^\x00-\x1f"]{1,63}$`)

// guardName is short enough for names of slots and publications.
var guardName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)

func (k *checker) guards() {
	names := map[string]bool{}
	for i := range k.c.Guard {
		g := &k.c.Guard[i]
		path := fmt.Sprintf("guard[%d]", i)
		if g.Name != "" && !guardName.MatchString(g.Name) {
			k.bad(path+".name", "lower-case letters, digits, - and _, at most 32", "not a name for a table: %q", g.Name)
		}
		if slot := strings.ReplaceAll(g.Name, "-", "_"); names[slot] && g.Name != "" {
			k.bad(path+".name", "", "another table has this name")
		} else {
			names[slot] = true
		}
		if u, err := url.Parse(g.Database.Value()); g.Database != "" && (err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql") {
			k.bad(path+".database", "postgres://user@host/database", "not the address of a PostgreSQL database")
		}
		schema, table, found := strings.Cut(g.Table, ".")
		if g.Table != "" && (!found || !sqlName.MatchString(schema) || !sqlName.MatchString(table) || strings.Contains(table, ".")) {
			k.bad(path+".table", "such as public.parcel_owner", "not schema.table: %q", g.Table)
		}
		k.guardColumns(path, g)
		if g.Audit < 10*time.Second || g.Audit > 7*24*time.Hour {
			k.bad(path+".audit", "10s to 168h", "%s is out of range", g.Audit)
		}
		for n := range g.Writers {
			k.writer(fmt.Sprintf("%s.writers[%d]", path, n), &g.Writers[n])
		}
	}
}

func (k *checker) guardColumns(path string, g *GuardedTable) {
	if k.doc.Has(path+".key") && len(g.Key) == 0 {
		k.bad(path+".key", "the columns of the primary key", "want at least one column")
	}
	var seen []string
	for key, list := range map[string][]string{"key": g.Key, "columns": g.Columns} {
		for i, c := range list {
			field := fmt.Sprintf("%s.%s[%d]", path, key, i)
			switch {
			case !sqlName.MatchString(c):
				k.bad(field, "", "not the name of a column: %q", c)
			case slices.Contains(seen, c):
				k.bad(field, "", "column %q is listed twice", c)
			}
			seen = append(seen, c)
		}
	}
}

func (k *checker) writer(path string, w *Writer) {
	if w.Role != "" && !sqlName.MatchString(w.Role) {
		k.bad(path+".role", "", "not a role: %q", w.Role)
	}
	if _, _, ok := w.Span(); w.Hours != "" && !ok {
		k.bad(path+".hours", "such as 08:00-17:00", "not a span of the day: %q", w.Hours)
	}
	for i, text := range w.From {
		if _, err := network(text); err != nil && text != "local" {
			k.bad(fmt.Sprintf("%s.from[%d]", path, i), "such as 10.0.0.5, 10.0.0.0/24 or local", "not an address or CIDR: %q", text)
		}
	}
	if m := w.Marker.Value(); m != "" && len(m) < minToken {
		k.bad(path+".marker", "such as 32 random letters and digits", "a marker has at least %d characters", minToken)
	}
}
