package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"pasban"
	"pasban/examples"
	"pasban/internal/config"
	"pasban/internal/detect"
	"pasban/internal/detect/logs"
	"pasban/internal/detect/rulebook"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// detectFlags are the flags of pasban detect.
type detectFlags struct {
	rules     []string
	failOn    string
	format    string
	logsource string
}

// matchDoc is one match; what others rely on is in the first eight lines.
type matchDoc struct {
	Schema string         `json:"schema"`
	RuleID string         `json:"rule_id"`
	Title  string         `json:"title"`
	Level  string         `json:"level"`
	Tags   []string       `json:"tags"`
	Time   string         `json:"time"` // RFC 3339 UTC, "" if the event has none
	Source string         `json:"source"`
	Record int            `json:"record"` // the event's ordinal in source, from 0
	Fields map[string]any `json:"fields"`
	Why    []string       `json:"why"`
	Entity string         `json:"entity,omitempty"` // whom or what it is about
}

// detectReport tells on standard error of what could not be read.
type detectReport struct {
	Schema  string         `json:"schema"`
	Source  string         `json:"source"`
	Format  logs.Format    `json:"format"`
	Events  int            `json:"events"`
	Refused int            `json:"refused"`
	Samples []logs.Refusal `json:"samples"`
}

func (c *cli) detectCmd() *cobra.Command {
	var o detectFlags
	cmd := &cobra.Command{
		Use:   "detect FILE…",
		Short: "Run Sigma rules over log files",
		Long: `detect finds out what each file holds (Windows event logs, JSON, syslog, access
logs, Linux auditd, any of them in gzip) and prints what Sigma rules find in it,
with the reasons and the ATT&CK techniques. A directory stands for the files in
it, - for standard input. Memory stays bounded however large they are; what is
damaged or cannot be read is counted and told, and the rest is read.

Without --rules it runs the rules that Pasban comes with; they are about Pasban's
own events. 'pasban rules install' adds a collection such as SigmaHQ's.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return c.detect(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.rules, "rules", nil, "`directory` or file of Sigma rules; may be given several times")
	f.StringVar(&o.failOn, "fail-on", "", "exit with 1 if a match is of this `level` or above (informational, low, medium, high, critical)")
	f.StringVar(&o.format, "format", "", "what the files hold, instead of finding out: evtx, json, syslog, access, auditd, lines")
	f.StringVar(&o.logsource, "logsource", "", "what the events are, instead of finding out: `product=…,category=…,service=…`")
	return cmd
}

// detection is one run of pasban detect.
type detection struct {
	c       *cli
	engine  *detect.Engine
	options logs.Options
	failOn  detect.Level
	out     io.Writer // what people read; above the progress bar
	bars    *mpb.Progress

	events  int
	files   int
	refused int
	failed  bool
	errs    []error
	tally   map[*detect.Rule]int
	seen    map[detect.Logsource]int
}

func (c *cli) detect(ctx context.Context, o detectFlags, args []string) error {
	d := &detection{c: c, out: c.out, tally: map[*detect.Rule]int{}, seen: map[detect.Logsource]int{}}
	if err := d.configure(o); err != nil {
		return err
	}
	files, err := inputs(args)
	if err != nil {
		return err
	}
	if isTerminal(c.err) {
		d.bars = mpb.NewWithContext(ctx, mpb.WithOutput(c.err), mpb.WithWidth(60))
		if isTerminal(c.out) {
			d.out = d.bars // above the bar, on the same screen
		}
	}
	for _, f := range files {
		err := d.file(ctx, f.name)
		switch {
		case err == nil, f.found && errors.Is(err, logs.ErrBinary):
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			d.errs = append(d.errs, err)
		}
	}
	if err := d.matches(d.engine.Close()); err != nil { // windows that waited for their end
		d.errs = append(d.errs, err)
	}
	if d.bars != nil {
		d.bars.Wait()
		d.out = c.out
	}
	if !c.json {
		d.summary()
	}
	for _, err := range d.errs {
		c.fail(err)
	}
	switch {
	case len(d.errs) > 0:
		return exitCode(exitStatus(d.errs[0]))
	case d.failed:
		return exitCode(1)
	}
	return nil
}

// configure reads flags, rules and mapping.
func (d *detection) configure(o detectFlags) error {
	if o.failOn != "" {
		level, ok := detect.ParseLevel(o.failOn)
		if !ok {
			return &pasban.Error{Kind: pasban.Invalid, Msg: fmt.Sprintf("unknown level %q", o.failOn), Hint: "one of informational, low, medium, high, critical"}
		}
		d.failOn = level
	}
	formats := []logs.Format{"", logs.EVTX, logs.JSON, logs.Syslog, logs.Access, logs.Auditd, logs.Lines}
	if d.options.Format = logs.Format(o.format); !slices.Contains(formats, d.options.Format) {
		return &pasban.Error{Kind: pasban.Invalid, Msg: fmt.Sprintf("unknown format %q", o.format), Hint: "one of evtx, json, syslog, access, auditd, lines"}
	}
	source, err := parseLogsource(o.logsource)
	if err != nil {
		return err
	}
	d.options.Source = source
	if d.options.Mapping, err = logs.NewMapping(); err != nil {
		return err
	}
	var problems config.Problems
	if d.engine, problems, err = loadRules(o.rules); err != nil {
		return err
	}
	if len(problems) > 0 && d.c.json {
		d.c.fail(problems)
	} else if len(problems) > 0 {
		bad := map[string]bool{}
		for _, p := range problems {
			bad[p.File] = true
		}
		d.note("%d files of rules are left out, the first is %s; 'pasban rules lint' lists all", len(bad), problems[0].Error())
	}
	return nil
}

// loadRules loads the rules of paths that hold; without paths those that Pasban
// comes with.
func loadRules(paths []string) (*detect.Engine, config.Problems, error) {
	if len(paths) > 0 {
		return rulebook.Load(paths)
	}
	shipped, err := fs.Sub(examples.FS(), "rules")
	if err != nil {
		return nil, nil, err
	}
	engine, err := detect.LoadFS(shipped)
	return engine, nil, err
}

func parseLogsource(s string) ([]detect.Logsource, error) {
	if s == "" {
		return nil, nil
	}
	var source detect.Logsource
	for part := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(part, "=")
		into := map[string]*string{"product": &source.Product, "category": &source.Category, "service": &source.Service}[strings.TrimSpace(key)]
		if !ok || into == nil || value == "" {
			return nil, &pasban.Error{Kind: pasban.Invalid, Msg: fmt.Sprintf("%q is not a logsource", s), Hint: "for example product=linux,service=auth"}
		}
		*into = strings.TrimSpace(value)
	}
	return []detect.Logsource{source}, nil
}

// input is one file to look through.
type input struct {
	name  string
	found bool // in a directory: it need not be a log
}

// inputs lists the files that arguments stand for.
func inputs(args []string) ([]input, error) {
	var out []input
	for _, arg := range args {
		st, err := os.Stat(arg)
		if arg == "-" || err != nil || !st.IsDir() { // what cannot be opened is told when it is its turn
			out = append(out, input{name: arg})
			continue
		}
		err = filepath.WalkDir(arg, func(name string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				out = append(out, input{name, true})
			}
			return err
		})
		if err != nil {
			return nil, &pasban.Error{Kind: pasban.Unavailable, Where: arg, Msg: "cannot list the directory", Err: err}
		}
	}
	return out, nil
}

// file runs the rules over one file.
func (d *detection) file(ctx context.Context, name string) error {
	in := io.Reader(os.Stdin)
	size := int64(0)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return &pasban.Error{Kind: pasban.NotFound, Where: name, Msg: "cannot be opened", Err: reason(err)}
		}
		defer f.Close()
		if st, err := f.Stat(); err == nil {
			size = st.Size()
		}
		in = f
	}
	if d.bars != nil {
		bar := d.bars.AddBar(size, mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name(clean(filepath.Base(name))+" ")),
			mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f"), decor.AverageETA(decor.ET_STYLE_GO, decor.WCSyncSpace)))
		defer bar.Abort(true)
		if shown, err := bar.ProxyReader(in); err == nil {
			in = shown
		}
	}
	stream, err := logs.Open(in, d.options)
	if err != nil {
		return &pasban.Error{Kind: pasban.Invalid, Where: name, Msg: "cannot be read", Err: reason(err)}
	}
	d.files++
	for record := 0; ; record++ {
		ev, err := stream.Next()
		if err == nil {
			err = ctx.Err()
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return &pasban.Error{Kind: pasban.Unavailable, Where: name, Msg: fmt.Sprintf("cannot be read further, after %d events", record), Err: reason(err)}
		}
		d.events++
		d.source(ev)
		ev[whereKey] = where{name, record}
		if err := d.matches(d.engine.Match(ev)); err != nil {
			return err
		}
	}
	return d.report(name, stream.Report())
}

// reason is an error without the path that the message names already.
func reason(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// source counts an event for its logsources.
func (d *detection) source(ev pasban.Event) {
	switch s := ev[detect.LogsourceKey].(type) {
	case detect.Logsource:
		d.seen[s]++
	case []detect.Logsource:
		for _, one := range s {
			d.seen[one]++
		}
	}
}

// where is the place of an event: its file, and its ordinal there from 0.
type where struct {
	source string
	record int
}

// whereKey is the event's key that holds its place. A correlation may match long
// after the event that it names.
const whereKey = "pasban detect: where"

// matches prints matches.
func (d *detection) matches(ms []detect.Match) error {
	for _, m := range ms {
		at, _ := m.Event[whereKey].(where)
		if err := d.match(m, at.source, at.record); err != nil {
			return err
		}
	}
	return nil
}

// match prints one match.
func (d *detection) match(m detect.Match, source string, record int) error {
	d.tally[m.Rule]++
	d.failed = d.failed || d.failOn != 0 && m.Rule.Level >= d.failOn
	at := ""
	if !m.Time.IsZero() {
		at = m.Time.UTC().Format(time.RFC3339Nano)
	}
	if d.c.json {
		doc := matchDoc{
			Schema: "pasban.detect.v1", RuleID: m.Rule.ID, Title: m.Rule.Title, Level: m.Rule.Level.String(), Tags: m.Rule.Tags,
			Time: at, Source: source, Record: record, Fields: map[string]any{}, Why: m.Why, Entity: m.Entity,
		}
		if doc.Tags == nil {
			doc.Tags = []string{}
		}
		for name, v := range m.Event {
			if name != "time" && name != detect.LogsourceKey && name != whereKey {
				doc.Fields[name] = v
			}
		}
		return d.c.print(doc)
	}
	_, err := fmt.Fprintf(d.out, "%-13s %-24s %s  %s\n", strings.ToUpper(m.Rule.Level.String()), cmp.Or(at, "(no time)"),
		clean(m.Rule.Title), strings.Join(m.Rule.Techniques(), " "))
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "              %s, record %d", clean(source), record)
	if m.Entity != "" {
		fmt.Fprintf(d.out, ", %s", clean(m.Entity))
	}
	fmt.Fprintln(d.out)
	for _, why := range m.Why {
		fmt.Fprintf(d.out, "              · %s\n", clean(why))
	}
	return nil
}

// report tells of what could not be read.
func (d *detection) report(name string, rep logs.Report) error {
	d.refused += rep.Refused
	if rep.Refused == 0 {
		return nil
	}
	if d.c.json {
		e := &cli{out: d.c.err}
		return e.print(detectReport{"pasban.detect-report.v1", name, rep.Format, rep.Events, rep.Refused, rep.Samples})
	}
	first := rep.Samples[0]
	d.note("%s: %d places could not be read, the first at byte %d: %s", name, rep.Refused, first.Offset, first.Why)
	return nil
}

// note tells a person something beside the matches.
func (d *detection) note(format string, args ...any) {
	if d.c.json {
		return
	}
	to := d.c.err
	if d.bars != nil {
		to = d.bars
	}
	fmt.Fprintln(to, "pasban: "+clean(fmt.Sprintf(format, args...)))
}

// summary prints what was found, by rule.
func (d *detection) summary() {
	rules := slices.SortedFunc(maps.Keys(d.tally), func(a, b *detect.Rule) int {
		return cmp.Or(cmp.Compare(b.Level, a.Level), cmp.Compare(d.tally[b], d.tally[a]), cmp.Compare(a.Title, b.Title))
	})
	total := 0
	for _, n := range d.tally {
		total += n
	}
	if len(rules) > 0 {
		fmt.Fprintf(d.out, "\n%8s  %-13s  %-20s  %s\n", "MATCHES", "LEVEL", "ATT&CK", "RULE")
		for _, r := range rules {
			fmt.Fprintf(d.out, "%8d  %-13s  %-20s  %s\n", d.tally[r], r.Level, strings.Join(r.Techniques(), " "), clean(r.Title))
		}
		fmt.Fprintln(d.out)
	}
	fmt.Fprintf(d.out, "%d matches of %d rules out of %d, in %d events of %d files", total, len(rules), len(d.engine.Rules()), d.events, d.files)
	if d.refused > 0 {
		fmt.Fprintf(d.out, "; %d places could not be read", d.refused)
	}
	fmt.Fprintln(d.out)
	if d.events > 0 && !d.covered() {
		d.note("none of the %d rules is about these events; --rules names others", len(d.engine.Rules()))
	}
}

// covered reports whether any rule is about any of the events.
func (d *detection) covered() bool {
	for _, r := range d.engine.Rules() {
		for s := range d.seen {
			if r.Source.Covers(s) && r.Source != (detect.Logsource{}) {
				return true
			}
		}
	}
	return false
}

// clean makes text from a log fit to be shown: what could steer a terminal or
// turn text around is replaced.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '�'
		}
		return r
	}, s)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
