// Command bench runs Pasban's comparisons and writes docs/benchmarks.md.
//
// There are two kinds. The firewall is compared with its peers as operators
// run them: every server is a process of its own (peers.go, setup.go, child.go)
// to which this one sends requests (load.go, mix.go); waf.go has the list and
// report.go what is made of it. Everything else is a Go benchmark of a package,
// whose test binary is built once (main.go).
//
// Both run everything in turn, the whole list again and again, and report
// medians over the rounds, and ratios taken round by round: on a shared machine
// only two figures of the same round compare. Nothing here decides about
// success.
//
// `bench flood` plays a flood against a gateway in a process of its own
// instead, and prints what became of everybody (flood.go).
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// row compares one benchmark with another in one metric.
type row struct {
	what   string
	bench  string // name as `go test -bench` prints it, without the -N
	than   string // what it is compared with; "" for none
	metric string
}

// table is one section of the document.
type table struct {
	title, says string
	pkg         string
	rows        []row
}

// sized are rows of one benchmark at 1, 8 and 64 clients or writers.
func sized(what, bench, than, metric, unit string) (out []row) {
	for _, n := range []int{1, 8, 64} {
		at := fmt.Sprintf("/%s=%d", unit, n)
		out = append(out, row{fmt.Sprintf("%s, %d %s", what, n, unit), bench + at, than + at, metric})
	}
	return out
}

func tables() []table {
	return []table{
		{"One visitor on the benign mix", "Four kinds of request in turn, with varying names, numbers and sessions, over one keep-alive client; the upstream answers 60 bytes. CPU time is the whole process: client and upstream included, for all lines alike.",
			"./internal/gateway", []row{
				{"plain Go reverse proxy", "BenchmarkMix/plain-proxy", "", "cpu-µs/op"},
				{"gateway, firewall off", "BenchmarkMix/gateway/waf=off", "BenchmarkMix/plain-proxy", "cpu-µs/op"},
				{"Coraza's own middleware alone", "BenchmarkMix/coraza-alone", "BenchmarkMix/plain-proxy", "cpu-µs/op"},
				{"gateway, firewall on", "BenchmarkMix/gateway/waf=block", "BenchmarkMix/coraza-alone", "cpu-µs/op"},
				{"gateway, firewall on: median latency", "BenchmarkMix/gateway/waf=block", "BenchmarkMix/coraza-alone", "p50-µs"},
			}},
		{"A guarded legacy page", "`GET /records/{cnic}` for an officer with purpose and case: decided by policy, journaled on SQLite with synchronous=FULL before the answer leaves, promised. The open route shows the same page without that: the difference is what accountability costs. One client, one request at a time, each about another citizen: nothing shares a commit with it, and the first look at a citizen makes their key durable before.",
			"./internal/gateway", []row{
				{"open, firewall off: requests/s", "BenchmarkGuardedPage/open/waf=off", "", "req/s"},
				{"guarded, firewall off: requests/s", "BenchmarkGuardedPage/guarded/waf=off", "BenchmarkGuardedPage/open/waf=off", "req/s"},
				{"open, firewall on: requests/s", "BenchmarkGuardedPage/open/waf=block", "", "req/s"},
				{"guarded, firewall on: requests/s", "BenchmarkGuardedPage/guarded/waf=block", "BenchmarkGuardedPage/coraza-alone", "req/s"},
				{"behind Coraza alone: requests/s", "BenchmarkGuardedPage/coraza-alone", "", "req/s"},
				{"open, firewall off: p50", "BenchmarkGuardedPage/open/waf=off", "", "p50-µs"},
				{"guarded, firewall off: p50", "BenchmarkGuardedPage/guarded/waf=off", "BenchmarkGuardedPage/open/waf=off", "p50-µs"},
				{"open, firewall off: p99", "BenchmarkGuardedPage/open/waf=off", "", "p99-µs"},
				{"guarded, firewall off: p99", "BenchmarkGuardedPage/guarded/waf=off", "BenchmarkGuardedPage/open/waf=off", "p99-µs"},
			}},
		{"Opening a declared record", "An application for a transfer of land with two parties: decided and journaled for each of them, every answer decrypted against the promise. Beside it the bare SQL reads of the same rows, which open, decide and record nothing.",
			"./internal/registry", append(sized("plain SQLite reads", "BenchmarkPlainRead", "", "opens/s", "clients"),
				sized("opened, accounted for", "BenchmarkOpen", "BenchmarkPlainRead", "opens/s", "clients")...)},
		{"A small guarded table", "A table of PASBAN_BENCH_ROWS rows (100,000 without it; below stand 1 and 10 million) in a PostgreSQL on the same processors, about 90 bytes a row with five columns of which four are guarded. Beside a plain COPY TO of the whole table, by the same client, stand a baseline, an audit of the unchanged table, an audit after ten authorised changes, and one that names a row which was edited in the table's file. Then pgbench changes ten rows a statement from four connections; authorised traffic, so that every alarm would be a false one. Aimed at, from a million rows on: baseline and audit 3 × COPY, after ten changes 2 ×, the row among 10 million in 60 s, 5,000 changes/s, no false alarm.",
			"./internal/sentinel", []row{
				{"plain COPY TO", "BenchmarkTable", "", "copy_s"},
				{"baseline", "BenchmarkTable", "", "baseline_s"},
				{"baseline", "BenchmarkTable", "", "baseline_x_copy"},
				{"audit, unchanged", "BenchmarkTable", "", "audit_s"},
				{"audit, unchanged", "BenchmarkTable", "", "audit_x_copy"},
				{"audit after ten changes", "BenchmarkTable", "", "audit_after_10_s"},
				{"audit after ten changes", "BenchmarkTable", "", "audit_after_10_x_copy"},
				{"one row edited on disk: named after", "BenchmarkTable", "", "needle_s"},
				{"authorised changes made", "BenchmarkTable", "", "changes"},
				{"made", "BenchmarkTable", "", "offered/s"},
				{"recorded, leaf and all", "BenchmarkTable", "", "recorded/s"},
				{"the stream's rest when pgbench has ended", "BenchmarkTable", "", "behind_s"},
				{"false alarms", "BenchmarkTable", "", "false_alarms"},
			}},
	}
}

