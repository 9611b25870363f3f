package portal

import (
	"net/http"

	"pasban"
)

// statement answers GET /ledger/statement with the signed-in citizen's whole
// list and the proof that it is whole (JSON of pasban.Statement). Until an epoch
// covers the list the answer is 503 with Retry-After.
func (p *Portal) statement(w http.ResponseWriter, r *http.Request) {
	v, ok := p.o.Visitor(r)
	if !ok || v.Actor.Subject == "" {
		p.o.Pages.Error(w, r, &pasban.Error{Kind: pasban.Unauthenticated, Msg: "sign in as a citizen to fetch your list"})
		return
	}
	s, err := p.o.Lists.Statement(r.Context(), pasban.Subject{ID: v.Actor.Subject, CNIC: v.CNIC})
	if err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	if r.URL.Query().Has("download") {
		w.Header().Set("Content-Disposition", `attachment; filename="pasban-list.json"`)
	}
	p.o.Pages.JSON(w, r, http.StatusOK, "", s)
}

// heads answers GET /ledger/heads with the receipt of the last epoch. It is for
// everyone: citizens compare it with the one in their statement, and whoever
// keeps them all can show a node that tells two people different ones.
func (p *Portal) heads(w http.ResponseWriter, r *http.Request) {
	rc, err := p.o.Lists.Epoch(r.Context())
	if err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	p.o.Pages.JSON(w, r, http.StatusOK, "", rc)
}
