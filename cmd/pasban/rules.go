package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/detect"
	"pasban/internal/detect/logs"
	"pasban/internal/detect/rulebook"

	"github.com/spf13/cobra"
)

func (c *cli) rulesCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Check, test, list and install Sigma rules",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "lint PATH…",
			Short: "List what is wrong with rules, with file and line",
			Long: `lint reads the rules in directories or files and lists every mistake with file,
line and column. It exits with 1 if there is any.`,
			Args: cobra.MinimumNArgs(1),
			RunE: func(_ *cobra.Command, args []string) error { return c.rulesLint(args) },
		},
		&cobra.Command{
			Use:   "test PATH…",
			Short: "Run the regression cases of rules",
			Long: `test runs the cases that lie beside rules. Two forms are read: SigmaHQ's info.yml,
which names the rule, an input (.evtx, JSON, or any other log) and how many
events must match at least (0: none may), found in the given directories and by a rule's
regression_tests_path; and name.test.yml with facts of Pasban's own journal. An
input of which an event log and its JSON are both there is run in both forms.
It exits with 1 if a case fails or a rule does not load.`,
			Args: cobra.MinimumNArgs(1),
			RunE: func(_ *cobra.Command, args []string) error { return c.rulesTest(args) },
		},
		&cobra.Command{
			Use:   "list [PATH…]",
			Short: "List rules with level, logsource and ATT&CK techniques",
			Args:  cobra.ArbitraryArgs,
			RunE:  func(_ *cobra.Command, args []string) error { return c.rulesList(args) },
		},
		c.rulesInstallCmd(),
	)
	return cmd
}

// rulesDoc is what lint says in the end, and how many rules test had.
type rulesDoc struct {
	Schema   string `json:"schema"`
	Rules    int    `json:"rules"`
	Problems int    `json:"problems"`
}

func (c *cli) rulesLint(paths []string) error {
	engine, problems, err := rulebook.Load(paths)
	if err != nil {
		return err
	}
	doc := rulesDoc{"pasban.rules-lint.v1", len(engine.Rules()), len(problems)}
	if len(problems) > 0 {
		problems.Sort()
		c.fail(problems)
	}
	if c.json {
		err = c.print(doc)
	} else {
		_, err = fmt.Fprintf(c.out, "%d rules hold, %d problems\n", doc.Rules, doc.Problems)
	}
	if err == nil && len(problems) > 0 {
		return exitCode(1)
	}
	return err
}

// caseDoc is the outcome of one case.
type caseDoc struct {
	Schema string `json:"schema"`
	Rule   string `json:"rule"`
	Title  string `json:"title"`
	Name   string `json:"name"`
	Input  string `json:"input"`
	Want   int    `json:"want"`
	Got    int    `json:"got"`
	Passed bool   `json:"passed"`
	Error  string `json:"error,omitempty"`
}

func (c *cli) rulesTest(paths []string) error {
	engine, problems, err := rulebook.Load(paths)
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		c.fail(problems)
	}
	bad := len(problems) > 0
	if facts, err := c.factCases(paths); err != nil {
		bad = true
	} else if facts > 0 && !c.json {
		fmt.Fprintf(c.out, "%d files of cases with facts hold\n", facts)
	}
	cases, err := rulebook.Cases(paths)
	if err != nil {
		if _, ok := errors.AsType[config.Problems](err); !ok {
			return err
		}
		c.fail(err)
		bad = true
	}
	failed, err := c.runCases(engine, cases)
	if err != nil {
		return err
	}
	if bad || failed > 0 {
		return exitCode(1)
	}
	return nil
}

// factCases runs the cases in name.test.yml and returns how many files there are.
func (c *cli) factCases(paths []string) (n int, err error) {
	var dirs []string
	for _, p := range paths {
		found, err := filepath.Glob(filepath.Join(p, "*.test.yml"))
		if err == nil && len(found) > 0 {
			n += len(found)
			dirs = append(dirs, p)
		}
	}
	if n == 0 {
		return 0, nil
	}
	if err := detect.CheckCases(dirs); err != nil {
		c.fail(err)
		return n, err
	}
	return n, nil
}

// runCases runs each case with its own rule alone.
func (c *cli) runCases(engine *detect.Engine, cases []rulebook.Case) (failed int, err error) {
	mapping, err := logs.NewMapping()
	if err != nil {
		return 0, err
	}
	rules := map[string]*detect.Rule{}
	for _, r := range engine.Rules() {
		rules[r.ID] = r
	}
	tested := map[string]bool{}
	for _, one := range cases {
		doc := caseDoc{Schema: "pasban.rules-test.v1", Rule: one.Rule, Name: one.Name, Input: one.Input, Want: one.Want}
		if r := rules[one.Rule]; r == nil {
			doc.Error = "no rule with this id is loaded"
		} else {
			doc.Title = r.Title
			tested[r.ID] = true
			doc.Got, err = runCase(one, r, mapping)
			if err != nil {
				doc.Error = err.Error()
			}
		}
		doc.Passed = doc.Error == "" && one.Holds(doc.Got)
		if !doc.Passed {
			failed++
		}
		if err := c.printCase(doc); err != nil {
			return failed, err
		}
	}
	if !c.json {
		fmt.Fprintf(c.out, "%d of %d cases hold; %d of %d rules have one\n", len(cases)-failed, len(cases), len(tested), len(rules))
	}
	return failed, nil
}

