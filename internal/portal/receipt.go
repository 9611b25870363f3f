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
	index, err := strconv.ParseUint(r.PathValue("index"), 10, 63)
	if err != nil {
		p.o.Pages.Error(w, r, noReceipt)
		return
	}
	e, err := p.o.Journal.ByIndex(r.Context(), index)
	if err != nil {
		if pasban.KindOf(err) == pasban.NotFound {
			err = noReceipt
		}
		p.o.Pages.Error(w, r, err)
		return
	}
	auditor := v.Actor.Role == pasban.RoleAuditor
	if e.Shredded || !auditor && !concerns(e, v.Actor) {
		p.o.Pages.Error(w, r, noReceipt)
		return
	}
	rc, err := p.o.Ledger.Receipt(r.Context(), e)
	if err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	rc.Restricted = nil
	if auditor {
		if err := p.recordAudit(r, v.Actor, e); err != nil {
			p.o.Pages.Error(w, r, err)
			return
		}
		rc.Restricted = &e.RestrictedOpening
	}
	if p.o.Final != nil {
		if final := p.o.Final([]byte(rc.Checkpoint)); final != "" {
			w.Header().Set("Pasban-Final", final)
		}
	}
	if r.URL.Query().Has("download") {
		w.Header().Set("Content-Disposition", `attachment; filename="pasban-receipt-`+strconv.FormatUint(index, 10)+`.json"`)
	}
	p.o.Pages.JSON(w, r, http.StatusOK, "", rc)
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
