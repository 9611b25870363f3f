package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"pasban"
	"pasban/internal/durable"
	"pasban/internal/ledger/follow"
	"pasban/internal/ledger/tiles"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// watchDoc is the JSON form of one look at a ledger.
type watchDoc struct {
	Schema string `json:"schema"` // pasban.ledger-watch.v1
	Ledger string `json:"ledger"`
	follow.Report
}

// exportDoc is the JSON form of a copy that was made.
type exportDoc struct {
	Schema string `json:"schema"` // pasban.ledger-export.v1
	Origin string `json:"origin"`
	Size   int64  `json:"size"`
	Root   string `json:"root"`
	Dir    string `json:"dir"`
}

// ledgerFlags say which ledger, and who is believed.
type ledgerFlags struct {
	key, ca string
	witness []string
	need    int

	state string
	keys  []string
	every time.Duration
	once  bool
}

func (c *cli) ledgerCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ledger",
		Short: "Any ledger, from outside: follow it, copy it, show that its promises are kept",
		Long: `These commands need no node and no rights: they read what a ledger publishes, and
believe nothing but its key. LEDGER is an https address, such as
https://land.example/ledger, or a directory. Exit status: 0 everything holds,
1 something does not, 2 it could not be told.`,
	}
	var o ledgerFlags
	f := cmd.PersistentFlags()
	f.StringVar(&o.key, "key", "", "the ledger's verifier `key`, or a file that holds it, from somewhere other than the ledger")
	f.StringVar(&o.ca, "ca", "", "trust the authorities in this PEM `file`, and no others")
	f.StringArrayVar(&o.witness, "witness", nil, "a witness's verifier `key`, or a file that holds it, whose cosignature is needed; may be repeated")
	f.IntVar(&o.need, "need", 0, "how many of the witnesses must have cosigned (all of them without it)")
	cmd.AddCommand(c.ledgerWatch(&o), c.ledgerProve(&o), c.ledgerExport(&o))
	return cmd
}

func (c *cli) ledgerWatch(o *ledgerFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "watch LEDGER",
		Short: "Follow a ledger: it grows and never changes; and what is new about you",
		Long: `watch reads the ledger again and again. Each time the newest checkpoint must
contain all of the one before, and every new leaf must be the one that it commits
to. A ledger that went back, was forked or hides a leaf is told as an ALARM.

With --watch-key (downloaded from the page "Who looked at my data") it also tells
when there is something new about you. Nobody learns from it who watches.

Keep what was seen with --state FILE: then the next run begins where this one
ended, and a past that was changed meanwhile is found.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withLedger(o, args[0], func(f *follow.Follower) error { return c.watch(cmd.Context(), f, o, args[0]) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.state, "state", "", "the `file` that keeps what was seen")
	f.StringArrayVar(&o.keys, "watch-key", nil, "a `file` with a watch key; may be repeated")
	f.DurationVar(&o.every, "every", 30*time.Second, "how often to look")
	f.BoolVar(&o.once, "once", false, "look once and end")
	return cmd
}

func (c *cli) ledgerProve(o *ledgerFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "prove LEDGER PROMISE...",
		Short: "Show that promises were kept (values of the header Pasban-Promise)",
		Long: `prove takes promises that the ledger's key gave, as they stood in the header
Pasban-Promise of an answer, and proves that the leaves are in the ledger. It
opens nobody's data. With --json it prints each proof (pasban.inclusion.v1). A
promise that should be kept by now and is not is evidence: keep it.`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withLedger(o, args[0], func(f *follow.Follower) error { return c.prove(cmd.Context(), f, args[1:]) })
		},
	}
}

func (c *cli) ledgerExport(o *ledgerFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "export LEDGER DIR",
		Short: "Copy a ledger, rehashed, to where any static file server can serve it",
		Long: `export copies a ledger's public files (C2SP tlog-tiles) into DIR, or goes on with
the copy that is there. Every file is rehashed against the signed checkpoint,
which is written last. A ledger that does not contain all of the copy is refused.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withLedger(o, args[0], func(f *follow.Follower) error { return c.export(cmd.Context(), f, args[1]) })
		},
	}
}

