package console

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"pasban"
	"pasban/internal/eventstore"
	"pasban/internal/eventstore/parquet"
	"pasban/internal/page"
	"pasban/internal/soc"
)

const (
	// exportMax is how many events one export has at most.
	exportMax = 100_000
	// exportTime is how long one may take.
	exportTime = 10 * time.Minute
	// flushBytes is after how many bytes an export is sent on.
	flushBytes = 256 << 10
)

// SavedRow is a hunt that is kept.
type SavedRow struct {
	ID, Name, Note, Query, Window, By, Made string
	Href, Rule                              string
	MayDelete                               bool
}

func (c *Console) savedRows(ctx context.Context, lang string, v Visitor) (out []SavedRow, err error) {
	hunts, err := c.o.Alerts.Hunts(ctx)
	if err != nil {
		return nil, err
	}
	for _, h := range hunts {
		s := huntOf(h)
		row := SavedRow{ID: h.ID, Name: h.Name, Note: h.Note, Query: h.Query, Window: c.windowOf(lang, s), By: h.By, Made: stamp(h.Made), Href: s.href(), Rule: s.ruleHref("rule", h.ID)}
		row.MayDelete = v.Actor.Role == pasban.RoleSupervisor || v.Actor.Role == pasban.RoleAnalyst && v.Actor.ID == h.By
		out = append(out, row)
	}
	return out, nil
}

// SavedView is the data of the list of hunts.
type SavedView struct{ Saved []SavedRow }

func (c *Console) saved(w http.ResponseWriter, r *http.Request, v Visitor) error {
	rows, err := c.savedRows(r.Context(), page.Lang(r), v)
	if err != nil {
		return err
	}
	c.render(w, r, v, http.StatusOK, "hunts", "hunt.saved", SavedView{rows})
	return nil
}

// huntForm reads a form that goes on from a hunt.
func huntForm(w http.ResponseWriter, r *http.Request) (huntState, error) {
	if err := readForm(w, r); err != nil {
		return huntState{}, err
	}
	return readHunt(r.PostForm)
}

// saveHunt keeps a hunt for all analysts.
func (c *Console) saveHunt(w http.ResponseWriter, r *http.Request, v Visitor) error {
	s, err := huntForm(w, r)
	if err == nil {
		h := s.kept()
		h.Name, h.Note = r.PostForm.Get("name"), r.PostForm.Get("note")
		_, err = c.o.Alerts.SaveHunt(r.Context(), v.Actor, h)
	}
	return goOn(w, r, err, "/soc/hunt/saved")
}

func (c *Console) deleteHunt(w http.ResponseWriter, r *http.Request, v Visitor) error {
	return goOn(w, r, c.o.Alerts.DeleteHunt(r.Context(), v.Actor, r.PathValue("id")), "/soc/hunt/saved")
}

// rowWriter writes rows in a format.
type rowWriter interface {
	Write(row eventstore.Row) error
	Close() error
}

var _ rowWriter = (*parquet.Writer)(nil)

// ndjson writes each row as one JSON object, its fields in their order.
type ndjson struct{ w io.Writer }

func (n ndjson) Write(row eventstore.Row) error {
	line := []byte{'{'}
	for i, f := range row {
		for j, text := range []string{f.Name, f.Value} {
			quoted, err := json.Marshal(text)
			if err != nil {
				return err
			}
			switch {
			case j == 1:
				line = append(line, ':')
			case i > 0:
				line = append(line, ',')
			}
			line = append(line, quoted...)
		}
	}
	_, err := n.w.Write(append(line, '}', '\n'))
	return err
}

func (ndjson) Close() error { return nil }

// sender hands bytes on as they come, and bounds how long a slow reader may take
// with each part.
type sender struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	pending int
	begun   bool
}

func (s *sender) Write(b []byte) (int, error) {
	if s.pending == 0 {
		_ = s.rc.SetWriteDeadline(time.Now().Add(exportTime)) // not every server has deadlines
	}
	s.begun = true
	n, err := s.w.Write(b)
	if s.pending += n; err == nil && s.pending >= flushBytes {
		s.pending = 0
		err = s.rc.Flush()
	}
	return n, err
}

// export hands out the events of a hunt as a file. That it begins is a fact
// before its first byte, and how it ended is another. An export that fails
// half-way breaks off, so that nobody takes a part for the whole; one that fails
// before is an error page.
func (c *Console) export(w http.ResponseWriter, r *http.Request, v Visitor) error {
	s, err := huntForm(w, r)
	if err == nil {
		err = eventstore.Check(s.query)
	}
	as := soc.Format(r.PostForm.Get("format"))
	if err == nil && as != soc.NDJSON && as != soc.Parquet {
		err = &pasban.Error{Kind: pasban.Invalid, Msg: "events are exported as ndjson or parquet"}
	}
	now := c.o.Now().UTC()
	q := s.ask(now)
	h := s.kept()
	h.From, h.To, h.Span = q.From, q.To, 0
	if err == nil {
		err = c.o.Alerts.RecordExport(r.Context(), v.Actor, h, as)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), exportTime)
	defer cancel()
	kind := "application/x-ndjson"
	out := &sender{w: w, rc: http.NewResponseController(w)}
	var rows rowWriter = ndjson{out}
	if as == soc.Parquet {
		kind, rows = "application/vnd.apache.parquet", parquet.NewWriter(out)
	}
	page.SetHeaders(w.Header(), r.TLS != nil, "")
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="hunt-%s.%s"`, now.Format("20060102-150405"), as))
	n := 0
	err = c.o.Events.Search(ctx, q, exportMax, func(row eventstore.Row) error {
		n++
		return rows.Write(row)
	})
	if err == nil {
		err = rows.Close()
	}
	keep, done := context.WithTimeout(context.WithoutCancel(r.Context()), exportTime)
	defer done()
	if ended := c.o.Alerts.RecordExported(keep, v.Actor, h, as, n, err == nil && n < exportMax); ended != nil {
		slog.ErrorContext(r.Context(), "console: how an export ended is not recorded", "err", ended) // that it began is
	}
	switch {
	case err != nil && !out.begun:
		w.Header().Del("Content-Disposition")
		return err
	case err != nil:
		slog.WarnContext(r.Context(), "console: an export broke off", "events", n, "err", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}
