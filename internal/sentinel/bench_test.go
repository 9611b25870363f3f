package sentinel

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// benchRows is how many rows the benchmark's table has: PASBAN_BENCH_ROWS.
func benchRows() int {
	if n, err := strconv.Atoi(os.Getenv("PASBAN_BENCH_ROWS")); err == nil && n > 0 {
		return n
	}
	return 100_000
}

// BenchmarkTable measures what docs/benchmarks.md says of guarded tables, all in
// one run: a plain COPY of the table, a baseline, audits, one row edited on
// disk among all, and the stream under pgbench. Its figures are its metrics.
func BenchmarkTable(b *testing.B) {
	rows := benchRows()
	r := newRig(b, rows)
	for b.Loop() {
		plain := func() float64 {
			conn, err := r.s.tables[0].src.connect(b.Context())
			r.ok(err)
			defer conn.Close(b.Context())
			start := time.Now()
			_, err = conn.PgConn().CopyTo(b.Context(), io.Discard, `COPY public.parcel_owner TO STDOUT`)
			r.ok(err)
			return time.Since(start).Seconds()
		}
		timed := func(do func()) float64 { start := time.Now(); do(); return time.Since(start).Seconds() }
		var copies, baselines, audits, touched []float64
		plain() // warms PostgreSQL's cache for all alike
		for round := range 5 {
			copies = append(copies, plain())
			baselines = append(baselines, timed(func() { r.baseline() }))
			audits = append(audits, timed(func() { r.audit() }))
			r.app(fmt.Sprintf(`UPDATE parcel_owner SET share = 0.5 WHERE parcel_id %% %d = %d`, rows/10, round))
			r.caughtUp()
			touched = append(touched, timed(func() { r.audit() }))
		}
		report := func(name string, list []float64) {
			slices.Sort(list)
			b.ReportMetric(list[2], name+"_s")
			ratios := list[2] / copies[2]
			b.ReportMetric(ratios, name+"_x_copy")
		}
		slices.Sort(copies)
		report("copy", copies)
		report("baseline", baselines)
		report("audit", audits)
		report("audit_after_10", touched)
		b.ReportMetric(r.needle(rows), "needle_s")
		r.load(b)
	}
}

// needle edits one row in the table's file and returns how long an audit takes
// to name it.
func (r *rig) needle(rows int) float64 {
	r.t.Helper()
	key := rows/3*2 + 1 // not a multiple of three: it has a note
	if key%3 == 0 {
		key++
	}
	r.evil(`CHECKPOINT`)
	file := r.heap()
	r.pg.Stop(r.t, "INT")
	edit(r, file, fmt.Sprintf("kharif %d", key))
	r.pg.Start(r.t)
	r.follows()
	start := time.Now()
	a := r.audit()
	took := time.Since(start).Seconds()
	if got := keysOf(a.Differences); got != fmt.Sprintf("%d changed", key) {
		r.t.Fatalf("the audit names %q", got)
	}
	_, err := r.ask(Request{Kind: KindRepair, Rows: []string{a.Differences[0].ID}, Reason: "needle"})
	r.ok(err)
	return took
}

// edit replaces the first letter of a text in a table's files, of which there is
// one for each gigabyte.
func edit(r *rig, file, text string) {
	r.t.Helper()
	segments, err := filepath.Glob(file + "*")
	r.ok(err)
	for _, name := range segments {
		if ext := filepath.Ext(name); ext != "" && (ext < ".0" || ext > ".99") {
			continue
		}
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		r.ok(err)
		at := find(r, f, text)
		if at >= 0 {
			_, err = f.WriteAt([]byte("K"), at)
			r.ok(err)
			r.ok(f.Close())
			return
		}
		r.ok(f.Close())
	}
	r.t.Fatal("the row is not in the files")
}

// find looks for a whole text, which no digit follows.
func find(r *rig, f *os.File, text string) int64 {
	buf := make([]byte, 1<<20)
	for at := int64(0); ; at += int64(len(buf)) - 64 {
		n, err := f.ReadAt(buf, at)
		for i := 0; i+len(text) < n; i++ {
			if string(buf[i:i+len(text)]) == text && (buf[i+len(text)] < '0' || buf[i+len(text)] > '9') {
				return at + int64(i)
			}
		}
		if err != nil {
			return -1
		}
	}
}

// load has pgbench change rows for a while, and measures how far behind the
// stream is in the end, and whether anything is alarmed.
func (r *rig) load(b *testing.B) {
	script := filepath.Join(r.pg.Dir, "load.sql")
	r.ok(os.WriteFile(script, fmt.Appendf(nil, `\set a random(1, %d)
UPDATE parcel_owner SET share = 0.5, note = 'n' || :a WHERE parcel_id BETWEEN :a AND :a + 9;
`, benchRows()), 0o644))
	seconds := os.Getenv("PASBAN_BENCH_SECONDS")
	if seconds == "" {
		seconds = "10"
	}
	r.caughtUp()
	r.news()
	changes := func() int64 {
		t := r.s.tables[0]
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.status.Changes
	}
	before, start := changes(), time.Now()
	r.pg.Tool(b, "pgbench", "-h", r.pg.Dir, "-U", "land_app", "-n", "--max-tries=100", "-c", "4", "-T", seconds, "-f", script, "land")
	offered := time.Since(start).Seconds()
	r.caughtUp()
	all := time.Since(start).Seconds()
	n := float64(changes() - before)
	b.ReportMetric(n, "changes")
	b.ReportMetric(n/offered, "offered/s")
	b.ReportMetric(n/all, "recorded/s")
	b.ReportMetric(all-offered, "behind_s")
	alarms := 0.0
	for _, f := range r.news() {
		if f.Body.Kind == "alarm" {
			alarms++
			b.Logf("%s: %v", f.Body.Action, f.Restricted.Reasons)
		}
	}
	b.ReportMetric(alarms, "false_alarms")
	if a := r.audit(); a.Root != a.Authorised {
		b.Fatalf("%d rows differ after authorised traffic", len(a.Differences))
	}
}
