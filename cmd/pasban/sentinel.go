package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/node"
	"pasban/internal/sentinel"

	"github.com/spf13/cobra"
)

// sentinelDoc is the JSON form of what the sentinel's commands say.
type sentinelDoc struct {
	Schema      string                 `json:"schema"` // pasban.sentinel.v1
	Tables      []sentinel.Status      `json:"tables,omitempty"`
	Differences []sentinel.Difference  `json:"differences,omitempty"`
	Audits      []sentinel.AuditResult `json:"audits,omitempty"`
	Requests    []sentinel.Request     `json:"requests,omitempty"`
}

const sentinelSchema = "pasban.sentinel.v1"

func (c *cli) sentinelCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sentinel",
		Short: "Guarded tables: status, baseline, audit, repair",
		Long: `The sentinel watches tables of existing PostgreSQL services (guard: in the
configuration). A running node does the work; without one, these commands do it
themselves. Exit status 1: a row is not what was authorised, or a table is not
guarded.`,
	}
	cmd.AddCommand(c.sentinelStatus(), c.sentinelBaseline(), c.sentinelAudit(), c.sentinelRepair(), c.sentinelProve())
	return cmd
}

// withSentinel runs do on the guard of the configured node.
func (c *cli) withSentinel(ctx context.Context, work bool, do func(*node.Sentinel, *config.Config) error) error {
	cfg, err := config.Load(c.config)
	if err != nil {
		return err
	}
	if len(cfg.Guard) == 0 {
		return &pasban.Error{Kind: pasban.Invalid, Where: cfg.File, Msg: "no table is guarded", Hint: "guard: names tables"}
	}
	s, err := node.OpenSentinel(ctx, cfg, c.logger(), work)
	if err != nil {
		return err
	}
	defer s.Close()
	return do(s, cfg)
}

// tableNames are the tables that a command is about: those that are named, or all.
func tableNames(cfg *config.Config, args []string) []string {
	if len(args) > 0 {
		return args
	}
	for _, g := range cfg.Guard {
		args = append(args, g.Name)
	}
	return args
}

func (c *cli) sentinelStatus() *cobra.Command {
	return c.withConfig(&cobra.Command{
		Use:   "status",
		Short: "How each guarded table is, and which rows differ",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withSentinel(cmd.Context(), false, func(s *node.Sentinel, cfg *config.Config) error {
				list, err := s.Status(cmd.Context())
				if err != nil {
					return err
				}
				doc := sentinelDoc{Schema: sentinelSchema, Tables: list}
				good := true
				for _, st := range list {
					good = good && st.OK()
					more, err := s.Differences(cmd.Context(), st.Table)
					if err != nil {
						return err
					}
					doc.Differences = append(doc.Differences, more...)
				}
				if doc.Requests, err = s.Waiting(cmd.Context()); err != nil {
					return err
				}
				if c.json {
					err = c.print(doc)
				} else {
					c.printGuard(doc)
				}
				if err == nil && !good {
					return exitCode(1)
				}
				return err
			})
		},
	})
}

func (c *cli) printGuard(doc sentinelDoc) {
	for _, st := range doc.Tables {
		word := "guarded "
		if !st.OK() {
			word = "PROBLEM "
		}
		fmt.Fprintf(c.out, "%s %s (%s): %d rows, %d bytes of WAL behind, last audit %s\n", word, st.Table, st.Source, st.Rows, st.LagBytes, orDash(st.Audit))
		for _, p := range st.Problems() {
			fmt.Fprintf(c.out, "          %s\n", p)
		}
		if st.Baseline != "" {
			attested := "not yet confirmed by a second person"
			if st.Attested {
				attested = "confirmed by a second person"
			}
			fmt.Fprintf(c.out, "          baseline of %s from %q, answered for by %q, %s; %d rows contested\n", st.Taken, st.Origin, st.Attests, attested, st.Contest)
		}
	}
	c.printDifferences(doc.Differences)
	for _, r := range doc.Requests {
		fmt.Fprintf(c.out, "WAITS     for a supervisor (console, Tables): %s of %s, asked by %s: %s\n", r.Kind, r.Table, r.By, r.Reason)
	}
}