func runCase(one rulebook.Case, r *detect.Rule, mapping *logs.Mapping) (int, error) {
	alone, err := detect.Load([]string{r.File})
	if err != nil {
		return 0, err
	}
	return one.Run(alone, mapping)
}

// printCase tells of every case in JSON, of failed ones for people.
func (c *cli) printCase(doc caseDoc) error {
	if c.json {
		return c.print(doc)
	}
	if doc.Passed {
		return nil
	}
	why := doc.Error
	if why == "" {
		why = fmt.Sprintf("%d events match, want %d", doc.Got, doc.Want)
	}
	_, err := fmt.Fprintf(c.out, "FAIL  %s (%s): %s: %s\n", clean(doc.Title), doc.Rule, clean(doc.Input), clean(why))
	return err
}

// ruleDoc is one rule of the list.
type ruleDoc struct {
	Schema     string           `json:"schema"`
	ID         string           `json:"id"`
	Title      string           `json:"title"`
	Level      string           `json:"level"`
	Status     string           `json:"status"`
	Author     string           `json:"author"`
	Logsource  detect.Logsource `json:"logsource"`
	Tags       []string         `json:"tags"`
	Techniques []string         `json:"techniques"`
	File       string           `json:"file"`
	Line       int              `json:"line"`
}

func (c *cli) rulesList(paths []string) error {
	engine, problems, err := loadRules(paths)
	if err != nil {
		return err
	}
	for _, r := range engine.Rules() {
		parts := []string{r.Source.Product, r.Source.Category, r.Source.Service}
		source := strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "/")
		if r.Correlates() {
			source = "correlation"
		}
		if c.json {
			err = c.print(ruleDoc{"pasban.rules-list.v1", r.ID, r.Title, r.Level.String(), r.Status, r.Author, r.Source, r.Tags, r.Techniques(), r.File, r.Line})
		} else {
			_, err = fmt.Fprintf(c.out, "%-13s  %s  %-34s  %-20s  %s\n", r.Level, r.ID, clean(source), strings.Join(r.Techniques(), " "), clean(r.Title))
		}
		if err != nil {
			return err
		}
	}
	if len(problems) > 0 {
		c.fail(problems)
		return exitCode(1)
	}
	return nil
}

func (c *cli) rulesInstallCmd() *cobra.Command {
	var to, name string
	cmd := &cobra.Command{
		Use:   "install DIR|ARCHIVE",
		Short: "Install a collection of rules with its licence",
		Long: `install copies the rules of a directory or an archive (.tar.gz, .tar, .zip), and
the licence files with them, into a directory of their own below --to; without
--to the first folder that rules: in the configuration names. Rules that do not
load are left out and listed, so that a node that reads the folder still starts.
Installing again under the same name replaces what was installed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return c.rulesInstall(args[0], to, name) },
	}
	cmd.Flags().StringVar(&to, "to", "", "`directory` to install into")
	cmd.Flags().StringVar(&name, "name", "", "the collection's `name`; without it, the archive's")
	return c.withConfig(cmd)
}

func (c *cli) rulesInstall(from, to, name string) error {
	if to == "" {
		cfg, err := config.Load(c.config)
		if err != nil {
			return err
		}
		for _, dir := range cfg.Rules {
			if st, err := os.Stat(dir); err == nil && st.IsDir() {
				to = dir
				break
			}
		}
		if to == "" {
			return &pasban.Error{Kind: pasban.Invalid, Where: c.config, Msg: "rules: names no directory that is there", Hint: "give --to"}
		}
	}
	done, err := rulebook.Install(from, to, name)
	if err != nil {
		return err
	}
	if c.json {
		return c.print(done)
	}
	for _, p := range done.Problems {
		fmt.Fprintf(c.err, "pasban: left out: %s\n", clean(p.Error()))
	}
	licence := "no licence file came with them: ask whose they are before you use them"
	if len(done.Licences) > 0 {
		licence = "under " + clean(strings.Join(done.Licences, ", "))
	}
	fmt.Fprintf(c.out, "%d rules in %s, %s; %d files left out\n", done.Rules, done.Dir, licence, done.LeftOut)
	return nil
}
