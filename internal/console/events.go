package console

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"pasban"
	"pasban/internal/detect"
	"pasban/internal/detect/ingest"
	"pasban/internal/ledger"
	"pasban/internal/page"
	"pasban/internal/soc"
	"pasban/internal/soc/hunt"
)

// EventRow is one event behind an alert.
type EventRow struct {
	Fact    string // its id, "" if it cannot be shown
	Seq     uint64
	Time    string
	What    string // kind, action and outcome
	Who     string
	About   string     // blinded citizen, page or part
	Damaged string     // why it cannot be shown
	Source  string     // of a received event: where it came from, and its place there
	Fields  []FieldRow // of a received event, as far as the alert keeps them
	Cut     int        // fields that are not kept for want of room
}

// eventRow tells of one event in a line. A row of the journal that is damaged
// is told of as such: it may be what the alert is about.
func (c *Console) eventRow(ctx context.Context, e soc.Event, kept pasban.Event) (EventRow, error) {
	row := EventRow{Seq: e.Seq}
	if place, ok := strings.CutPrefix(e.Fact, ingest.IDPrefix); ok { // it is not in the journal
		row.Source = place
		row.received(kept)
		return row, nil
	}
	if e.Fact == "" {
		row.Damaged = fmt.Sprintf("journal row %d", e.Seq)
		return row, nil
	}
	entry, err := c.o.Journal.ByID(ctx, e.Fact)
	if ctx.Err() != nil {
		return row, err
	}
	if err != nil {
		row.Damaged = err.Error()
		return row, nil
	}
	ev := detect.FromEntry(entry)
	text := func(names ...string) string {
		var parts []string
		for _, name := range names {
			if s, ok := ev[name].(string); ok {
				parts = append(parts, s)
			}
		}
		return strings.Join(parts, " ")
	}
	row.Fact, row.Time = e.Fact, stamp(detect.Time(ev))
	row.What = text("Kind", "Action", "Outcome")
	row.Who = text("Actor", "SrcIP")
	if id := text("Subject"); len(id) > 12 {
		row.About = "citizen " + id[:12] + "… "
	}
	row.About += text("Method", "Host", "Resource", "Path")
	return row, nil
}

// received fills in what an alert keeps of a received event. CNICs are
// shortened: nobody opens a citizen's record on this page.
func (row *EventRow) received(kept pasban.Event) {
	if kept == nil {
		return
	}
	if at := detect.Time(kept); !at.IsZero() {
		row.Time = stamp(at)
	}
	for _, name := range slices.Sorted(maps.Keys(kept)) {
		if name == soc.Cut {
			n, _ := kept[name].(float64)
			row.Cut = int(n)
			continue
		}
		row.Fields = append(row.Fields, FieldRow{Name: name, Value: maskRow(show(kept[name]))})
	}
	slices.SortStableFunc(row.Fields, func(a, b FieldRow) int { return strings.Count(a.Name, ".") - strings.Count(b.Name, ".") })
}

// EventView is the data of one event's page.
type EventView struct {
	ID     string
	Time   string
	Fields []FieldRow
	JSON   string
	Alerts []Row
	Block  *BlockView // nil if it is not about a request that the firewall stopped
	Hunts  []HuntLink // the events around it; none if none are kept
}

// HuntLink is the address of the events around one that have the same in a field.
type HuntLink struct{ Field, Href string }

// FieldRow is one flat field of an event.
type FieldRow struct{ Name, Value, Doc string }

