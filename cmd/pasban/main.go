// Command pasban guards a government service: it runs a node, shows a whole
// agency under attack, and checks what it is given before anything listens.
//
// There is one file per command here: flags in, exit codes out. What a command
// does lives in the rooms under internal/. Exit codes: 0 done, 1 it did not
// hold or failed, 2 the input was bad. With --json every command prints one
// JSON document with a schema name, and errors as pasban.error.v1 on standard
// error.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"pasban"
	"pasban/internal/config"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run()) }

// run is main with its exit code, so that tests can call it.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := &cli{out: os.Stdout, err: os.Stderr}
	cmd := c.root()
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code)
	}
	if _, ok := errors.AsType[*pasban.Error](err); !ok && !c.understood {
		err = &pasban.Error{Kind: pasban.Invalid, Msg: err.Error(), Hint: "see 'pasban --help'"}
	}
	c.fail(err)
	return exitStatus(err)
}

// cli is what the commands share: where they print, and how.
type cli struct {
	out, err   io.Writer
	json       bool
	config     string
	understood bool // the command line was: what fails now is not its fault
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:                "pasban",
		Short:              "Keeps watch over a government service: no plaintext without a reason, no silent look, no silent change",
		SilenceUsage:       true,
		SilenceErrors:      true,
		DisableSuggestions: true, // an error is one line
		PersistentPreRun:   func(*cobra.Command, []string) { c.understood = true },
	}
	root.SetOut(c.out)
	root.SetErr(c.err)
	root.PersistentFlags().BoolVar(&c.json, "json", false, "print JSON documents instead of text")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &pasban.Error{Kind: pasban.Invalid, Msg: err.Error(), Hint: "see '" + cmd.CommandPath() + " --help'"}
	})
	root.AddCommand(c.serveCmd(), c.demoCmd(), c.demoNodeCmd(), c.eventEngineCmd(), c.checkCmd(), c.statusCmd(), c.userCmd(), c.witnessCmd(), c.ledgerCmd(), c.sentinelCmd(), c.detectCmd(), c.rulesCmd(), c.versionCmd())
	return root
}

// withConfig adds the flag that names the configuration file.
func (c *cli) withConfig(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVarP(&c.config, "config", "c", "pasban.yaml", "the node's configuration `file`")
	return cmd
}

// exitCode ends a command that has already said what there is to say.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// exitStatus maps an error to the exit code of the contract: 2 for input that
// is wrong, 1 for everything else.
func exitStatus(err error) int {
	if _, ok := errors.AsType[config.Problems](err); ok {
		return 2
	}
	if e, ok := errors.AsType[*pasban.Error](err); ok && e.Kind == pasban.Invalid {
		return 2
	}
	return 1
}

// errorDoc is the JSON form of an error.
type errorDoc struct {
	Schema string    `json:"schema"`
	Error  errorBody `json:"error"`
}

type errorBody struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Where   string `json:"where,omitempty"`
	Hint    string `json:"hint,omitempty"`
}

// fail prints an error for a person, or as JSON: one document an error, one
// for each problem of a file.
func (c *cli) fail(err error) {
	if ps, ok := errors.AsType[config.Problems](err); ok {
		for _, p := range ps {
			c.failOne(p.Error(), errorBody{Code: string(pasban.Invalid), Message: p.Msg, Where: p.Where(), Hint: p.Hint})
		}
		return
	}
	body := errorBody{Code: "failed", Message: err.Error()}
	if e, ok := errors.AsType[*pasban.Error](err); ok {
		body = errorBody{Code: string(e.Kind), Message: e.Msg, Where: e.Where, Hint: e.Hint}
		if e.Err != nil {
			body.Message += ": " + e.Err.Error()
		}
	}
	c.failOne(err.Error(), body)
}

func (c *cli) failOne(text string, body errorBody) {
	if !c.json {
		fmt.Fprintln(c.err, "pasban: "+text)
		return
	}
	json.NewEncoder(c.err).Encode(errorDoc{Schema: "pasban.error.v1", Error: body})
}

// print writes one JSON document.
func (c *cli) print(doc any) error {
	enc := json.NewEncoder(c.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(doc)
}
