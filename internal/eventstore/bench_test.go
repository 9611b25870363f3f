package eventstore_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"fmt"
	"hash/fnv"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pasban/internal/detect"
	"pasban/internal/detect/corpus"
	"pasban/internal/detect/logs"
	"pasban/internal/eventstore"
	"pasban/internal/eventstore/eventstoretest"
)

// hunts are the questions of the benchmark, from rare to everything.
var hunts = []struct{ name, query string }{
	{"word", `mimikatz`},
	{"command", `EventID:=4688 CommandLine:~"(?i)powershell.*-enc"`},
	{"hosts", `Image:"rundll32.exe" | stats by (Computer) count() n | sort by (n desc) | limit 20`},
	{"network", `EventID:=3 DestinationPort:=445`},
	{"newest", `*`},
}

// BenchmarkDay keeps a day of events and hunts in it. The events are those of
// the shared data with values of their own in every copy; PASBAN_BENCH_EVENTS
// says how many. Beside it stand the same lines in one gzip file, and zgrep.
func BenchmarkDay(b *testing.B) {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("PASBAN_BENCH_EVENTS"), "200000"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		day(b, n)
	}
}

func day(b *testing.B, n int) {
	dir := b.TempDir()
	s := openFlushing(b, dir, eventstore.TenantOf("bench"), 0)
	file := filepath.Join(dir, "day.ndjson.gz")
	start := time.Now().UTC().Truncate(24 * time.Hour).Add(-24 * time.Hour)
	f, err := os.Create(file)
	if err != nil {
		b.Fatal(err)
	}
	zip := gzip.NewWriter(f)
	added := 0
	raw, inserting, own := int64(0), time.Duration(0), time.Duration(0)
	next, stop := iter.Pull(copies(b, n, start))
	defer stop()
	for left := n; left > 0; left -= 2000 {
		var text []byte
		for range min(left, 2000) {
			line, _ := next()
			text = append(text, line...)
		}
		raw += int64(len(text))
		if _, err := zip.Write(text); err != nil {
			b.Fatal(err)
		}
		events := parsed(b, text, raw)
		added += len(events)
		began, cpu := time.Now(), cpuTime(b)
		if err := s.Add(b.Context(), events); err != nil {
			b.Fatal(err)
		}
		inserting += time.Since(began)
		own += cpuTime(b) - cpu
	}
	if err := zip.Close(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	whole := eventstore.Query{From: start, To: start.Add(24 * time.Hour)}
	eventstoretest.Await(b, func() bool {
		h, err := s.Histogram(b.Context(), whole, 24*time.Hour)
		return err == nil && h[0].Count == int64(added)
	})
	engine := processTime(b, enginePID(b, dir))
	b.ReportMetric(float64(added), "events")
	b.ReportMetric(float64(added)/inserting.Seconds(), "events/s")
	b.ReportMetric(float64(added)/(own+engine).Seconds(), "events/cpu-s")
	b.ReportMetric(float64(raw)/(1<<20), "raw-MiB")
	info, err := os.Stat(file)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(100*float64(info.Size())/float64(raw), "gzip-%")
	for _, h := range hunts {
		b.ReportMetric(float64(p95(b, s, whole, h.query))/1e6, h.name+"-p95-ms")
	}
	began := time.Now()
	if out, err := exec.Command("zgrep", "-c", "mimikatz", file).CombinedOutput(); err != nil && !strings.HasPrefix(string(out), "0") {
		b.Fatalf("zgrep: %v: %s", err, out)
	}
	b.ReportMetric(float64(time.Since(began))/1e6, "zgrep-ms")
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	var disk int64
	filepath.WalkDir(filepath.Join(dir, "events"), func(_ string, d fs.DirEntry, err error) error {
		if info, e := d.Info(); err == nil && e == nil && info.Mode().IsRegular() {
			disk += info.Size()
		}
		return err
	})
	b.ReportMetric(100*float64(disk)/float64(raw), "disk-%")
	b.ReportMetric(0, "ns/op")
}

var (
	guid   = regexp.MustCompile(`[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}`)
	number = regexp.MustCompile(`"(RecordNumber|ProcessId|ThreadID|port)":(?:"[0-9]+"|[0-9]+\b)`)
	stamp  = regexp.MustCompile(`"(?:@timestamp|EventTime)":"[^"]*"`)
)

// copies gives n lines: those of the shared data again and again, spread over a
// day, with identifiers, numbers and hosts of each copy's own.
func copies(b *testing.B, n int, start time.Time) iter.Seq[[]byte] {
	lines := bytes.SplitAfter(bytes.TrimSpace(corpus.Gzip(b, "logs/windows-otrf-40k.ndjson.gz")), []byte("\n"))
	return func(yield func([]byte) bool) {
		for i := range n {
			line, round := bytes.TrimSpace(lines[i%len(lines)]), i/len(lines)
			line = guid.ReplaceAllFunc(line, func(old []byte) []byte {
				h := fnv.New64a()
				fmt.Fprint(h, round, string(old))
				return fmt.Appendf(nil, "%s%012x", old[:len(old)-12], h.Sum64()&0xffffffffffff)
			})
			line = number.ReplaceAllFunc(line, func(old []byte) []byte {
				name, _, _ := bytes.Cut(old[1:], []byte(`"`))
				return fmt.Appendf(nil, `"%s":"%d"`, name, (i*7919+round)%1_000_000)
			})
			at := start.Add(time.Duration(i) * (24 * time.Hour / time.Duration(n))) // the other way round it overflows
			line = stamp.ReplaceAllFunc(line, func(old []byte) []byte {
				if old[1] == '@' {
					return at.AppendFormat([]byte(`"@timestamp":"`), time.RFC3339Nano+`"`)
				}
				return at.AppendFormat([]byte(`"EventTime":"`), time.DateTime+`"`)
			})
			line = bytes.ReplaceAll(line, []byte(".mordor.local"), fmt.Appendf(nil, "-%02d.mordor.local", round%50))
			if !yield(append(line, '\n')) {
				return
			}
		}
	}
}

// parsed reads lines as the node reads received logs.
func parsed(b *testing.B, text []byte, offset int64) (out []eventstore.Event) {
	mapping, err := logs.NewMapping()
	if err != nil {
		b.Fatal(err)
	}
	stream, err := logs.Open(bytes.NewReader(text), logs.Options{Mapping: mapping, Now: time.Now(), Packed: true})
	if err != nil {
		b.Fatal(err)
	}
	for {
		ev, err := stream.Next()
		if err != nil {
			return out
		}
		e := eventstore.Event{Seq: uint64(offset) + uint64(len(out)), Time: detect.Time(ev), Received: time.Now(), Source: "dc", Product: "windows"}
		e.ID = fmt.Sprint("log:dc:", e.Seq)
		e.Message, _ = ev["Message"].(string)
		e.Fields = eventstore.Flatten(ev, "time", "Message", detect.LogsourceKey)
		out = append(out, e)
	}
}

// p95 asks a question 40 times, for the newest 100 rows.
func p95(b *testing.B, s eventstore.Store, q eventstore.Query, text string) time.Duration {
	var took []time.Duration
	q.LogsQL = text
	for range 40 {
		began := time.Now()
		if err := s.Search(b.Context(), q, 100, func(eventstore.Row) error { return nil }); err != nil {
			b.Fatalf("%s: %v", text, err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)*95/100]
}

// cpuTime is the processor time of this process.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// processTime is the processor time of another.
func processTime(b *testing.B, pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, err := strconv.ParseInt(f[11], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	system, err := strconv.ParseInt(f[12], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(user+system) * time.Second / 100
}
