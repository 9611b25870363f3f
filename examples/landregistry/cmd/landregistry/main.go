// Command landregistry runs the example of an existing land-record
// application. It is unsafe on purpose: see package landregistry. It listens
// on the loopback address unless told otherwise, and must never be reachable
// by anyone but the guard in front of it.
package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"pasban/examples/landregistry"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9000", "address to listen on")
	db := flag.String("db", "landregistry.db", "SQLite file, or a postgres:// address")
	seed := flag.Bool("seed", false, "add ten synthetic owners and their plots")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, *db, *seed); err != nil {
		slog.Error("landregistry stopped", "err", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, listen, db string, seed bool) error {
	app, err := landregistry.New(ctx, landregistry.Options{DSN: db})
	if err != nil {
		return err
	}
	defer app.Close()
	if seed {
		owners, holdings, err := landregistry.Sample()
		if err != nil {
			return err
		}
		if err := app.Seed(ctx, owners, holdings); err != nil {
			return err
		}
	}
	srv := &http.Server{Addr: listen, Handler: app, ReadHeaderTimeout: 10 * time.Second}
	shut := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(ctx) // those still connected are cut off when the process ends
	})
	defer shut()
	slog.Warn("unsafe on purpose: keep this address to yourself", "listen", listen)
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
