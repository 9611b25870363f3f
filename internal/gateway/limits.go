package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"time"

	"pasban/internal/config"
	"pasban/internal/gateway/flood"
	"pasban/internal/gateway/flood/commons"
	"pasban/internal/page"
)

// shedAfter is when those for whom there was no room should come back: later
// than the flood's next second, so that they do not make it.
const shedAfter = 5 // seconds

// listsEvery is how often the files of lists are looked at.
const listsEvery = 10 * time.Second

func listsOf(c *config.Config) flood.ListOptions {
	l := c.Limits
	return flood.ListOptions{Allow: l.Allow, Block: l.Block, BlockFiles: l.BlockFiles,
		Country: l.Countries.File, AllowCountries: l.Countries.Allow, BlockCountries: l.Countries.Block}
}

// watchLists reads lists again when they change, until ctx ends.
func (g *Gateway) watchLists(ctx context.Context) {
	t := time.NewTicker(listsEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		switch changed, err := g.limiter.Refresh(); {
		case err != nil:
			slog.Warn("a list of addresses has changed and cannot be read; the one before stays", "err", err)
		case changed:
			slog.Info("the lists of addresses were read again")
		}
	}
}

// share has the limits be those of all gateways that use the database, until
// the gateway closes.
func (g *Gateway) share(dsn string) error {
	c, err := commons.Open(dsn)
	if err != nil {
		return err
	}
	g.keeping.Go(func() {
		defer c.Close()
		g.limiter.Share(g.ctx, c, func(err error) {
			if err != nil {
				slog.Error("limits are not shared with other gateways until their database answers: each holds clients to the whole rate by itself", "err", err)
				return
			}
			slog.Info("limits are shared with other gateways")
		})
	})
	return nil
}

// bounded lets a route's requests wait for room at the service, or sheds them.
// A route's own rate and that of a session come first.
func (s *site) bounded(route config.Route, next http.Handler) http.Handler {
	caller := func(r *http.Request) flood.Caller { return s.g.caller(route, r) }
	next = s.load.Handler(next, caller, s.shed, s.broken)
	bucket := "route " + s.name + " " + route.Match
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, l := flood.ClientAddr(r), s.g.limiter
		if route.Rate != nil {
			if wait, ok := l.Bucket(client, bucket, route.Rate.PerSecond, route.Rate.Burst); !ok {
				s.g.flooded(w, r, l.Refuse(client, "requests of one route", wait))
				return
			}
		}
		if _, ok := s.g.o.Visitor(r.Context()); ok {
			if wait, ok := l.Session(sessionHash(r)); !ok {
				s.g.flooded(w, r, l.Refuse(client, "requests of one session", wait))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// sessionHash names the session of a request without giving it away.
func sessionHash(r *http.Request) string {
	c, err := r.Cookie(page.SessionCookie)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256([]byte(c.Value))
	return hex.EncodeToString(sum[:16])
}

// caller says how important a request is when there is not room for all. A
// citizen who sends a form goes first: the work in it would be lost.
func (g *Gateway) caller(route config.Route, r *http.Request) flood.Caller {
	c := flood.Caller{Heavy: g.limiter.Heavy(r), Priority: priorityOf(r)}
	if _, ok := g.o.Visitor(r.Context()); ok {
		c.Priority = flood.SignedIn
	}
	switch {
	case c.Priority == flood.SignedIn && (route.Essential || r.Method != http.MethodGet && r.Method != http.MethodHead):
		c.Priority = flood.Essential
	case c.Priority == flood.Visitor && route.Essential:
		c.Priority = flood.Essential
	case c.Priority == flood.Stranger && route.Essential:
		c.Priority = flood.Visitor // not more: anyone can ask for it
	}
	if c.Priority >= flood.SignedIn {
		g.limiter.Known(r)
	}
	return c
}

// shed answers a request for which the service has no room.
func (s *site) shed(w http.ResponseWriter, r *http.Request, c flood.Caller) {
	s.g.metrics.count(countShed)
	s.turnedAway()
	if r.ProtoMajor < 3 { // HTTP/3 has no such header: clients refuse an answer with one (RFC 9114, section 4.2)
		w.Header().Set("Connection", "close") // others need the place
	}
	s.g.standing.busy.serve(w, r, s.g.limiter.Shed(s.name), shedAfter)
}

// broken answers a request whose body cannot be read.
func (s *site) broken(w http.ResponseWriter, r *http.Request, err error) {
	err = bodyFault(err)
	s.g.fail(w, r, bodyStatus(err), err)
}
