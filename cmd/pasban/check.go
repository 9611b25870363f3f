package main

import (
	"fmt"
	"time"

	"pasban/internal/config"
	"pasban/internal/detect"
	"pasban/internal/node"

	"github.com/spf13/cobra"
)

type checkDoc struct {
	Schema   string `json:"schema"`
	File     string `json:"file"`
	Sites    int    `json:"sites"`
	Services int    `json:"services"`
	Policies int    `json:"policies"`
	Rules    int    `json:"rules"`
	// Warnings are about what holds now and will want a hand, such as exclusions
	// of the firewall that end within fourteen days or have ended.
	Warnings []string `json:"warnings,omitempty"`
}

func (c *cli) checkCmd() *cobra.Command {
	var schema bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Validate configuration, services, policies and rules without starting anything",
		Long: `check reads everything that serve would read and lists all that is wrong, each
with file, line and column; rules must also do what the cases beside them say.
It opens no database and listens nowhere.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if schema {
				_, err := c.out.Write(config.Schema())
				return err
			}
			s, err := node.Load(c.config)
			if err != nil {
				return err
			}
			if err := detect.CheckCases(s.Config.Rules); err != nil {
				return err
			}
			doc := checkDoc{"pasban.check.v1", s.Config.File, len(s.Config.Sites), len(s.Services), s.Policies.Len(), len(s.Rules.Rules()), s.Config.Warnings(time.Now())}
			if c.json {
				return c.print(doc)
			}
			for _, w := range doc.Warnings {
				fmt.Fprintf(c.out, "WARNING  %s\n", w)
			}
			fmt.Fprintf(c.out, "%s holds: %d sites, %d services, %d policies, %d rules\n",
				doc.File, doc.Sites, doc.Services, doc.Policies, doc.Rules)
			return nil
		},
	}
	cmd.Flags().BoolVar(&schema, "schema", false, "print the JSON Schema of pasban.yaml, for completion in editors")
	return c.withConfig(cmd)
}