// event shows what detection saw of a fact, and the alerts that it is behind.
func (c *Console) event(w http.ResponseWriter, r *http.Request, v Visitor) error {
	entry, err := c.o.Journal.ByID(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	ev := detect.FromEntry(entry)
	id := r.PathValue("id")
	view := EventView{ID: id, Time: stamp(detect.Time(ev))}
	for _, f := range detect.Fields() {
		if value, ok := ev[f.Name]; ok {
			view.Fields = append(view.Fields, FieldRow{f.Name, show(value), f.Doc})
		}
	}
	for _, name := range []string{"Actor", "SrcIP", "Subject", "Host"} {
		value, _ := ev[name].(string)
		is, ok := hunt.Is(name, value)
		if href := aroundHref(is, ok, detect.Time(ev), detect.Time(ev)); href != "" && value != "" && c.o.Events != nil {
			view.Hunts = append(view.Hunts, HuntLink{name, href})
		}
	}
	object := maps.Clone(ev)
	for _, f := range detect.Fields() {
		delete(object, f.Name)
	}
	raw, err := json.MarshalIndent(object, "", "  ")
	if err != nil {
		return err
	}
	view.JSON = string(raw)
	alerts, err := c.o.Alerts.ByFact(r.Context(), id)
	if err != nil {
		return err
	}
	for _, a := range alerts {
		view.Alerts = append(view.Alerts, rowOf(a))
	}
	if block, ok := soc.BlockOf(entry); ok {
		view.Block = c.blockView(block, v)
	}
	c.render(w, r, v, http.StatusOK, "event", "event.title", view)
	return nil
}

func show(v any) string {
	switch v := v.(type) {
	case []string:
		return strings.Join(v, ", ")
	case []any:
		var parts []string
		for _, e := range v {
			parts = append(parts, show(e))
		}
		return strings.Join(parts, ", ")
	case float64: // not 4.625e+03
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

var idForm = regexp.MustCompile(`^[0-9a-f]{32}$`)

// FindView is the data of the page that says that nothing was found.
type FindView struct{ ID string }

// find goes to the event whose incident id it is given, as people read it out
// or copy it from a problem document, or to the alert of that id.
func (c *Console) find(w http.ResponseWriter, r *http.Request, v Visitor) error {
	typed := r.URL.Query().Get("id")
	id := strings.ToLower(strings.TrimPrefix(strings.TrimSpace(typed), "urn:pasban:incident:"))
	id = strings.NewReplacer(" ", "", "-", "").Replace(id)
	if idForm.MatchString(id) {
		_, err := c.o.Journal.ByID(r.Context(), id)
		if err == nil {
			http.Redirect(w, r, "/soc/events/"+id, http.StatusSeeOther)
			return nil
		}
		if pasban.KindOf(err) != pasban.NotFound {
			return err
		}
		if _, err := c.o.Alerts.Get(r.Context(), id); err == nil {
			http.Redirect(w, r, "/soc/alerts/"+id, http.StatusSeeOther)
			return nil
		}
	}
	status := http.StatusOK
	if typed != "" {
		status = http.StatusNotFound
	}
	if r := []rune(typed); len(r) > 100 {
		typed = string(r[:100]) + "…"
	}
	c.render(w, r, v, status, "find", "find.title", FindView{typed})
	return nil
}

// LedgerView is how the ledger is.
type LedgerView struct {
	Origin     string
	Size       uint64
	Root       string
	Checkpoint string // when it was published, "" if there is none
	Age        string
	Waiting    uint64
	Audit      string // how long ago the last audit ended, "" if there was none
	Damaged    []Damage
	Problem    string // why guarded routes answer 503, "" if they do not
	Facts      uint64
	Leaves     uint64
	VKey       string
	MayAct     bool

	Witnesses []WitnessRow
	Need      int    // of them make a checkpoint final
	Final     uint64 // leaves under the newest final checkpoint
	FinalAge  string // "" if there is none
	NotFinal  string // why the newest have not been final for long
}

// WitnessRow is one who cosigns the ledger.
type WitnessRow struct {
	Name    string
	Size    uint64
	Age     string // of its last cosignature, "" if there was none since the start
	Problem string
}

// Damage is one file of the ledger that does not hold.
type Damage struct{ Path, Problem string }

func (c *Console) ledgerView(ctx context.Context, lang string) (LedgerView, error) {
	s := c.o.Ledger.Status()
	view := LedgerView{Origin: s.Origin, Size: s.Size, Root: s.Root, Waiting: s.Lag, VKey: c.o.VKey}
	now := c.o.Now()
	if !s.Published.IsZero() {
		view.Checkpoint, view.Age = stamp(s.Published), c.ago(lang, now.Sub(s.Published))
	}
	if !s.LastAudit.IsZero() {
		view.Audit = c.ago(lang, now.Sub(s.LastAudit))
	}
	for _, f := range s.Damaged {
		view.Damaged = append(view.Damaged, Damage{f.Path, f.Problem})
	}
	for _, err := range []error{s.Err, s.AuditErr} {
		if err != nil && view.Problem == "" {
			view.Problem = err.Error()
		}
	}
	c.witnesses(&view, s.Witnesses, lang)
	var err error
	view.Facts, view.Leaves, err = c.o.Journal.Head(ctx)
	return view, err
}

// witnesses fills in how the ledger stands with its witnesses.
func (c *Console) witnesses(view *LedgerView, w ledger.Witnessing, lang string) {
	now := c.o.Now()
	view.Need, view.Final = w.Need, w.Size
	if !w.Final.IsZero() {
		view.FinalAge = c.ago(lang, now.Sub(w.Final))
	}
	if w.Problem != nil {
		view.NotFinal = w.Problem.Error()
	}
	for _, m := range w.Of {
		row := WitnessRow{Name: m.Name, Size: m.Size}
		if !m.Cosigned.IsZero() {
			row.Age = c.ago(lang, now.Sub(m.Cosigned))
		}
		if m.Err != nil {
			row.Problem = m.Err.Error()
		}
		view.Witnesses = append(view.Witnesses, row)
	}
}

func (c *Console) ledger(w http.ResponseWriter, r *http.Request, v Visitor) error {
	view, err := c.ledgerView(r.Context(), page.Lang(r))
	if err != nil {
		return err
	}
	view.MayAct = v.Actor.Role == pasban.RoleAnalyst
	c.render(w, r, v, http.StatusOK, "ledger", "nav.ledger", view)
	return nil
}

// vkey hands out the ledger's verifier key as a file.
func (c *Console) vkey(w http.ResponseWriter, r *http.Request, _ Visitor) error {
	page.SetHeaders(w.Header(), r.TLS != nil, "")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="vkey"`)
	fmt.Fprintln(w, c.o.VKey)
	return nil
}

// audit rehashes the ledger now. That it was asked for is recorded first; what
// it finds raises alarms, so the page shows it either way.
func (c *Console) audit(w http.ResponseWriter, r *http.Request, v Visitor) error {
	f := pasban.NewFact(pasban.KindAdmin, c.o.Agency, v.Actor, c.o.Now())
	f.Body.Service, f.Body.Action = "ledger", "ledger.audit"
	if _, err := c.o.Journal.Record(r.Context(), f); err != nil {
		return err
	}
	if err := c.o.Ledger.Audit(r.Context()); err != nil {
		slog.WarnContext(r.Context(), "console: the audit that was asked for", "err", err) // the page shows what it found
	}
	http.Redirect(w, r, "/soc/ledger", http.StatusSeeOther)
	return nil
}
