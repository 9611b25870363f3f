// Command bench runs Pasban's comparisons and writes docs/benchmarks.md.
//
// It builds the test binary of each package once, runs all benchmarks in turn,
// the whole list again and again, and reports medians over the rounds, and
// ratios taken round by round: on a shared machine only two figures of the
// same round compare. Nothing here decides about success.
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
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

func tables() []table {
	sized := func(what, bench, than, metric, unit string) (out []row) {
		for _, n := range []int{1, 8, 64} {
			at := fmt.Sprintf("/%s=%d", unit, n)
			out = append(out, row{fmt.Sprintf("%s, %d %s", what, n, unit), bench + at, than + at, metric})
		}
		return out
	}
	return []table{
		{"The gateway on the benign mix", "Four kinds of request in turn, with varying names, numbers and sessions, over one keep-alive client; the upstream answers 60 bytes. CPU time is the whole process: client and upstream included, for all lines alike.",
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
		{"The journal", "One fact a call: canonicalised, sealed twice, numbered, inserted, synced, promised. Beside it a bare append of 1,000 bytes with fsync after each, all writers to one file. With more writers the journal shares one commit among them.",
			"./internal/journal", append(sized("bare fsync'd file", "BenchmarkBareFsync", "", "rows/s", "writers"),
				sized("journal", "BenchmarkJournal", "BenchmarkBareFsync", "rows/s", "writers")...)},
	}
}

func main() {
	rounds := flag.Int("rounds", 5, "how often the whole list is run")
	length := flag.String("benchtime", "1s", "of each benchmark in each round")
	out := flag.String("out", "docs/benchmarks.md", "the document to write")
	flag.Parse()
	if err := run(*rounds, *length, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(rounds int, length, out string) error {
	dir, err := os.MkdirTemp("", "pasban-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	list := tables()
	binaries := map[string]string{}
	for _, t := range list {
		if binaries[t.pkg] == "" {
			binaries[t.pkg] = filepath.Join(dir, filepath.Base(t.pkg)+".test")
			if text, err := exec.Command("go", "test", "-c", "-o", binaries[t.pkg], t.pkg).CombinedOutput(); err != nil {
				return fmt.Errorf("build %s: %w\n%s", t.pkg, err, text)
			}
		}
	}
	// seen[bench][metric] has one figure a round.
	seen := map[string]map[string][]float64{}
	for round := range rounds {
		for _, t := range list {
			for _, name := range names(t) {
				fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, rounds, name)
				if err := measure(binaries[t.pkg], t.pkg, name, length, seen); err != nil {
					return err
				}
			}
		}
	}
	var doc bytes.Buffer
	write(&doc, list, seen, rounds, length)
	return os.WriteFile(out, doc.Bytes(), 0o644)
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

func write(w io.Writer, list []table, seen map[string]map[string][]float64, rounds int, length string) {
	fmt.Fprintf(w, "# Benchmarks\n\nWritten by `make bench` on %s with %s, %s/%s, %d processors of a shared machine: ratios carry over, absolute figures do not. %d rounds; in each, every benchmark ran for %s, one after the other. A figure is the median over the rounds with minimum and maximum; a ratio is taken within each round and its median given likewise.\n",
		time.Now().UTC().Format("2 January 2006"), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), rounds, length)
	for _, t := range list {
		fmt.Fprintf(w, "\n## %s\n%s\n\n`go test -run '^$' -bench '%s' %s`\n\n| what | unit | median | min–max | ratio | to |\n|---|---|---|---|---|---|\n",
			t.title, t.says, strings.Join(tops(t), "|"), t.pkg)
		for _, r := range t.rows {
			own := seen[r.bench][r.metric]
			ratio, to := "", ""
			if strings.HasPrefix(r.than, "Benchmark") {
				var rs []float64
				for i, v := range own {
					rs = append(rs, v/seen[r.than][r.metric][i])
				}
				ratio, to = fmt.Sprintf("%s (%s–%s)", figure(median(rs)), figure(slices.Min(rs)), figure(slices.Max(rs))), strings.TrimPrefix(r.than, "Benchmark")
			}
			fmt.Fprintf(w, "| %s | %s | %s | %s–%s | %s | %s |\n", r.what, strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(r.metric, "p50-"), "p99-"), "/op"), figure(median(own)), figure(slices.Min(own)), figure(slices.Max(own)), ratio, to)
		}
	}
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
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
