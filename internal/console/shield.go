package console

import (
	"context"
	"net/http"
	"time"

	"pasban"
)

// Shield is attack mode as the console asks for it: while it is on, strangers
// who come to a site do a small work first, or wait.
type Shield interface {
	// Sites lists the sites, with the mode that each is in.
	Sites() []SiteMode
	// Start and End return after the fact that says who did it is durable.
	Start(ctx context.Context, who pasban.Actor, site, reason, note string, length time.Duration) error
	End(ctx context.Context, who pasban.Actor, site string) error
}

// SiteMode is one site and the mode that it is in.
type SiteMode struct {
	Site         string            // as facts name it
	Title        map[string]string // as people call it, by language
	On           bool
	Auto         bool   // it started by itself
	Reason, Note string // a message of pass.reason; the analyst's words
	By           string // id of the analyst
	Since, Until time.Time
}

// ShieldView is the data of the overview's panel.
type ShieldView struct {
	On                      []ShieldRow
	MayAct                  bool
	Sites, Reasons, Lengths []Choice
}

// ShieldRow is a site under attack mode.
type ShieldRow struct{ Site, Title, Reason, Note, Since, Until, By string }

// lengths are how long a mode may be started for; the second is chosen.
func lengths() []time.Duration {
	return []time.Duration{15 * time.Minute, 30 * time.Minute, 2 * time.Hour, 12 * time.Hour}
}

// shieldTime is the form of times in the panel, UTC.
const shieldTime = "2006-01-02 15:04"

func (c *Console) shieldView(lang string, v Visitor) *ShieldView {
	if c.o.Shield == nil {
		return nil
	}
	view := &ShieldView{MayAct: v.Actor.Role == pasban.RoleAnalyst}
	for _, s := range c.o.Shield.Sites() {
		title := s.Title[lang]
		view.Sites = append(view.Sites, Choice{Value: s.Site, Text: title})
		if s.On {
			view.On = append(view.On, ShieldRow{Site: s.Site, Title: title, Reason: c.o.Pages.T(lang, "pass.reason."+s.Reason), Note: s.Note,
				Since: s.Since.UTC().Format(shieldTime), Until: s.Until.UTC().Format(shieldTime), By: s.By})
		}
	}
	for _, r := range []string{"overload", "guessing", "caution"} {
		view.Reasons = append(view.Reasons, Choice{Value: r, Text: c.o.Pages.T(lang, "pass.reason."+r)})
	}
	for i, d := range lengths() {
		view.Lengths = append(view.Lengths, Choice{Value: d.String(), Text: c.span(lang, d), Chosen: i == 1})
	}
	return view
}

func (c *Console) startShield(w http.ResponseWriter, r *http.Request, v Visitor) error {
	length, err := time.ParseDuration(r.PostFormValue("for"))
	if err != nil {
		return &pasban.Error{Kind: pasban.Invalid, Msg: "choose how long it lasts", Err: err}
	}
	if err := c.o.Shield.Start(r.Context(), v.Actor, r.PostFormValue("site"), r.PostFormValue("reason"), r.PostFormValue("note"), length); err != nil {
		return err
	}
	http.Redirect(w, r, "/soc#sh", http.StatusSeeOther)
	return nil
}

func (c *Console) endShield(w http.ResponseWriter, r *http.Request, v Visitor) error {
	if err := c.o.Shield.End(r.Context(), v.Actor, r.PostFormValue("site")); err != nil {
		return err
	}
	http.Redirect(w, r, "/soc#sh", http.StatusSeeOther)
	return nil
}