func (c *cli) printDifferences(list []sentinel.Difference) {
	text := func(s *string) string {
		if s == nil {
			return "(no row)"
		}
		return fmt.Sprintf("%q", *s)
	}
	for _, d := range list {
		fmt.Fprintf(c.out, "DIFFERS   %s row %q, %s\n          id         %s\n          authorised %s\n          found      %s\n          why        %s\n", d.Table, d.Key, d.Kind, d.ID, text(d.Before), text(d.After), d.Why)
		if d.Contested {
			fmt.Fprintf(c.out, "          contested  since the baseline\n")
		}
		if d.By != "" {
			fmt.Fprintf(c.out, "          by         %s\n", d.By)
		}
		fmt.Fprintf(c.out, "          alarm      %s\n          proof      fact %s\n", orDash(d.Fact), orDash(d.Leaf))
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (c *cli) sentinelBaseline() *cobra.Command {
	var p sentinel.Provenance
	var again, sql bool
	var contested string
	cmd := &cobra.Command{
		Use:   "baseline TABLE",
		Short: "Take a table as it is, and guard it from then on",
		Long: `baseline prepares the database (a publication, and a trigger that says who
changes the table), reads every row and puts a commitment to them into the
ledger. What is in the table before cannot be proven by it: say where the rows
come from and which office answers for them. A supervisor then confirms that on
the console. A baseline that breaks off goes on where it was.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if contested != "" {
				var err error
				if p.Contested, err = readLines(contested); err != nil {
					return err
				}
			}
			return c.withSentinel(cmd.Context(), !sql, func(s *node.Sentinel, cfg *config.Config) error {
				if sql {
					text, err := s.SetupSQL(args[0])
					fmt.Fprint(c.out, text)
					return err
				}
				return c.await(cmd.Context(), s, sentinel.Request{Table: args[0], Kind: sentinel.KindBaseline, Provenance: p, Again: again})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.Origin, "from", "", "where the rows come from, in `words`")
	f.StringVar(&p.Attests, "attested-by", "", "the `office` that answers for them")
	f.StringVar(&contested, "contested", "", "`file` with the keys of rows that somebody contests, one a line")
	f.BoolVar(&again, "again", false, "in place of a baseline that is there: every difference is taken as it is")
	f.BoolVar(&sql, "print-sql", false, "print what the database needs, for its administrator, and do nothing")
	return c.withConfig(cmd)
}

func readLines(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, &pasban.Error{Kind: pasban.Invalid, Where: name, Msg: "not readable", Err: err}
	}
	defer f.Close()
	var out []string
	for in := bufio.NewScanner(f); in.Scan(); {
		if line := in.Text(); strings.TrimSpace(line) != "" {
			out = append(out, line)
		}
	}
	return out, nil
}

// await makes a request, shows its progress, and prints what came of it.
func (c *cli) await(ctx context.Context, s *node.Sentinel, r sentinel.Request) error {
	r, err := s.Ask(ctx, node.Operator(), r)
	if err != nil {
		return err
	}
	r, err = s.Await(ctx, r.ID, func(text string) {
		if !c.json {
			fmt.Fprintln(c.err, text)
		}
	})
	if err != nil {
		return err
	}
	doc := sentinelDoc{Schema: sentinelSchema}
	if st := r.Result.Status; st != nil {
		doc.Tables = []sentinel.Status{*st}
	}
	if a := r.Result.Audit; a != nil {
		doc.Audits, doc.Differences = []sentinel.AuditResult{*a}, a.Differences
	}
	if c.json {
		return c.print(doc)
	}
	for _, st := range doc.Tables {
		fmt.Fprintf(c.out, "%s: %d rows are the baseline, fact %s\n", st.Table, st.Rows, st.Baseline)
	}
	c.printAudits(doc.Audits)
	if r.State == "waiting" {
		fmt.Fprintf(c.out, "request %s waits for a supervisor, on the console under Tables\n", r.ID)
	}
	return nil
}

func (c *cli) printAudits(list []sentinel.AuditResult) {
	for _, a := range list {
		if a.Root == a.Authorised {
			fmt.Fprintf(c.out, "%s: %d rows are what was authorised, in %d ms (fact %s)\n", a.Table, a.Rows, a.MS, a.Fact)
			continue
		}
		fmt.Fprintf(c.out, "%s: %d rows, authorised are %d; %d differ, in %d ms (fact %s)\n", a.Table, a.Rows, a.Expected, len(a.Differences), a.MS, a.Fact)
		if a.More > 0 {
			fmt.Fprintf(c.out, "%d more parts of the table differ and were not compared row by row\n", a.More)
		}
		c.printDifferences(a.Differences)
	}
}

func (c *cli) sentinelAudit() *cobra.Command {
	return c.withConfig(&cobra.Command{
		Use:   "audit [TABLE…]",
		Short: "Compare tables with the ledger now; exit status 1 on any difference",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withSentinel(cmd.Context(), true, func(s *node.Sentinel, cfg *config.Config) error {
				doc := sentinelDoc{Schema: sentinelSchema}
				good := true
				for _, name := range tableNames(cfg, args) {
					r, err := s.Ask(cmd.Context(), node.Operator(), sentinel.Request{Table: name, Kind: sentinel.KindAudit})
					if err != nil {
						return err
					}
					if r, err = s.Await(cmd.Context(), r.ID, nil); err != nil {
						return err
					}
					a := *r.Result.Audit
					good = good && a.Root == a.Authorised
					doc.Audits = append(doc.Audits, a)
				}
				if c.json {
					if err := c.print(doc); err != nil {
						return err
					}
				} else {
					c.printAudits(doc.Audits)
				}
				if !good {
					return exitCode(1)
				}
				return nil
			})
		},
	})
}

func (c *cli) sentinelRepair() *cobra.Command {
	var r sentinel.Request
	var all bool
	cmd := &cobra.Command{
		Use:   "repair TABLE [ROW-ID…]",
		Short: "Show rows that differ with their last authorised version; ask for them to be put back",
		Long: `Without ids and without --all, repair shows the rows that differ and changes
nothing (exit status 1 if there are any). With them it asks for those rows to be
put back to their last authorised version, which is done when a supervisor has
approved it on the console.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Table, r.Rows, r.Kind = args[0], args[1:], sentinel.KindRepair
			return c.withSentinel(cmd.Context(), false, func(s *node.Sentinel, cfg *config.Config) error {
				list, err := s.Differences(cmd.Context(), r.Table)
				if err != nil {
					return err
				}
				if all {
					for _, d := range list {
						r.Rows = append(r.Rows, d.ID)
					}
				}
				if len(r.Rows) > 0 {
					return c.await(cmd.Context(), s, r)
				}
				if c.json {
					err = c.print(sentinelDoc{Schema: sentinelSchema, Differences: list})
				} else {
					c.printDifferences(list)
				}
				if err == nil && len(list) > 0 {
					return exitCode(1)
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every row that differs")
	cmd.Flags().StringVar(&r.Reason, "reason", "", "why, in `words`")
	return c.withConfig(cmd)
}

func (c *cli) sentinelProve() *cobra.Command {
	var row string
	cmd := &cobra.Command{
		Use:   "prove TABLE",
		Short: "Print a proof for pasban-verify table: of the last audit, or of a row's last authorised version",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withSentinel(cmd.Context(), true, func(s *node.Sentinel, cfg *config.Config) error {
				r, err := s.Ask(cmd.Context(), node.Operator(), sentinel.Request{Table: args[0], Kind: sentinel.KindProve, Target: row})
				if err != nil {
					return err
				}
				if r, err = s.Await(cmd.Context(), r.ID, nil); err != nil {
					return err
				}
				p, err := s.Proof(cmd.Context(), cfg, *r.Result.Proof)
				if err != nil {
					return err
				}
				return c.print(p)
			})
		},
	}
	cmd.Flags().StringVar(&row, "row", "", "the row's `key`, as COPY writes it")
	return c.withConfig(cmd)
}
