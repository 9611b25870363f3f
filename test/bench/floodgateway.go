package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/gateway"
	"pasban/internal/gateway/pass"
	"pasban/internal/journal"
	"pasban/internal/page"
	"pasban/internal/registry"
	"pasban/internal/store"
)

// neighbours stands for the rooms that a flood does not reach: nobody is signed
// in, and the route shows nobody's data.
type neighbours struct{}

func (neighbours) Disclose(context.Context, registry.Look, func(*store.Tx) error) (registry.Disclosure, error) {
	return registry.Disclosure{}, errors.New("nothing is guarded here")
}

func (neighbours) Subject(context.Context, pasban.CNIC) (pasban.Subject, error) {
	return pasban.Subject{}, errors.New("nobody is known here")
}

func (neighbours) Record(_ context.Context, facts ...pasban.Fact) ([]journal.Entry, error) {
	return make([]journal.Entry, len(facts)), nil
}

func (neighbours) Middleware(next http.Handler) http.Handler { return next }

// floodGateway is the process under test: args are the service's address, a
// directory, whether the firewall is on, and how attack mode starts.
func floodGateway(args []string) error {
	if len(args) != 4 {
		return errors.New("flood-gateway is started by flood")
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	mode := "off"
	if args[2] == "true" {
		mode = "block"
	}
	cfg := &config.Config{
		Agency: config.Agency{ID: "synthetic"}, Data: args[1], TLS: config.TLS{Mode: "off"},
		Limits: config.Limits{Rate: config.Rate{PerSecond: 20, Burst: 60}, Body: 1 << 20, Header: 32 << 10, Connections: 4096},
		Sites: []config.Site{{
			Host: "*", Upstream: []string{args[0]}, Timeout: 2 * time.Second, WAF: config.WAF{Paranoia: 1, Mode: mode, Letters: []string{"Arab"}},
			Attack: config.Attack{Start: args[3]}, Routes: []config.Route{{Match: "GET /records/search", SignIn: "none"}},
		}},
	}
	pages, err := page.New(page.Options{Agency: map[string]string{"en": "Synthetic agency", "ur": "فرضی ادارہ"}})
	if err != nil {
		return err
	}
	n := neighbours{}
	g, err := gateway.New(gateway.Options{Config: cfg, Guard: n, Subjects: n, Facts: n, Sessions: n, Pages: pages, Own: http.NotFoundHandler()})
	if err != nil {
		return err
	}
	defer g.Close()
	public, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	control, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go http.Serve(control, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := pasban.Actor{ID: "analyst:synthetic", Kind: pasban.ActorPerson, Role: pasban.RoleAnalyst}
		for _, site := range g.SiteNames() {
			if err := g.StartAttack(r.Context(), who, site, pass.Overload, "", time.Hour); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	ready := map[string]string{"Address": "http://" + public.Addr().String(), "Control": "http://" + control.Addr().String()}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return err
	}
	return g.Serve(context.Background(), public)
}
