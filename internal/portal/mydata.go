package portal

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"pasban"
	"pasban/internal/journal"
	"pasban/internal/page"
)

const (
	perPage  = 20    // entries on one page
	scanMax  = 2_000 // entries looked through for one page, at most
	scanStep = 200   // entries read from the journal at once
)

// periods are the choices of the filter in days; 0 is everything.
func periods() []int { return []int{7, 30, 90, 365, 0} }

// defaultPeriod is what the facts at the top count, in days.
const defaultPeriod = 90

// Entry is one card.
type Entry struct {
	Index   int64
	ID      string // the fact's id
	Time    string // RFC 3339, for <time>
	Tag     string // person, automatic, emergency, refused, citizen, hidden
	TagCSS  string // class of the tag's colour; the word says the same
	Words   Texts
	Changed bool // a change, not a look
	Pending bool // not yet under a checkpoint
	Alone   bool // the only card of its page: its title is one level higher
}

// Choice is one option of a filter.
type Choice struct {
	Value, Text string
	Chosen      bool
}

// MyDataView is the data of "Who looked at my data".
type MyDataView struct {
	People, Automatic, Refused int  // in the last 90 days
	Hidden                     int  // entries whose details are told later, of any time shown
	More                       bool // there were more than could be counted
	Periods, Services          []Choice
	Entries                    []Entry
	Older                      string // address of the next page, "" if there is none
	Filtered                   bool   // the visitor chose a filter or an older page
	Whole                      bool   // the complete list can be downloaded
	Erased                     int64  // entries before the last one shown whose text was destroyed; 0 if that is not known here
	VKey                       string
	Words                      map[string]string // for verify.js
}

func (p *Portal) myData(w http.ResponseWriter, r *http.Request, v Visitor) {
	q := r.URL.Query()
	days := defaultPeriod
	if n, err := strconv.Atoi(q.Get("p")); err == nil && slices.Contains(periods(), n) {
		days = n
	}
	before, _ := strconv.ParseUint(q.Get("before"), 10, 63) // what is not a number is the newest page
	now := p.o.Now()
	entries, more, err := p.scan(r.Context(), v.Actor.Subject, since(now, days))
	if err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	lang := page.Lang(r)
	f := p.phrases(lang)
	data := MyDataView{More: more, VKey: p.o.VKey, Filtered: len(q) > 0, Whole: p.o.Lists != nil}
	data.count(entries, now)
	data.Periods = p.periodChoices(r, days)
	data.Services = p.serviceChoices(f, r, entries, q.Get("r"))
	size := p.o.Size()
	for _, e := range entries {
		if b := e.Told(now); (q.Get("r") != "" && b.Service != q.Get("r")) || (before > 0 && e.Seq >= before) || entryTime(e).Before(since(now, days)) {
			continue
		}
		if len(data.Entries) == perPage {
			next := url.Values{"p": {strconv.Itoa(days)}, "r": {q.Get("r")}, "before": {strconv.FormatUint(before0(entries, data.Entries), 10)}}
			data.Older = "/" + lang + "/my-data?" + next.Encode()
			break
		}
		data.Entries = append(data.Entries, card(f, e, size, now))
	}
	if last := len(entries) - 1; days == 0 && !more && last >= 0 && data.Older == "" {
		data.Erased = max(0, entries[last].Fact.Body.List.Number-1)
	}
	data.Words = f.words()
	p.render(w, r, http.StatusOK, &v, page.View{Name: "my-data", Title: p.say(r, "mydata.title"), Data: data, Back: p.back(r, "back.home", "/")})
}

// before0 is the sequence number of the last entry shown.
func before0(all []journal.Entry, shown []Entry) uint64 {
	last := shown[len(shown)-1].Index
	i := slices.IndexFunc(all, func(e journal.Entry) bool { return e.Index == last })
	return all[i].Seq
}

