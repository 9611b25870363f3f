package gateway

import (
	"net/http"

	"pasban"
	"pasban/internal/page"
)

// standings are the answers to requests that are refused by the thousand: in
// a flood and under attack, making each page anew would be most of the work.
type standings struct {
	busy    standing // there is no room at the service
	flooded standing // more than the client's rate
	listed  standing // the client is on a list
	blocked standing // the firewall's
}

// standing is one of them. Problem documents, and the pages of Pasban's other
// surfaces, are made when they are asked for.
type standing struct {
	g      *Gateway
	status int
	err    pasban.Error // its ID is for serve to say
	page   *page.Stamped
}

func (g *Gateway) newStandings() (all standings, err error) {
	for _, s := range []struct {
		to     *standing
		status int
		err    pasban.Error
	}{
		{&all.busy, http.StatusServiceUnavailable, pasban.Error{Kind: pasban.Limited,
			Msg: "there are more visitors than the service can answer now", Hint: "wait a little and try again"}},
		{&all.flooded, http.StatusTooManyRequests, pasban.Error{Kind: pasban.Limited,
			Msg: "too many requests from your address", Hint: "wait a little and try again"}},
		{&all.listed, http.StatusForbidden, pasban.Error{Kind: pasban.Forbidden,
			Msg: "the service is not open to your network", Hint: "if it should be, tell the agency the incident id"}},
		{&all.blocked, http.StatusForbidden, pasban.Error{Kind: pasban.Forbidden,
			Msg: "the request looks like an attack", Hint: "if it was none, tell the agency the incident id"}},
	} {
		*s.to = standing{g: g, status: s.status, err: s.err}
		if s.to.page, err = g.o.Pages.StampError(&s.err); err != nil {
			return all, err
		}
	}
	return all, nil
}

// serve answers with the incident id. retryAfter is when to try again, in
// seconds; 0 says nothing of it.
func (a *standing) serve(w http.ResponseWriter, r *http.Request, id string, retryAfter int) {
	if retryAfter > 0 {
		w = retryWriter{w, retryAfter}
	}
	if !page.OnPortal(r) {
		err := a.err
		err.ID = id
		a.g.fail(w, r, a.status, &err)
		return
	}
	w.Header().Set(IncidentHeader, id)
	a.page.Send(w, r, a.status, id)
}
