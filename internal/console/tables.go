package console

import (
	"context"
	"net/http"
	"strings"
	"time"

	"pasban"
	"pasban/internal/page"
	"pasban/internal/sentinel"
)

// Tables is what the console shows and asks of the guard of tables.
type Tables interface {
	Status(ctx context.Context) ([]sentinel.Status, error)
	Differences(ctx context.Context, name string) ([]sentinel.Difference, error)
	Waiting(ctx context.Context) ([]sentinel.Request, error)
	Ask(ctx context.Context, actor pasban.Actor, r sentinel.Request) (sentinel.Request, error)
	Decide(ctx context.Context, actor pasban.Actor, id string, approve bool) error
}

var _ Tables = (*sentinel.Sentinel)(nil)

// TablesView is the data of the page about guarded tables.
type TablesView struct {
	Tables   []TableView
	Requests []RequestView
}

// TableView is one guarded table.
type TableView struct {
	sentinel.Status
	Good     bool
	Problems []Problem
	TakenAt  time.Time // the baseline
	AuditAge string
	SeenAge  string
	Rows     string
	Lag      string
	Diff     []DiffView
}

// Problem is what is wrong with a guarded table. Detail is in English, as the
// guard or the database said it.
type Problem struct{ Text, Detail string }

// DiffView is one row that differs, with CNICs shortened.
type DiffView struct {
	sentinel.Difference
	Age    string
	Fields string
	Was    string // "" if there was no row
	Is     string // "" if there is no row
}

// RequestView is a request that waits for a second person.
type RequestView struct {
	sentinel.Request
	Age    string
	May    bool // this visitor decides
	Number int
}

func (c *Console) tables(w http.ResponseWriter, r *http.Request, v Visitor) error {
	lang := page.Lang(r)
	list, err := c.o.Tables.Status(r.Context())
	if err != nil {
		return err
	}
	now := c.o.Now()
	age := func(text string) string {
		if at, err := time.Parse(time.RFC3339, text); err == nil {
			return c.ago(lang, now.Sub(at))
		}
		return ""
	}
	var view TablesView
	for _, s := range list {
		t := TableView{Status: s, Good: s.OK(), Problems: c.tableProblems(lang, s), AuditAge: age(s.Audit), SeenAge: age(s.Seen), Rows: page.Num(lang, int(s.Rows)), Lag: page.Num(lang, int(s.LagBytes))}
		t.TakenAt, _ = time.Parse(time.RFC3339, s.Taken) // shown only with a baseline, which has it
		diff, err := c.o.Tables.Differences(r.Context(), s.Table)
		if err != nil {
			return err
		}
		for _, d := range diff {
			t.Diff = append(t.Diff, c.diffView(lang, d, now))
		}
		view.Tables = append(view.Tables, t)
	}
	waiting, err := c.o.Tables.Waiting(r.Context())
	if err != nil {
		return err
	}
	for _, q := range waiting {
		view.Requests = append(view.Requests, RequestView{Request: q, Age: c.ago(lang, now.Sub(q.At)), Number: len(q.Rows),
			May: v.Actor.Role == pasban.RoleSupervisor && v.Actor.ID != q.By})
	}
	c.render(w, r, v, http.StatusOK, "tables", "nav.tables", view)
	return nil
}

// tableProblems says in words why a table is not as it should be; what they are
// is [sentinel.Status.Problems].
func (c *Console) tableProblems(lang string, s sentinel.Status) (out []Problem) {
	add := func(on bool, key, detail string, args ...any) {
		if on {
			out = append(out, Problem{c.say(lang, "tables.problem."+key, args...), detail})
		}
	}
	add(s.Baseline == "", "baseline", "pasban sentinel baseline")
	add(s.Problem != "", "guard", s.Problem)
	add(s.Baseline != "" && !s.Follows && s.Problem == "", "stream", "")
	add(s.Open > 0, "open", "", "Count", s.Open)
	add(s.Blind != "", "blind", s.Blind)
	add(s.Changed != "", "definition", "")
	return out
}

// diffView shows a difference without a CNIC: analysts work by row and column,
// and nobody opens a citizen's record on this page.
func (c *Console) diffView(lang string, d sentinel.Difference, now time.Time) DiffView {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return maskRow(*s)
	}
	d.Key = maskRow(d.Key)
	return DiffView{Difference: d, Age: c.ago(lang, now.Sub(d.Found)), Fields: strings.Join(d.Columns, ", "), Was: text(d.Before), Is: text(d.After)}
}

// maskRow hides the CNICs of a row, all but the last three digits: enough to see
// that one was exchanged for another.
func maskRow(s string) string {
	found, _ := pasban.FindCNICs([]byte(s), 1000)
	for _, n := range found {
		plain := strings.ReplaceAll(string(n), "-", "")
		short := "…" + plain[len(plain)-3:]
		s = strings.NewReplacer(string(n), short, plain, short).Replace(s)
	}
	return strings.ReplaceAll(s, "\t", " | ")
}

// askTables makes a request: an audit now, or one that a supervisor decides on.
func (c *Console) askTables(w http.ResponseWriter, r *http.Request, v Visitor) error {
	if err := r.ParseForm(); err != nil {
		return &pasban.Error{Kind: pasban.Invalid, Msg: "the form is not readable", Err: err}
	}
	q := sentinel.Request{Table: r.PostForm.Get("table"), Kind: r.PostForm.Get("kind"), Reason: strings.TrimSpace(r.PostForm.Get("reason")),
		Rows: r.PostForm["row"], Target: r.PostForm.Get("target")}
	if q.Kind == sentinel.KindBaseline || q.Kind == sentinel.KindAttest {
		return &pasban.Error{Kind: pasban.Invalid, Msg: "that is not asked for here"}
	}
	if len(q.Reason) > 2000 {
		return &pasban.Error{Kind: pasban.Invalid, Where: "reason", Msg: "a reason has at most 2000 bytes"}
	}
	if _, err := c.o.Tables.Ask(r.Context(), v.Actor, q); err != nil {
		return err
	}
	http.Redirect(w, r, "/soc/tables", http.StatusSeeOther)
	return nil
}

// decideTables is a supervisor's word on a request of somebody else.
func (c *Console) decideTables(w http.ResponseWriter, r *http.Request, v Visitor) error {
	approve, err := decision(w, r)
	if err == nil {
		err = c.o.Tables.Decide(r.Context(), v.Actor, r.PathValue("id"), approve)
	}
	return goOn(w, r, err, "/soc/tables")
}
