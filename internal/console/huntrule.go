package console

import (
	"context"
	"fmt"
	"net/http"

	"pasban"
	"pasban/internal/detect"
	"pasban/internal/eventstore"
	"pasban/internal/page"
	"pasban/internal/soc/hunt"
)

// triedEvents is how many of a hunt's events its draft is tried over.
const triedEvents = 2000

// DraftView is the data of the page about a rule draft.
type DraftView struct {
	Query       string
	Back        string // address of the hunt
	Rule        string // as YAML, "" if nothing can be said
	Download    string
	Differences []hunt.Difference
	Problems    []string
	Source      string // logsource in words
	Tried       int    // events that it was tried over
	Hits        int    // of which it matches
	Unread      int    // of which rules cannot see
	NotTried    string // why it could not be tried
}

// draft writes the hunt of an address as a rule. The events that it is tried
// over are looked at, so that is recorded as a search is.
func (c *Console) draft(r *http.Request, v Visitor) (d hunt.Draft, view DraftView, err error) {
	s, err := readHunt(r.URL.Query())
	if err != nil {
		return d, view, err
	}
	q, err := hunt.Parse(s.query)
	if err != nil {
		return d, view, err
	}
	about := hunt.About{Date: c.o.Now()}
	if id := r.URL.Query().Get("saved"); id != "" {
		kept, err := c.o.Alerts.Hunt(r.Context(), id)
		if err != nil {
			return d, view, err
		}
		about.Title, about.Description = kept.Name, kept.Note
	}
	if err := c.o.Alerts.RecordSearch(r.Context(), v.Actor, s.kept()); err != nil {
		return d, view, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), huntTime)
	defer cancel()
	events := s.ask(c.o.Now().UTC())
	events.LogsQL = q.Filter()
	var rows []eventstore.Row
	var sources []detect.Logsource
	failed := c.o.Events.Search(ctx, events, triedEvents, func(row eventstore.Row) error {
		rows, sources = append(rows, row), append(sources, hunt.SourceOf(row))
		return nil
	})
	about.Source = hunt.Common(sources)
	if d, err = hunt.NewDraft(s.query, about); err != nil {
		return d, view, err
	}
	view = DraftView{Query: s.query, Back: s.href(), Rule: d.Rule, Download: "/soc/hunt/rule.yml?" + ruleQuery(r), Differences: d.Differences, Tried: len(rows)}
	view.Source = d.Source.Product + " " + d.Source.Category + " " + d.Source.Service
	for _, p := range d.Problems {
		view.Problems = append(view.Problems, p.Error())
	}
	if failed != nil {
		view.NotTried, view.Tried = c.say(page.Lang(r), "hunt.unavailable"), 0
		return d, view, nil
	}
	for _, row := range rows {
		switch ok, err := d.Try(row); {
		case err != nil:
			view.Unread++
		case ok:
			view.Hits++
		}
	}
	return d, view, nil
}

// draftPage shows the draft, what it does not say as the hunt says it, and what of
// the hunt's own events it matches.
func (c *Console) draftPage(w http.ResponseWriter, r *http.Request, v Visitor) {
	_, view, err := c.draft(r, v)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	c.render(w, r, v, http.StatusOK, "huntrule", "hunt.rule", view)
}

// draftFile hands out the draft. It is installed by whoever fills it in.
func (c *Console) draftFile(w http.ResponseWriter, r *http.Request, v Visitor) {
	d, view, err := c.draft(r, v)
	if err == nil && view.Rule == "" {
		err = &pasban.Error{Kind: pasban.Invalid, Msg: "nothing of this hunt can be said in Sigma", Hint: "narrow the hunt by a field first"}
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	page.SetHeaders(w.Header(), r.TLS != nil, "")
	w.Header().Set("Content-Type", "application/yaml; charset=utf-8")
	w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="draft-%.8s.yml"`, d.ID))
	fmt.Fprint(w, view.Rule)
}
