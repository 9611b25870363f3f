package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"pasban/internal/ledger"
	"pasban/internal/node"

	"github.com/spf13/cobra"
)

func (c *cli) serveCmd() *cobra.Command {
	var rebuild bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node: guard the sites and services of a configuration",
		Long: `serve runs until SIGTERM or SIGINT, and then lets requests under way end.
SIGHUP reads the configuration again; if it is bad, or changes what cannot
change while running, the old one stays in force and the log says why. It also
has the logs under data/log go on in new files, if they were set aside.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.serve(cmd.Context(), node.Options{Log: c.logger(), RebuildLedger: rebuild})
		},
	}
	cmd.Flags().BoolVar(&rebuild, "rebuild-ledger", false, "make a ledger directory that is gone, or older than what was signed, again from the journal")
	return c.withConfig(cmd)
}

// serve runs a node of c.config until ctx is done.
func (c *cli) serve(ctx context.Context, o node.Options) error {
	setup, err := node.Load(c.config)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	o.EventEngine = []string{self, eventEngine}
	slog.SetDefault(o.Log) // the rooms' own words, in the same form
	ledger.RouteLogs(o.Log)
	n, err := node.New(ctx, setup, o)
	if err != nil {
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	go func() {
		for {
			select {
			case <-hup:
				n.Reload(ctx) // says in the log how it went
			case <-ctx.Done():
				return
			}
		}
	}()
	return n.Run(ctx)
}
