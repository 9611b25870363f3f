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
	Tried       int    // events that it was tried over
	Hits        int    // of which it matches
	Unread      int    // of which rules cannot see
	NotTried    string // why it could not be tried
}

// drafted is a hunt that was written as a rule, and events of the hunt.
type drafted struct {
	hunt.Draft
	state  huntState
	events []eventstore.Row
	failed error // why these are not all
}

// draft writes the hunt of an address as a rule. The events, which tell the
// logsource, are looked at, so that is recorded as a search is.
func (c *Console) draft(r *http.Request, v Visitor) (d drafted, err error) {
	if d.state, err = readHunt(r.URL.Query()); err != nil {
		return d, err
	}
	q, err := hunt.Parse(d.state.query)
	if err != nil {
		return d, err
	}
	about := hunt.About{Date: c.o.Now()}
	if id := r.URL.Query().Get("saved"); id != "" {
		kept, err := c.o.Alerts.Hunt(r.Context(), id)
		if err != nil {
			return d, err
		}
		about.Title, about.Description = kept.Name, kept.Note
	}
	if err := c.o.Alerts.RecordSearch(r.Context(), v.Actor, d.state.kept()); err != nil {
		return d, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), huntTime)
	defer cancel()
	asked := d.state.ask(c.o.Now().UTC())
	asked.LogsQL = q.Filter()
	var sources []detect.Logsource
	d.failed = c.o.Events.Search(ctx, asked, triedEvents, func(row eventstore.Row) error {
		d.events, sources = append(d.events, row), append(sources, hunt.SourceOf(row))
		return nil
	})
	about.Source = hunt.Common(sources)
	d.Draft, err = hunt.NewDraft(d.state.query, about)
	return d, err
}

// draftPage shows the draft, what it does not say as the hunt says it, and what of
// the hunt's own events it matches.
func (c *Console) draftPage(w http.ResponseWriter, r *http.Request, v Visitor) error {
	d, err := c.draft(r, v)
	if err != nil {
		return err
	}
	view := DraftView{Query: d.state.query, Back: d.state.href(), Rule: d.Rule, Download: d.state.ruleHref("rule.yml", r.URL.Query().Get("saved")), Differences: d.Differences}
	for _, p := range d.Problems {
		view.Problems = append(view.Problems, p.Error())
	}
	if d.failed != nil {
		view.NotTried = c.say(page.Lang(r), "hunt.unavailable")
	} else {
		view.Tried = len(d.events)
		for _, row := range d.events {
			switch ok, err := d.Try(row); {
			case err != nil:
				view.Unread++
			case ok:
				view.Hits++
			}
		}
	}
	c.render(w, r, v, http.StatusOK, "huntrule", "hunt.rule", view)
	return nil
}

// draftFile hands out the draft. It is installed by whoever fills it in.
func (c *Console) draftFile(w http.ResponseWriter, r *http.Request, v Visitor) error {
	d, err := c.draft(r, v)
	if err == nil && d.Rule == "" {
		err = &pasban.Error{Kind: pasban.Invalid, Msg: "nothing of this hunt can be said in Sigma", Hint: "narrow the hunt by a field first"}
	}
	if err != nil {
		return err
	}
	page.SetHeaders(w.Header(), r.TLS != nil, "")
	w.Header().Set("Content-Type", "application/yaml; charset=utf-8")
	w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="draft-%.8s.yml"`, d.ID))
	fmt.Fprint(w, d.Rule)
	return nil
}
