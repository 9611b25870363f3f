package portal

import (
	"net/http"
	"strconv"
	"strings"

	"pasban"
)

// statement answers GET /ledger/statement with the signed-in citizen's whole
// list and the proof that it is whole (JSON of pasban.Statement). Until an epoch
// covers the list the answer is 503 with Retry-After.
func (p *Portal) statement(w http.ResponseWriter, r *http.Request) {
	p.own(w, r, "list", func(v Visitor) (any, error) {
		return p.o.Lists.Statement(r.Context(), pasban.Subject{ID: v.Actor.Subject, CNIC: v.CNIC})
	})
}

// own answers with what is the signed-in citizen's alone.
func (p *Portal) own(w http.ResponseWriter, r *http.Request, what string, fetch func(v Visitor) (any, error)) {
	v, ok := p.o.Visitor(r)
	if !ok || v.Actor.Subject == "" {
		p.o.Pages.Error(w, r, &pasban.Error{Kind: pasban.Unauthenticated, Msg: "sign in as a citizen to fetch your " + strings.ReplaceAll(what, "-", " ")})
		return
	}
	doc, err := fetch(v)
	if err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	if r.URL.Query().Has("download") {
		w.Header().Set("Content-Disposition", `attachment; filename="pasban-`+what+`.json"`)
	}
	p.o.Pages.JSON(w, r, http.StatusOK, "", doc)
}

// heads answers GET /ledger/heads with the receipt of the last epoch, and with
// ?epoch=N with that of an earlier one. It is for everyone: citizens compare it
// with the one in their statement, and whoever keeps them all can show a node
// that tells two people different ones.
func (p *Portal) heads(w http.ResponseWriter, r *http.Request) {
	var rc pasban.Receipt
	var err error
	if q := r.URL.Query(); q.Has("epoch") {
		var epoch int64
		if epoch, err = epochOf(q.Get("epoch")); err == nil {
			rc, err = p.o.Lists.EpochAt(r.Context(), epoch)
		}
	} else {
		rc, err = p.o.Lists.Epoch(r.Context())
	}
	if err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	p.o.Pages.JSON(w, r, http.StatusOK, "", rc)
}

func epochOf(text string) (int64, error) {
	epoch, err := strconv.ParseInt(text, 10, 53)
	if err != nil || epoch < 1 {
		return 0, &pasban.Error{Kind: pasban.NotFound, Msg: "there is no such epoch"}
	}
	return epoch, nil
}

// grown answers GET /ledger/watch/{epoch} with the labels of the citizens whose
// lists grew in an epoch (pasban.WatchKey). They are for everyone, never change,
// and say nothing to who has no key.
func (p *Portal) grown(w http.ResponseWriter, r *http.Request) {
	epoch, err := epochOf(r.PathValue("epoch"))
	if err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	labels, err := p.o.Lists.Grown(r.Context(), epoch)
	if err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Content-Length", strconv.Itoa(len(labels)))
	w.Write(labels) // a visitor who has gone needs no error
}

// watchKey answers GET /ledger/watch-key with what the signed-in citizen finds
// their own label with (JSON of pasban.WatchKey).
func (p *Portal) watchKey(w http.ResponseWriter, r *http.Request) {
	p.own(w, r, "watch-key", func(v Visitor) (any, error) { return p.o.Lists.WatchKey(r.Context(), v.Actor.Subject) })
}
