package console

import (
	"net/http"
	"slices"
	"time"

	"pasban/internal/detect/ingest"
	"pasban/internal/page"
)

// Logs are the sources of logs that other machines send.
type Logs interface {
	Figures() []ingest.Figures
	// Waiting is how many bytes wait for detection, and how many may.
	Waiting() (bytes, limit int64)
}

var _ Logs = (*ingest.Receiver)(nil)

// SourcesView is the data of the page about received logs.
type SourcesView struct {
	Sources []SourceView
	Waiting string // bytes
	Limit   string
	Full    bool // senders are made to wait
}

// SourceView is one source.
type SourceView struct {
	ingest.Figures
	Taken, Handed, Refusals, Lost string // the counts as people write them
	Age                           string // since something came last; "" if nothing did
	Silent                        bool   // nothing came for long
	Refused                       []RefusalView
}

// RefusalView is an entry that could not be read, newest first, with CNICs
// shortened.
type RefusalView struct{ Why, Sample string }

// silent is for how long a source may send nothing before the page says so.
const silent = 15 * time.Minute

// logSources shows each source, what it sent and what of it could not be read.
func (c *Console) logSources(w http.ResponseWriter, r *http.Request, v Visitor) error {
	lang, now := page.Lang(r), c.o.Now()
	waiting, limit := c.o.Logs.Waiting()
	view := SourcesView{Waiting: page.Num(lang, waiting), Limit: page.Num(lang, limit), Full: waiting > limit*9/10}
	for _, f := range c.o.Logs.Figures() {
		s := SourceView{Figures: f, Taken: page.Num(lang, f.Bytes), Handed: page.Num(lang, f.Events), Refusals: page.Num(lang, f.Refused), Lost: page.Num(lang, f.Dropped)}
		if s.Silent = true; !f.Last.IsZero() {
			s.Age, s.Silent = c.ago(lang, now.Sub(f.Last)), now.Sub(f.Last) > silent
		}
		for _, refused := range slices.Backward(f.Samples) {
			s.Refused = append(s.Refused, RefusalView{refused.Why, maskRow(refused.Sample)})
		}
		view.Sources = append(view.Sources, s)
	}
	c.render(w, r, v, http.StatusOK, "sources", "nav.sources", view)
	return nil
}
