// Command pasban-verify checks an agency's ledger and the receipts taken from
// it, without trusting the agency or anything that runs there.
//
// # What you need
//
// The ledger's verifier key, a line such as
//
//	land.example/ledger+e5b1bc0e+AaAhf7Ls…
//
// from somewhere other than the ledger itself (a gazette, a court file, an
// earlier audit): whoever could exchange the ledger could exchange the copy of
// the key beside it. Then one of
//
//	pasban-verify checkpoint --key KEY LEDGER [--old FILE]
//	pasban-verify receipt    --key KEY FILE...
//	pasban-verify statement  --key KEY FILE... [--old FILE]
//	pasban-verify audit      --key KEY LEDGER
//	pasban-verify table      --key KEY PROOF [ROWS]
//
// KEY is the key or a file that holds it. LEDGER is a directory (a copy of the
// agency's data/ledger) or an https address, such as
// https://land.example/ledger. FILE may be - for standard input.
//
// # What is checked
//
// checkpoint: the newest checkpoint is signed with the key. With --old, the
// file of a checkpoint that you kept from an earlier day: that one is signed
// too, and today's ledger contains all of it, unchanged and in its place. Keep
// the checkpoint after each audit (it is one small file, LEDGER/checkpoint).
//
// receipt: the fact in the receipt is in the ledger that the key signed for,
// word for word. FILE is the receipt as JSON, the PDF that it is attached to, or
// the texts of its QR codes, as a scanner gives them, one after the other in any
// order. What is told is told from the receipt itself; what the pages of a PDF
// show is not looked at. This needs no network and works years later.
//
// statement: the citizen's list in the file is whole up to the epoch that it
// names: no entry left out, moved, altered or put in, none cut off at its end.
// An empty list is proven, too; of entries that were destroyed, how many there
// were. With --old, a statement of the same citizen that you kept from an earlier
// day: this one goes on from it, every entry of then in its place. An entry that
// was lawfully hidden says until when; one that is hidden for longer than a day
// after that date does not hold. This needs no network either.
//
// audit: every leaf and every tile is rehashed; together they give the root
// that was signed. A file that is not what the root commits to is named. Leaves
// are counted by kind. Those of kind heads are the epochs of the citizens' lists:
// the newest epoch (LEDGER/heads) has their number, or there are two sets of
// lists, and different people are shown different ones.
//
// table: the proof (from `pasban sentinel prove`) is in the ledger that the key
// signed for. A proof of a row shows the row's last authorised version. With
// ROWS, the table's rows as PostgreSQL's COPY writes them (docs/OPERATING.md has
// the command), all of them together are what was authorised at the audit.
//
// With --witness, once for each witness you believe, the checkpoint (of the
// ledger, or in each receipt, statement and proof) must also bear the cosignatures of --need of
// them (all, without --need): each says that the ledger extended everything
// that the witness saw before, so that nobody is shown a ledger of their own.
//
// # What it says
//
// One line per check, beginning with "holds", "DOES NOT HOLD" or "could not
// tell". The exit status is 0 if everything holds, 1 if anything does not, and
// 2 if it could not be told (a file that cannot be read, no network, a wrong
// command line). --json prints one document instead, schema pasban.verify.v1.
//
// # What it must never do
//
// It writes nothing, follows no redirects, speaks plain http to this machine
// alone, and imports nothing of the running system: the parts are this folder,
// internal/ledger/tiles, internal/sentinel/rowtree, internal/vrf, package pasban,
// golang.org/x/mod/sumdb and filippo.io/edwards25519.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/ledger/tiles"
)