// withLedger opens the ledger that the command line names and runs do on it.
func (c *cli) withLedger(o *ledgerFlags, ledger string, do func(*follow.Follower) error) error {
	if o.key == "" {
		return &pasban.Error{Kind: pasban.Invalid, Where: "--key", Msg: "the ledger's key is missing", Hint: "take it from somewhere other than the ledger itself"}
	}
	keys, err := verifiers("--key", []string{o.key})
	if err != nil {
		return err
	}
	f := &follow.Follower{Verifier: keys[0]}
	if f.Policy, err = o.policy(); err != nil {
		return err
	}
	src, done, err := tiles.Open(ledger, tiles.Access{Agent: "pasban", CA: o.ca})
	if err != nil {
		return err
	}
	defer done()
	f.Source = src
	f.Site, _ = src.(*tiles.Site)
	for _, name := range o.keys {
		data, err := os.ReadFile(name)
		if err == nil {
			var k pasban.WatchKey
			if k, err = follow.ParseKey(data); err == nil && k.Origin != keys[0].Name() {
				err = fmt.Errorf("it is for the ledger %q", k.Origin)
			}
			f.Keys = append(f.Keys, k)
		}
		if err != nil {
			return &pasban.Error{Kind: pasban.Invalid, Where: name, Msg: "this watch key cannot be used", Err: err}
		}
	}
	if len(f.Keys) > 0 && f.Site == nil {
		return &pasban.Error{Kind: pasban.Invalid, Where: "--watch-key", Msg: "labels are published at an address, not in a directory", Hint: "give the ledger's https address"}
	}
	return do(f)
}

func (o *ledgerFlags) policy() (*pasban.WitnessPolicy, error) {
	if len(o.witness) == 0 {
		if o.need != 0 {
			return nil, &pasban.Error{Kind: pasban.Invalid, Where: "--need", Msg: "--need belongs to --witness"}
		}
		return nil, nil
	}
	keys := slices.Clone(o.witness)
	for i, k := range keys {
		var err error
		if keys[i], err = tiles.KeyText(k, pasban.CheckWitnessKey); err != nil {
			return nil, &pasban.Error{Kind: pasban.Invalid, Where: "--witness", Msg: "not a witness's verifier key, and not a file that holds one", Err: err}
		}
	}
	need := o.need
	if need == 0 {
		need = len(keys)
	}
	return pasban.NewWitnessPolicy(need, keys)
}

// untold says that something could not be told.
func (c *cli) untold(err error) error {
	if pasban.KindOf(err) == pasban.Invalid {
		return err
	}
	c.fail(err)
	return exitCode(2)
}

// watch follows a ledger until ctx ends, or looks once.
func (c *cli) watch(ctx context.Context, f *follow.Follower, o *ledgerFlags, ledger string) error {
	if o.every < time.Second {
		return &pasban.Error{Kind: pasban.Invalid, Where: "--every", Msg: "less than a second"}
	}
	if err := loadState(f, o.state); err != nil {
		return err
	}
	alarmed, trouble := false, ""
	for ctx.Err() == nil {
		before := f.State
		r, err := f.Step(ctx)
		if ctx.Err() != nil {
			break
		}
		if err != nil && (o.once || pasban.KindOf(err) == pasban.Invalid) {
			return c.untold(err)
		}
		if err != nil {
			if err.Error() != trouble { // once, not at every look
				c.fail(err)
			}
			trouble = err.Error()
		} else {
			trouble = ""
			alarmed = alarmed || len(r.Findings) > 0
			if err := c.printWatch(ledger, r); err != nil {
				return err
			}
			if err := saveState(f, o.state, before); err != nil {
				return err
			}
		}
		if o.once {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(o.every):
		}
	}
	if alarmed {
		return exitCode(1)
	}
	return nil
}