func main() {
	if len(os.Args) == 6 && os.Args[1] == "child" {
		fail(child(os.Args[2], os.Args[3], os.Args[4], os.Args[5]))
	}
	if len(os.Args) > 1 {
		other := map[string]func([]string) error{"flood": flood, "flood-gateway": floodGateway, "flood-bots": floodBots, "latency": latency, "log-senders": logSenders}[os.Args[1]]
		if other != nil {
			fail(other(os.Args[2:]))
			return
		}
	}
	rounds := flag.Int("rounds", 5, "how often the whole list is run")
	length := flag.String("benchtime", "1s", "of each Go benchmark in each round")
	only := flag.String("only", "", "firewalls: only the comparison with other firewalls; packages: only the Go benchmarks; detection: only those of detection; readers: only those of the log readers; events: only the store of events; latency: only the time from a sender to the console; flood: only the floods; proofs: only the proofs in the browser; ledger: only journal and ledger. The document's other sections stay as they are")
	out := flag.String("out", "docs/benchmarks.md", "the document to write")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fail(run(ctx, *rounds, *length, *only, *out))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds int, length, only, out string) error {
	parts := []struct {
		name string
		run  func(dir string) ([]section, error)
	}{
		{"firewalls", func(dir string) ([]section, error) {
			f, err := compareFirewalls(ctx, dir, rounds)
			if err != nil {
				return nil, err
			}
			return f.sections(), nil
		}},
		{"flood", floodSections},
		{"proofs", func(dir string) ([]section, error) {
			s, err := browserSection(ctx, dir, rounds)
			return []section{s}, err
		}},
		{"ledger", func(dir string) ([]section, error) { return comparePackages(dir, ledgerTables(), rounds, length) }},
		{"packages", func(dir string) ([]section, error) { return comparePackages(dir, tables(), rounds, length) }},
		{"detection", func(dir string) ([]section, error) { return comparePackages(dir, detection(), rounds, length) }},
		{"readers", func(dir string) ([]section, error) { return comparePackages(dir, readers(), rounds, length) }},
		{"latency", func(dir string) ([]section, error) {
			s, err := latencySection(ctx, dir)
			return []section{s}, err
		}},
		{"events", func(dir string) ([]section, error) { return comparePackages(dir, eventTables(), 1, "1x") }},
	}
	var done []section
	ran := false
	for _, p := range parts {
		if only != "" && only != p.name {
			continue
		}
		ran = true
		s, err := inDir(p.run)
		if err != nil {
			return err
		}
		done = append(done, s...)
	}
	if !ran {
		return fmt.Errorf("-only %s: firewalls, flood, proofs, ledger, packages, detection, readers, latency or events", only)
	}
	old, err := os.ReadFile(out)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if only == "" {
		old = nil
	}
	return os.WriteFile(out, []byte(document(string(old), done)), 0o644)
}