// since is the beginning of a period; 0 days is the beginning of time.
func since(now time.Time, days int) time.Time {
	if days == 0 {
		return time.Time{}
	}
	return now.AddDate(0, 0, -days)
}

// scan reads a citizen's entries, newest first, back to the given time and at
// least over the period that is counted. more says that there were too many.
func (p *Portal) scan(ctx context.Context, id pasban.SubjectID, from time.Time) (entries []journal.Entry, more bool, err error) {
	if counted := since(p.o.Now(), defaultPeriod); counted.Before(from) {
		from = counted
	}
	var before uint64
	for {
		batch, err := p.o.Journal.BySubject(ctx, id, before, scanStep)
		if err != nil {
			return nil, false, err
		}
		recent := false
		for _, e := range batch {
			before = e.Seq
			if e.Shredded || entryTime(e).Before(from) {
				continue
			}
			if len(entries) == scanMax {
				return entries, true, nil
			}
			recent = true
			entries = append(entries, e)
		}
		// the order is that of commits, which is nearly that of times
		if !recent || len(batch) < scanStep {
			return entries, false, nil
		}
	}
}

// entryTime is when an entry happened; the zero time if its body is not readable.
func entryTime(e journal.Entry) time.Time {
	t, err := time.Parse(time.RFC3339Nano, e.Fact.Body.Time)
	if err != nil {
		return time.Time{}
	}
	return t
}

// count fills in the facts at the top of the page.
func (d *MyDataView) count(entries []journal.Entry, now time.Time) {
	for _, e := range entries {
		b := e.Told(now)
		t := tag(b)
		if t == "hidden" {
			d.Hidden++
		}
		if entryTime(e).Before(since(now, defaultPeriod)) {
			continue
		}
		switch {
		case t == "hidden":
		case t == "refused":
			d.Refused++
		case b.Kind == pasban.KindLook && t == "automatic":
			d.Automatic++
		case b.Kind == pasban.KindLook && t != "citizen":
			d.People++
		}
	}
}

// card puts one entry into words.
func card(f *phrases, e journal.Entry, size uint64, now time.Time) Entry {
	c := bodyCard(f, e.Told(now))
	c.Index, c.Pending = e.Index, e.Index >= 0 && uint64(e.Index) >= size
	return c
}

// bodyCard puts a body into words; where it stands is for the caller to say.
func bodyCard(f *phrases, b pasban.Body) Entry {
	css := map[string]string{"person": "govuk-tag--blue", "automatic": "govuk-tag--grey", "emergency": "govuk-tag--orange",
		"refused": "govuk-tag--red", "citizen": "govuk-tag--green", "hidden": "govuk-tag--purple"}
	return Entry{
		ID: b.ID, Time: b.Time, Tag: tag(b), TagCSS: css[tag(b)], Words: f.texts(b), Changed: changed(b),
	}
}

// changed reports whether a body tells of a change, not of a look.
func changed(b pasban.Body) bool { return b.Kind == pasban.KindChange || b.Kind == pasban.KindAdmin }

func (p *Portal) periodChoices(r *http.Request, chosen int) []Choice {
	var all []Choice
	for _, days := range periods() {
		c := Choice{Value: strconv.Itoa(days), Chosen: days == chosen}
		if days == 0 {
			c.Text = p.say(r, "mydata.period.all")
		} else {
			c.Text = p.say(r, "mydata.period.days", "Count", days)
		}
		all = append(all, c)
	}
	return all
}

// serviceChoices lists the services that the entries speak of.
func (p *Portal) serviceChoices(f *phrases, r *http.Request, entries []journal.Entry, chosen string) []Choice {
	all := []Choice{{Text: p.say(r, "mydata.records.all"), Chosen: chosen == ""}}
	seen := map[string]bool{"": true}
	for _, e := range entries {
		if s := e.Told(p.o.Now()).Service; !seen[s] {
			seen[s] = true
			all = append(all, Choice{Value: s, Text: f.name("service", s), Chosen: s == chosen})
		}
	}
	return all
}
