package portal

import (
	"net/http"
	"strconv"

	"pasban"
	"pasban/internal/journal"
)

var noReceipt = &pasban.Error{Kind: pasban.NotFound, Msg: "there is no receipt of that number for you"}

// receipt answers GET /ledger/receipt/{index} with a receipt (JSON of
// pasban.Receipt). It is for the citizen concerned, for the actor who made the
// entry, and for auditors, who are given the restricted part as well. Anyone
// else gets the same 404 as for an entry that does not exist. Until a
// checkpoint covers the entry the answer is 503 with Retry-After. Where the
// ledger has witnesses, the header Pasban-Final says whether enough of them have
// cosigned the receipt's checkpoint.
func (p *Portal) receipt(w http.ResponseWriter, r *http.Request) {
	v, ok := p.o.Visitor(r)
	if !ok {
		p.o.Pages.Error(w, r, &pasban.Error{Kind: pasban.Unauthenticated, Msg: "sign in to fetch a receipt"})
		return
	}
	e, rc, err := p.prove(r, v)
	if err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	if v.Actor.Role == pasban.RoleAuditor {
		if err := p.recordAudit(r, v.Actor, e); err != nil {
			p.o.Pages.Error(w, r, err)
			return
		}
		rc.Restricted, rc.Hidden = &e.RestrictedOpening, e.HiddenOpening
	}
	if p.o.Final != nil {
		if final := p.o.Final([]byte(rc.Checkpoint)); final != "" {
			w.Header().Set("Pasban-Final", final)
		}
	}
	if r.URL.Query().Has("download") {
		download(w, rc, "json")
	}
	p.o.Pages.JSON(w, r, http.StatusOK, "", rc)
}

// prove returns the entry of the path's index, if it is for the visitor, and its
// receipt without the restricted part, and without what is hidden still.
func (p *Portal) prove(r *http.Request, v Visitor) (journal.Entry, pasban.Receipt, error) {
	index, err := strconv.ParseUint(r.PathValue("index"), 10, 63)
	if err != nil {
		return journal.Entry{}, pasban.Receipt{}, noReceipt
	}
	e, err := p.o.Journal.ByIndex(r.Context(), index)
	switch {
	case pasban.KindOf(err) == pasban.NotFound:
		return journal.Entry{}, pasban.Receipt{}, noReceipt
	case err != nil:
		return journal.Entry{}, pasban.Receipt{}, err
	case e.Shredded || v.Actor.Role != pasban.RoleAuditor && !concerns(e, v.Actor):
		return journal.Entry{}, pasban.Receipt{}, noReceipt
	}
	rc, err := p.o.Ledger.Receipt(r.Context(), e)
	rc.Restricted, rc.Hidden = nil, e.Disclosed(p.o.Now())
	return e, rc, err
}

// download makes the answer a file that is saved.
func download(w http.ResponseWriter, rc pasban.Receipt, kind string) {
	w.Header().Set("Content-Disposition", `attachment; filename="`+receiptFile(rc, kind)+`"`)
}

func receiptFile(rc pasban.Receipt, kind string) string {
	return "pasban-receipt-" + strconv.FormatUint(rc.Index, 10) + "." + kind
}

// concerns reports whether an entry is about the actor or was made by them.
func concerns(e journal.Entry, a pasban.Actor) bool {
	return a.Subject != "" && e.Fact.Subject.ID == a.Subject ||
		a.ID != "" && e.Fact.Restricted.Actor == a.ID
}

// recordAudit makes durable that an auditor opened an entry, before they see it:
// the citizen finds it among their entries.
func (p *Portal) recordAudit(r *http.Request, a pasban.Actor, e journal.Entry) error {
	f := pasban.NewFact(pasban.KindLook, p.o.Agency, a, p.o.Now())
	f.Subject = e.Fact.Subject
	f.Body.Service, f.Body.Resource, f.Body.Action = "ledger", strconv.FormatInt(e.Index, 10), "audit"
	f.Body.Purpose, f.Body.Mode = "audit", pasban.ModePerson
	f.Body.Fields = []string{"entry", "restricted"}
	f.Restricted.Path, f.Restricted.Method = r.URL.Path, r.Method
	_, err := p.o.Journal.Record(r.Context(), f)
	return err
}
