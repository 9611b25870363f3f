package node

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"

	"pasban/internal/api"
	"pasban/internal/config"
	"pasban/internal/console"
	"pasban/internal/desk"
	"pasban/internal/identity"
	"pasban/internal/portal"
	"pasban/internal/trust"
)

// mount puts Pasban's own surfaces on one mux. The paths are those that
// config.Owns names; everything else never gets here.
func (n *Node) mount(own *http.ServeMux, s *Setup) error {
	cfg := s.Config
	p, err := portal.New(portal.Options{
		Pages: n.pages, Agency: cfg.Agency.ID, Journal: n.journal, Ledger: n.ledger, Lists: n.lists, VKey: n.vkey,
		Size:     func() uint64 { return n.ledger.Status().Size },
		Final:    n.ledger.Final,
		Registry: n.registry, Names: words{n},
	})
	if err != nil {
		return err
	}
	t, err := trust.New(trust.Options{
		Pages: n.pages, Agency: cfg.Agency.ID, Name: names(cfg.Agency.Name),
		Origin: cfg.Ledger.Origin, VKey: n.vkey, Labels: base64.RawURLEncoding.EncodeToString(n.ring.LabelKey().Public()), Status: n.trustStatus,
		Attacks: n.trustAttacks, Witness: n.watch.trusted(), Cosigners: cosignerKeys(cfg), Need: cfg.Ledger.Witnesses.Need,
	})
	if err != nil {
		return err
	}
	var tables console.Tables
	if n.sentinel != nil {
		tables = n.sentinel
	}
	var received console.Logs
	if n.logs != nil {
		received = n.logs
	}
	c, err := console.New(console.Options{
		Pages: n.pages, Agency: cfg.Agency.ID, Alerts: n.soc, Journal: n.journal, Ledger: n.ledger,
		Detection: func() console.Detection { return n.rules }, VKey: n.vkey, Visitor: consoleVisitor,
		Sites: func() []config.Site { return n.Config().Sites }, Tune: n.tune,
		Shield: shield{n}, Tables: tables, Logs: received, Events: n.Events(), Refused: n.refusedRules,
	})
	if err != nil {
		return err
	}
	d, err := desk.New(desk.Options{Pages: n.pages, Records: n.registry, Work: n.identity, Sites: n.deskPages, Hides: n.guard.Hides})
	if err != nil {
		return err
	}
	a, err := api.New(api.Options{Registry: n.registry, Pages: n.pages, Visitor: apiVisitor, Agency: cfg.Agency.Name.En})
	if err != nil {
		return err
	}

	own.Handle("/", p.Handler())
	own.Handle("/pasban/", n.identity.Handler())
	own.Handle("/pasban/static/", n.pages.Static())
	own.Handle("/desk", d.Handler())
	own.Handle("/desk/", d.Handler())
	own.Handle("/soc", c.Handler())
	own.Handle("/soc/", c.Handler())
	own.Handle("/trust", t.Handler())
	own.Handle("/.well-known/", t.Handler())
	own.Handle("/api/", a.Handler())
	own.Handle("/ledger/", n.ledger.Handler())
	for _, path := range []string{"/ledger/receipt/", "/ledger/statement", "/ledger/heads", "/ledger/watch/", "/ledger/watch-key"} { // these know who asks
		own.Handle(path, p.Handler())
	}
	n.watch.mount(own)
	return nil
}

// consoleVisitor is the analyst of a request.
func consoleVisitor(r *http.Request) (console.Visitor, bool) {
	s := identity.FromContext(r.Context())
	if s == nil {
		return console.Visitor{}, false
	}
	return console.Visitor{Actor: s.Actor(), Name: map[string]string{"en": s.Person.Name("en"), "ur": s.Person.Name("ur")}}, true
}

// apiVisitor is who asks the API.
func apiVisitor(ctx context.Context) (api.Visitor, bool) {
	s := identity.FromContext(ctx)
	if s == nil {
		return api.Visitor{}, false
	}
	return api.Visitor{Actor: s.Actor(), Purpose: s.Purpose()}, true
}

// trustStatus is what the ledger says of itself, as the public is told it.
func (n *Node) trustStatus() trust.Status {
	ls := n.ledger.Status()
	s := trust.Status{Size: ls.Size, Published: ls.Published, Waiting: ls.LagTime, Audited: ls.LastAudit, Problem: ls.Err}
	h := n.hidden.Status()
	s.Hidden, s.Overdue, s.NextOpen = h.Hidden, h.Overdue, h.Next
	if len(ls.Damaged) > 0 {
		s.Alarm = fmt.Errorf("%s: %s (%d files in all)", ls.Damaged[0].Path, ls.Damaged[0].Problem, len(ls.Damaged))
	}
	w := ls.Witnesses
	s.Need, s.Final, s.FinalAt, s.Unwitnessed = w.Need, w.Size, w.Final, w.Problem
	for _, m := range w.Of {
		s.Witnesses = append(s.Witnesses, trust.Witness{Name: m.Name, Size: m.Size, Cosigned: m.Cosigned, OK: m.Err == nil})
	}
	return s
}

// words knows the names that the configuration gives to codes.
type words struct{ n *Node }

// Name implements portal.Names.
func (w words) Name(lang, kind, code string) string {
	cfg := w.n.Config()
	switch kind {
	case "agency":
		if code == cfg.Agency.ID {
			return names(cfg.Agency.Name)[lang]
		}
	case "service":
		i := slices.IndexFunc(cfg.Sites, func(s config.Site) bool { return s.Host == code })
		if i < 0 { // the site for any other host, unless it is a declared service's id
			if _, err := w.n.registry.Service(code); err == nil {
				return ""
			}
			i = slices.IndexFunc(cfg.Sites, func(s config.Site) bool { return s.Host == "*" })
		}
		if i >= 0 {
			return names(siteName(cfg, cfg.Sites[i]))[lang]
		}
	}
	return ""
}

// deskPages are the guarded sites that officers work with, one entry page each.
func (n *Node) deskPages() []desk.Page {
	var out []desk.Page
	cfg := n.Config()
	for _, site := range cfg.Sites {
		p := desk.Page{Title: siteName(cfg, site), URL: "/"}
		for _, r := range site.Routes {
			p.Purposes = append(p.Purposes, r.Purposes...)
		}
		if len(p.Purposes) == 0 {
			continue // nothing in it is for officers
		}
		slices.Sort(p.Purposes)
		p.Purposes = slices.Compact(p.Purposes)
		out = append(out, p)
	}
	return out
}

// siteName is what people call a site.
func siteName(cfg *config.Config, site config.Site) config.Text {
	switch {
	case site.Name != nil:
		return *site.Name
	case site.Host == "*":
		return cfg.Agency.Name
	}
	return config.Text{En: site.Host, Ur: site.Host}
}