func (c *cli) printWatch(ledger string, r follow.Report) error {
	if c.json {
		return c.print(watchDoc{"pasban.ledger-watch.v1", ledger, r})
	}
	at := r.Time.Format(time.RFC3339)
	for _, finding := range r.Findings {
		fmt.Fprintf(c.out, "%s ALARM %s: %s\n", at, finding.Check, clean(finding.Msg))
	}
	if len(r.Findings) > 0 {
		return nil
	}
	var kinds []string
	for _, k := range slices.Sorted(maps.Keys(r.Kinds)) {
		name := string(k)
		if name == "" {
			name = "of a kind not known here"
		}
		kinds = append(kinds, fmt.Sprintf("%d %s", r.Kinds[k], name))
	}
	if r.New > 0 {
		fmt.Fprintf(c.out, "%s holds: %s, new are %s\n", at, tiles.Leaves(r.Size), strings.Join(kinds, ", "))
	} else {
		fmt.Fprintf(c.out, "%s holds: %s, nothing new\n", at, tiles.Leaves(r.Size))
	}
	for _, epoch := range r.Mine {
		fmt.Fprintf(c.out, "%s there is something new about you (epoch %d): look at your page\n", at, epoch)
	}
	return nil
}

func loadState(f *follow.Follower, name string) error {
	if name == "" {
		return nil
	}
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		f.State, err = follow.ParseState(data)
	}
	if err != nil {
		return &pasban.Error{Kind: pasban.Invalid, Where: name, Msg: "what was seen before cannot be read", Err: err}
	}
	return nil
}

// saveState keeps what was seen, if it is more than before.
func saveState(f *follow.Follower, name string, before follow.State) error {
	if name == "" || f.State == before {
		return nil
	}
	data, err := json.MarshalIndent(f.State, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(name, append(data, '\n'), 0o600)
}

func (c *cli) prove(ctx context.Context, f *follow.Follower, promises []string) error {
	code := 0
	for _, header := range promises {
		proof, err := f.Prove(ctx, header)
		problem, ok := errors.AsType[tiles.Problem](err)
		switch {
		case ok:
			code = 1
			if err := c.broken(header, string(problem)); err != nil {
				return err
			}
		case err != nil && code == 0:
			return c.untold(err)
		case err != nil:
			c.fail(err)
		case c.json:
			if err := c.print(proof); err != nil {
				return err
			}
		default:
			cp, _, _ := strings.Cut(strings.TrimPrefix(proof.Checkpoint, proof.Origin+"\n"), "\n")
			fmt.Fprintf(c.out, "holds: leaf %d, promised at %s, is in the ledger of %s leaves\n", proof.Index, proof.Promised.Format(time.RFC3339), cp)
		}
	}
	if code != 0 {
		return exitCode(code)
	}
	return nil
}

// broken tells of a promise that was not kept.
func (c *cli) broken(promise, problem string) error {
	if c.json {
		return c.print(struct {
			Schema  string `json:"schema"`
			Promise string `json:"promise"`
			Problem string `json:"problem"`
		}{"pasban.broken-promise.v1", promise, problem})
	}
	fmt.Fprintf(c.out, "DOES NOT HOLD: %s\n", clean(problem))
	return nil
}

func (c *cli) export(ctx context.Context, f *follow.Follower, dir string) error {
	progress, end := c.leafProgress()
	cp, err := f.Mirror(ctx, dir, progress)
	end()
	if problem, ok := errors.AsType[tiles.Problem](err); ok {
		fmt.Fprintf(c.err, "DOES NOT HOLD: %s\n", clean(string(problem)))
		return exitCode(1)
	}
	if err != nil {
		return c.untold(err)
	}
	if c.json {
		return c.print(exportDoc{"pasban.ledger-export.v1", cp.Origin, cp.N, cp.Hash.String(), dir})
	}
	fmt.Fprintf(c.out, "holds: %s of %s are in %s\n", tiles.Leaves(cp.N), cp.Origin, dir)
	return nil
}

// leafProgress shows on a terminal how many leaves were read.
func (c *cli) leafProgress() (progress func(done, total int64), end func()) {
	if c.json || !isTerminal(c.err) {
		return nil, func() {}
	}
	p := mpb.New(mpb.WithOutput(c.err))
	bar := p.AddBar(0, mpb.BarRemoveOnComplete(), mpb.AppendDecorators(decor.CountersNoUnit("%d of %d leaves")))
	return func(done, total int64) {
			bar.SetTotal(total, false)
			bar.SetCurrent(done)
		}, func() {
			bar.Abort(true)
			p.Wait()
		}
}