// inDir gives f a directory for as long as it runs.
func inDir(f func(dir string) ([]section, error)) ([]section, error) {
	dir, err := os.MkdirTemp("", "pasban-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	return f(dir)
}

const preface = "# Benchmarks\n\nWritten by `make bench`. The machines are shared ones: ratios carry over, absolute figures do not. Every section says when it was made and with what.\n"

// document is an older document with the sections that were made anew; those
// that it did not have come first.
func document(old string, done []section) string {
	var kept, fresh strings.Builder
	_, rest, _ := strings.Cut(old, "\n## ")
	placed := map[string]bool{}
	for part := range strings.SplitSeq(rest, "\n## ") {
		title, text, ok := strings.Cut(part, "\n")
		if !ok {
			continue
		}
		if i := slices.IndexFunc(done, func(s section) bool { return s.title == title }); i >= 0 {
			text, placed[title] = done[i].text, true
		}
		fmt.Fprintf(&kept, "\n## %s\n%s\n", title, strings.TrimSpace(text))
	}
	for _, s := range done {
		if !placed[s.title] {
			fmt.Fprintf(&fresh, "\n## %s\n%s\n", s.title, strings.TrimSpace(s.text))
		}
	}
	return preface + fresh.String() + kept.String()
}

// comparePackages runs the Go benchmarks of these tables.
func comparePackages(dir string, list []table, rounds int, length string) ([]section, error) {
	binaries := map[string]string{}
	for _, t := range list {
		if binaries[t.pkg] == "" {
			binaries[t.pkg] = filepath.Join(dir, filepath.Base(t.pkg)+".test")
			if text, err := exec.Command("go", "test", "-c", "-o", binaries[t.pkg], t.pkg).CombinedOutput(); err != nil {
				return nil, fmt.Errorf("build %s: %w\n%s", t.pkg, err, text)
			}
		}
	}
	load := busy()
	// seen[bench][metric] has one figure a round.
	seen := map[string]map[string][]float64{}
	for round := range rounds {
		for _, t := range list {
			for _, name := range names(t) {
				fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, rounds, name)
				if err := measure(binaries[t.pkg], t.pkg, name, length, seen); err != nil {
					return nil, err
				}
			}
		}
	}
	return packageSections(list, seen, rounds, length, load), nil
}

// names are the benchmarks that a table's rows need, each once.
func names(t table) (out []string) {
	for _, r := range t.rows {
		for _, n := range []string{r.bench, r.than} {
			if strings.HasPrefix(n, "Benchmark") && !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	return out
}

// measure runs one benchmark once and adds its figures.
func measure(binary, pkg, name, length string, seen map[string]map[string][]float64) error {
	var parts []string
	for p := range strings.SplitSeq(name, "/") {
		parts = append(parts, "^"+p+"$")
	}
	cmd := exec.Command(binary, "-test.run=^$", "-test.bench="+strings.Join(parts, "/"), "-test.benchtime="+length)
	cmd.Dir = pkg
	text, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, text)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 4 || strings.TrimSuffix(f[0], "-"+strconv.Itoa(runtime.GOMAXPROCS(0))) != name {
			continue
		}
		if seen[name] == nil {
			seen[name] = map[string][]float64{}
		}
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return fmt.Errorf("%s: %q is not a figure", name, f[i])
			}
			seen[name][f[i+1]] = append(seen[name][f[i+1]], v)
			if f[i+1] == "ns/op" {
				seen[name]["req/s"] = append(seen[name]["req/s"], 1e9/v)
			}
		}
		return nil
	}
	return fmt.Errorf("%s printed no figures:\n%s", name, text)
}

// packageSections writes the tables of Go benchmarks.
func packageSections(list []table, seen map[string]map[string][]float64, rounds int, length, load string) (out []section) {
	for _, t := range list {
		var w strings.Builder
		fmt.Fprintf(&w, "%s %s; %s, %s/%s, %d processors%s; %d rounds, in each every benchmark for %s, one after the other; medians with minimum and maximum, ratios within each round.\n\n`go test -run '^$' -bench '%s' %s`\n\n| what | unit | median | min–max | ratio | to |\n|---|---|---|---|---|---|\n",
			t.says, today(), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), load, rounds, length, strings.Join(tops(t), "|"), t.pkg)
		for _, r := range t.rows {
			own := seen[r.bench][r.metric]
			ratio, to := "", ""
			if strings.HasPrefix(r.than, "Benchmark") {
				var rs []float64
				for i, v := range own {
					rs = append(rs, v/seen[r.than][r.metric][i])
				}
				ratio, to = spreadOf(rs).String(), strings.TrimPrefix(r.than, "Benchmark")
			}
			fmt.Fprintf(&w, "| %s | %s | %s | %s–%s | %s | %s |\n", r.what, unitOf(r.metric), figure(median(own)), figure(slices.Min(own)), figure(slices.Max(own)), ratio, to)
		}
		out = append(out, section{t.title, w.String()})
	}
	return out
}

// unitOf is the unit of a benchmark's metric.
func unitOf(metric string) string {
	switch { // of the benchmark of guarded tables, which has many figures
	case strings.HasSuffix(metric, "_x_copy"):
		return "× COPY"
	case strings.HasSuffix(metric, "_s"):
		return "s"
	}
	unit := strings.TrimSuffix(metric, "/op")
	for _, prefix := range []string{"receipt-", "p50-", "p99-", "word-p95-", "command-p95-", "hosts-p95-", "network-p95-", "newest-p95-", "disk-", "gzip-", "raw-", "zgrep-", "slowest-", "all-closed-", "good-slowest-"} {
		unit = strings.TrimPrefix(unit, prefix)
	}
	if strings.HasPrefix(unit, "good-") || strings.HasPrefix(unit, "most-") {
		return "" // a number of them
	}
	return unit
}

// tops are the top-level benchmarks of a table.
func tops(t table) (out []string) {
	for _, n := range names(t) {
		top, _, _ := strings.Cut(n, "/")
		if !slices.Contains(out, top) {
			out = append(out, top)
		}
	}
	return out
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// figure writes a number with three significant digits.
func figure(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}