const usage = `usage:
  pasban-verify checkpoint --key KEY LEDGER [--old FILE]   signature, and consistency with an earlier checkpoint
  pasban-verify receipt    --key KEY FILE...               the fact is in the ledger (- reads standard input)
  pasban-verify statement  --key KEY FILE... [--old FILE]  the citizen's list is whole, and goes on from an earlier one
  pasban-verify audit      --key KEY LEDGER                rehash every leaf and tile
  pasban-verify table      --key KEY PROOF [ROWS]          a guarded table, or a row of it, against the ledger

KEY is the ledger's verifier key or a file that holds it; LEDGER a directory or an https address.
flags:
  --old FILE   a checkpoint, or a statement, kept from an earlier day
  --ca FILE    trust the authorities in this PEM file, and no others, for an https address
  --witness KEY   a witness's verifier key or a file that holds it; may be repeated
  --need K     how many of the witnesses must have cosigned (all of them without it)
  --json       one JSON document instead of lines
exit status: 0 everything holds, 1 something does not hold, 2 could not tell
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// command is what the command line asks for.
type command struct {
	name     string // checkpoint, receipt, statement, audit or table
	args     []string
	key      string
	old      string
	ca       string
	json     bool
	witness  []string
	need     int
	policy   *pasban.WitnessPolicy // nil without --witness
	verifier note.Verifier
	stdin    io.Reader
	stderr   io.Writer
	report   report
}

// run is main without the process around it. It returns the exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := &command{stdin: stdin, stderr: stderr}
	err := c.parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return 0
	case err != nil:
		c.fail(err)
		return 2
	}
	c.report = report{Schema: "pasban.verify.v1", Command: c.name, Key: c.key, Checks: []check{}}
	if !c.json {
		c.report.out = stdout
	}
	switch c.name {
	case "checkpoint":
		c.checkpoint(ctx)
	case "receipt":
		c.receipts()
	case "statement":
		c.statements()
	case "audit":
		c.audit(ctx)
	case "table":
		c.table()
	}
	c.report.conclude()
	if c.json {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		if err := enc.Encode(c.report); err != nil {
			return 2
		}
	}
	if c.report.cause != nil && c.json {
		c.fail(c.report.cause)
	}
	return c.report.Verdict.exit()
}

// parse reads the command line; flags may stand anywhere.
func (c *command) parse(args []string) error {
	f := flag.NewFlagSet("pasban-verify", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&c.key, "key", "", "")
	f.StringVar(&c.old, "old", "", "")
	f.StringVar(&c.ca, "ca", "", "")
	f.BoolVar(&c.json, "json", false, "")
	f.IntVar(&c.need, "need", 0, "")
	f.Func("witness", "", func(s string) error {
		c.witness = append(c.witness, s)
		return nil
	})
	for rest := args; ; {
		if err := f.Parse(rest); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return err
			}
			return wrong(err.Error())
		}
		if f.NArg() == 0 {
			break
		}
		c.args, rest = append(c.args, f.Arg(0)), f.Args()[1:]
	}
	if len(c.args) == 0 {
		return wrong("no command")
	}
	c.name, c.args = c.args[0], c.args[1:]
	files := c.name == "receipt" || c.name == "statement"
	switch {
	case !slices.Contains([]string{"checkpoint", "receipt", "statement", "audit", "table"}, c.name):
		return wrong(fmt.Sprintf("no command %q", c.name))
	case files && len(c.args) == 0:
		return wrong(c.name + " needs at least one file")
	case c.name == "table" && len(c.args) != 1 && len(c.args) != 2:
		return wrong("table needs a proof, and may have the table's rows")
	case !files && c.name != "table" && len(c.args) != 1:
		return wrong(c.name + " needs one ledger, a directory or an https address")
	case c.old != "" && c.name != "checkpoint" && c.name != "statement":
		return wrong("--old belongs to checkpoint and statement")
	case c.key == "":
		return &pasban.Error{Kind: pasban.Invalid, Msg: "the ledger's key is missing", Hint: "--key KEY, from somewhere other than the ledger itself"}
	}
	if err := c.readKey(); err != nil {
		return err
	}
	return c.readWitnesses()
}

func wrong(msg string) error {
	return &pasban.Error{Kind: pasban.Invalid, Msg: msg, Hint: "pasban-verify --help shows how"}
}

// readKey takes --key for a verifier key, or else for a file with one.
func (c *command) readKey() (err error) {
	isKey := func(text string) (err error) {
		c.verifier, err = note.NewVerifier(text)
		return err
	}
	bad := &pasban.Error{Kind: pasban.Invalid, Msg: "not a verifier key, and not a file that holds one", Where: "--key", Hint: "a line such as land.example/ledger+e5b1bc0e+AaAh…"}
	if c.key, err = tiles.KeyText(c.key, isKey); err == nil {
		err = isKey(c.key)
	}
	if err != nil {
		bad.Err = err
		return bad
	}
	return nil
}

// readWitnesses takes each --witness for a verifier key, or else for a file
// with one.
func (c *command) readWitnesses() (err error) {
	if len(c.witness) == 0 {
		if c.need != 0 {
			return wrong("--need belongs to --witness")
		}
		return nil
	}
	if c.need < 0 {
		return wrong("--need is less than 1")
	}
	if c.need == 0 {
		c.need = len(c.witness)
	}
	for i, k := range c.witness {
		if c.witness[i], err = tiles.KeyText(k, pasban.CheckWitnessKey); err != nil {
			return &pasban.Error{Kind: pasban.Invalid, Msg: "not a witness's verifier key, and not a file that holds one", Where: "--witness", Err: err}
		}
	}
	c.policy, err = pasban.NewWitnessPolicy(c.need, c.witness)
	return err
}

// fail prints an error for a person, or as JSON.
func (c *command) fail(err error) {
	if !c.json {
		fmt.Fprintf(c.stderr, "pasban-verify: %v\n", err)
		return
	}
	type body struct {
		Code    pasban.ErrorKind `json:"code"`
		Message string           `json:"message"`
		Where   string           `json:"where,omitempty"`
		Hint    string           `json:"hint,omitempty"`
	}
	b := body{Code: pasban.KindOf(err), Message: err.Error()}
	if e, ok := errors.AsType[*pasban.Error](err); ok {
		b.Where, b.Hint, b.Message = e.Where, e.Hint, e.Msg
		if e.Err != nil {
			b.Message += ": " + e.Err.Error()
		}
	}
	_ = json.NewEncoder(c.stderr).Encode(map[string]any{"schema": "pasban.error.v1", "error": b})
}
