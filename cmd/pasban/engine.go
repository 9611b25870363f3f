package main

import (
	"pasban/internal/eventstore/engine"

	"github.com/spf13/cobra"
)

// eventEngine is the name of the command that a node runs its event engine by.
const eventEngine = "event-engine"

func (c *cli) eventEngineCmd() *cobra.Command {
	return &cobra.Command{
		Use:                eventEngine,
		Short:              "Keep events on disk; a node starts this itself",
		Hidden:             true,
		DisableFlagParsing: true, // they are the engine's
		RunE: func(_ *cobra.Command, args []string) error {
			if code := engine.Main(args); code != 0 {
				return exitCode(code)
			}
			return nil
		},
	}
}
