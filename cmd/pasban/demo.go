package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"

	"pasban"
	"pasban/examples"
	"pasban/internal/demo"
	"pasban/internal/node"

	"github.com/spf13/cobra"
)

func (c *cli) demoCmd() *cobra.Command {
	o := demo.Options{Examples: examples.FS()}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show a whole synthetic agency under attack, on this machine",
		Long: `demo starts an existing land registry that knows nothing of security, puts a
node in front of it, fills both with synthetic people and plays a story against
the real listener: people at work, attackers, a dishonest officer, a changed
ledger, a node that is killed. Afterwards it stays up to look around, unless
--once is given. Its exit status is 1 if any attack got through or any
legitimate request was refused.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Citizens < demo.MinCitizens { // 0 is demo's word for the default
				return &pasban.Error{Kind: pasban.Invalid, Where: "--citizens", Msg: fmt.Sprintf("%d citizens are too few for the story", o.Citizens),
					Hint: fmt.Sprintf("at least %d", demo.MinCitizens)}
			}
			o.JSON, o.Out = c.json, c.out
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Node = func(dir string) *exec.Cmd { return exec.Command(self, "demo-node", "--dir", dir) }
			sum, err := demo.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			if !sum.Passed {
				return exitCode(1)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.Once, "once", false, "end after the story")
	f.Uint64Var(&o.Seed, "seed", 1, "of the synthetic population: the same seed, the same people")
	f.StringVar(&o.Dir, "dir", "", "keep everything under this `directory` (a temporary one without it)")
	f.IntVar(&o.Citizens, "citizens", 1000, "how many synthetic citizens")
	return cmd
}

// demoNodeCmd is the demo's node: `pasban serve`, and the links that sign a
// visitor in as a synthetic person. Only demo starts it.
func (c *cli) demoNodeCmd() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:    "demo-node",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.config, c.json = filepath.Join(dir, "pasban.yaml"), true
			ctx, cancel := demo.WatchParent(cmd.Context())
			defer cancel()
			return c.serve(ctx, node.Options{
				Log: c.logger(),
				Extend: func(ctx context.Context, n *node.Node) (string, http.Handler, error) {
					return demo.Extend(ctx, dir, n)
				},
			})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the demo's directory")
	cmd.MarkFlagRequired("dir")
	return cmd
}
