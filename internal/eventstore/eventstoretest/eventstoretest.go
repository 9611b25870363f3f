// Package eventstoretest says what every event store must do, as tests.
//
// [RunTests] runs them against any engine. They hold no state of their own, so
// that they can be run against a server that is in use: their events are of
// their own tenants. [Main] and [Open] give a test an embedded store.
package eventstoretest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pasban"
	"pasban/internal/eventstore"
	"pasban/internal/eventstore/engine"
)

// Retention is how long the stores under test keep events.
const Retention = 30 * 24 * time.Hour

// Main runs a package's tests, and lets its test binary be the engine: a process
// of its own, as in service.
func Main(m *testing.M) {
	if eventstore.InEngine() {
		os.Exit(engine.Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// Command starts the engine in a binary whose TestMain is Main.
func Command(t testing.TB) []string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{exe}
}

// Open opens an embedded store and waits until it answers; it is closed with the
// test. TestMain is Main.
func Open(t testing.TB, o eventstore.EmbeddedOptions) *eventstore.Embedded {
	t.Helper()
	o.Command = Command(t)
	s, err := eventstore.OpenEmbedded(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// RunTests runs the suite against stores that newStore opens for a tenant. They
// keep events for Retention and are closed by whoever opened them.
func RunTests(t *testing.T, newStore func(t *testing.T, tenant eventstore.Tenant) eventstore.Store) {
	run := fmt.Sprintf("test-%d", time.Now().UnixNano())
	s := &suite{store: newStore(t, eventstore.TenantOf(run)), now: time.Now().UTC().Truncate(time.Second)}
	t.Run("parallel", func(t *testing.T) {
		for name, test := range map[string]func(*suite, *testing.T){
			"round trip": (*suite).roundTrip, "time": (*suite).time, "mistakes": (*suite).mistakes, "bounds": (*suite).bounds,
			"counts": (*suite).counts, "large": (*suite).large, "clocks": (*suite).clocks, "names": (*suite).names,
			"stream": (*suite).stream, "pipes": (*suite).pipes, "cancel": (*suite).cancel, "bytes": (*suite).bytes, "wide": (*suite).wide,
		} {
			t.Run(name, func(t *testing.T) { t.Parallel(); test(s, t) })
		}
	})
	t.Run("tenants", func(t *testing.T) {
		other := newStore(t, eventstore.TenantOf(run+"-other"))
		if n := len(find(t, other, eventstore.Query{}, 0)); n != 0 {
			t.Fatalf("another tenant sees %d events", n)
		}
	})
}

type suite struct {
	store eventstore.Store
	now   time.Time
	seq   atomic.Uint64
}

// source is the name under which a test's events are told from others'.
func source(t *testing.T) string {
	return strings.ReplaceAll(t.Name()[strings.LastIndexByte(t.Name(), '/')+1:], " ", "-")
}

// all is the query for a test's own events.
func all(t *testing.T) eventstore.Query {
	return eventstore.Query{LogsQL: fmt.Sprintf("%s:=%q", eventstore.FieldSource, source(t))}
}

// add adds events, all of which the store keeps, and waits until they can be found.
func (s *suite) add(t *testing.T, events ...eventstore.Event) {
	t.Helper()
	s.addSome(t, len(events), events...)
}

// addSome adds events of which the store keeps so many, and waits until all of
// those can be found: the nodes of a cluster show what they were given each at its
// own time.
func (s *suite) addSome(t *testing.T, kept int, events ...eventstore.Event) {
	t.Helper()
	for i := range events {
		events[i].Source = source(t)
		events[i].Seq = s.seq.Add(1)
		if events[i].ID == "" {
			events[i].ID = fmt.Sprintf("id-%d", events[i].Seq)
		}
		if events[i].Received.IsZero() {
			events[i].Received = s.now
		}
	}
	if err := s.store.Add(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	q := all(t)
	q.LogsQL += fmt.Sprintf(" %s:range[%d, %d]", eventstore.FieldSeq, events[0].Seq, events[len(events)-1].Seq)
	Await(t, func() bool { return len(find(t, s.store, q, 0)) == kept })
}

// Await waits until something is so; it fails the test after a minute.
func Await(t testing.TB, so func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("not so after a minute")
		}
	}
}

func find(t *testing.T, store eventstore.Store, q eventstore.Query, limit int) (rows []eventstore.Row) {
	t.Helper()
	if err := store.Search(t.Context(), q, limit, func(r eventstore.Row) error { rows = append(rows, r); return nil }); err != nil {
		t.Fatalf("search %q: %v", q.LogsQL, err)
	}
	return rows
}

func ids(rows []eventstore.Row) (out []string) {
	for _, r := range rows {
		out = append(out, r.Get(eventstore.FieldID))
	}
	return out
}

func (s *suite) roundTrip(t *testing.T) {
	at := s.now.Add(-time.Hour + 123456789)
	s.add(t,
		eventstore.Event{ID: "b", Time: at.Add(time.Second), Message: "second"},
		eventstore.Event{ID: "c", Time: at.Add(2 * time.Second), Message: "third"},
		eventstore.Event{ID: "a", Time: at, Message: "first of three", Product: "windows", Category: "process_creation", Service: "security",
			Fields: []eventstore.Field{{Name: "Zeta", Value: "1"}, {Name: "Image", Value: `C:\Windows\cmd.exe`}, {Name: "Empty"}, {Name: "metadata.uid", Value: "دستک"}}})
	if got := ids(find(t, s.store, all(t), 0)); !slices.Equal(got, []string{"c", "b", "a"}) {
		t.Fatalf("got %v, want the newest first", got)
	}
	if got := ids(find(t, s.store, all(t), 2)); !slices.Equal(got, []string{"c", "b"}) {
		t.Fatalf("got %v of at most 2", got)
	}
	q := all(t)
	q.LogsQL += ` Image:cmd "first of"`
	rows := find(t, s.store, q, 10)
	if len(rows) != 1 {
		t.Fatalf("%d rows", len(rows))
	}
	row := rows[0]
	for i, want := range []eventstore.Field{
		{Name: eventstore.FieldTime, Value: at.Format(time.RFC3339Nano)}, {Name: eventstore.FieldStream}, {Name: eventstore.FieldMessage, Value: "first of three"},
		{Name: eventstore.FieldID, Value: "a"}, {Name: eventstore.FieldSeq}, {Name: eventstore.FieldSource, Value: source(t)},
		{Name: eventstore.FieldProduct, Value: "windows"}, {Name: eventstore.FieldCategory, Value: "process_creation"}, {Name: eventstore.FieldService, Value: "security"},
		{Name: "Image", Value: `C:\Windows\cmd.exe`}, {Name: "Zeta", Value: "1"}, {Name: "metadata.uid", Value: "دستک"},
	} {
		if i >= len(row) || row[i].Name != want.Name || want.Value != "" && row[i].Value != want.Value {
			t.Fatalf("field %d of %v, want %v", i, row, want)
		}
	}
	if len(row) != 12 {
		t.Fatalf("%d fields: %v", len(row), row)
	}
}

func (s *suite) time(t *testing.T) {
	at := s.now.Add(-2 * time.Hour)
	s.add(t, eventstore.Event{ID: "1", Time: at}, eventstore.Event{ID: "2", Time: at.Add(time.Nanosecond)}, eventstore.Event{ID: "3", Time: at.Add(time.Minute)})
	for _, c := range []struct {
		from, to time.Time
		want     string
	}{
		{at, at.Add(time.Minute), "2 1"}, // from is in, to is not
		{at.Add(1), at.Add(time.Hour), "3 2"},
		{at.Add(2), time.Time{}, "3"},
		{time.Time{}, at.Add(1), "1"},
	} {
		q := all(t)
		q.From, q.To = c.from, c.to
		if got := strings.Join(ids(find(t, s.store, q, 0)), " "); got != c.want {
			t.Errorf("from %v to %v: %q, want %q", c.from, c.to, got, c.want)
		}
		q.LogsQL += " _time:10y" // a filter of the query's own does not widen it
		if got := strings.Join(ids(find(t, s.store, q, 0)), " "); got != c.want {
			t.Errorf("from %v to %v, with its own time: %q, want %q", c.from, c.to, got, c.want)
		}
	}
}

func (s *suite) mistakes(t *testing.T) {
	for query, where := range map[string]string{
		`Image:"cmd`: "column", `(a`: "column 3", `a b)`: "column", `* | nosuchpipe x`: "column", `* | stats by`: "column",
		strings.Repeat("(", 17<<10): "column", `* | drop_table events`: "column", `Image:re("(")`: "column",
	} {
		err := s.store.Search(t.Context(), eventstore.Query{LogsQL: query}, 1, func(eventstore.Row) error { return nil })
		e, ok := errors.AsType[*pasban.Error](err)
		if !ok || e.Kind != pasban.Invalid || !strings.HasPrefix(e.Where, where) {
			t.Errorf("%.40s: %v, want Invalid at %s", query, err, where)
		}
		if ok && strings.Contains(e.Error(), "http") {
			t.Errorf("%.40s: says where the engine's papers are: %v", query, err)
		}
		if _, err := s.store.Fields(t.Context(), eventstore.Query{LogsQL: query}); pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("fields of %.40s: %v", query, err)
		}
	}
	if _, err := s.store.Values(t.Context(), eventstore.Query{}, "", 10); pasban.KindOf(err) != pasban.Invalid {
		t.Errorf("values of no field: %v", err)
	}
	if _, err := s.store.Histogram(t.Context(), eventstore.Query{From: s.now.Add(-time.Hour), To: s.now}, time.Millisecond); pasban.KindOf(err) != pasban.Invalid {
		t.Errorf("three million steps: %v", err)
	}
}

// bounds: what would lift a query's bounds is refused wherever it stands.
func (s *suite) bounds(t *testing.T) {
	at := s.now.Add(-3 * time.Hour)
	s.add(t, eventstore.Event{ID: "1", Time: at, Message: "options(concurrency=1) were asked for"})
	for _, query := range []string{
		"options(ignore_global_time_filter=true) *",
		"OPTIONS (ignore_global_time_filter=true) *",
		"* | union (options(ignore_global_time_filter=true) *)",
		"a:in(options(ignore_global_time_filter=true) * | fields a)",
		"* | join by (a) (options(concurrency=1000) *)",
		"options(allow_partial_response=true) *",
		"options(parallel_readers=2000) *",
		"options(time_offset=1000d) *",
		"options(global_filter=(x)) *",
	} {
		err := s.store.Search(t.Context(), eventstore.Query{LogsQL: query}, 1, func(eventstore.Row) error { return nil })
		if pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("%s: %v, want Invalid", query, err)
		}
	}
	q := all(t)
	q.LogsQL += ` "options(concurrency=1) were"`
	if n := len(find(t, s.store, q, 0)); n != 1 {
		t.Errorf("the word in quotes: %d rows", n)
	}
}

func (s *suite) counts(t *testing.T) {
	at := s.now.Add(-4 * time.Hour).Truncate(time.Hour)
	var events []eventstore.Event
	for i := range 10 {
		events = append(events, eventstore.Event{Time: at.Add(time.Duration(i) * 10 * time.Minute), Fields: []eventstore.Field{{Name: "Odd", Value: fmt.Sprint(i % 2)}, {Name: "hits", Value: fmt.Sprint(i / 8)}}})
	}
	s.add(t, events...)
	q := all(t)
	q.From, q.To = at.Add(10*time.Minute), at.Add(3*time.Hour)
	q.LogsQL += " | fields _time" // pipes do not count
	buckets, err := s.store.Histogram(t.Context(), q, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	for i, b := range buckets {
		got = append(got, b.Count)
		if !b.Start.Equal(at.Add(time.Duration(i) * time.Hour)) {
			t.Errorf("bucket %d begins at %v", i, b.Start)
		}
	}
	if !slices.Equal(got, []int64{5, 4, 0}) {
		t.Errorf("buckets %v", got)
	}
	fields, err := s.store.Fields(t.Context(), all(t))
	if err != nil || !slices.Contains(fields, eventstore.FieldCount{Name: "Odd", Count: 10}) {
		t.Errorf("fields %v, %v", fields, err)
	}
	values, err := s.store.Values(t.Context(), all(t), "hits", 10)
	if err != nil || !slices.Equal(values, []eventstore.ValueCount{{Value: "0", Count: 8}, {Value: "1", Count: 2}}) {
		t.Errorf("values %v, %v", values, err)
	}
	if values, err = s.store.Values(t.Context(), all(t), "Odd", 1); err != nil || len(values) != 1 || values[0].Count != 5 {
		t.Errorf("the most frequent value: %v, %v", values, err)
	}
	if values, err = s.store.Values(t.Context(), all(t), `no "such" field`, 5); err != nil || len(values) != 0 {
		t.Errorf("no such field: %v, %v", values, err)
	}
}

// large: what is over the engine's limits is kept in another form, and said.
func (s *suite) large(t *testing.T) {
	var many []eventstore.Field
	for i := range 10_000 {
		many = append(many, eventstore.Field{Name: fmt.Sprintf("f%05d", i), Value: fmt.Sprint(i)})
	}
	mib := strings.Repeat("0123456789abcdef", 1<<16)
	s.add(t,
		eventstore.Event{ID: "many", Time: s.now, Fields: many},
		eventstore.Event{ID: "long", Time: s.now, Fields: []eventstore.Field{{Name: "Payload", Value: mib}, {Name: "Image", Value: "cmd"}}, Message: "short"},
		eventstore.Event{ID: "quotes", Time: s.now, Message: strings.Repeat("\x01\"", 1<<20)},
		eventstore.Event{ID: "name", Time: s.now, Fields: []eventstore.Field{{Name: strings.Repeat("n", 500), Value: "kept"}}},
	)
	got := map[string]eventstore.Row{}
	for _, r := range find(t, s.store, all(t), 0) {
		got[r.Get(eventstore.FieldID)] = r
	}
	if r := got["many"]; r.Get("f00000") != "0" || !strings.Contains(r.Get(eventstore.FieldMore), `"f09999":"9999"`) {
		t.Errorf("10,000 fields: %.300v", r)
	}
	if r := got["long"]; r.Get("Image") != "cmd" || r.Get("Payload") != mib &&
		(!strings.HasPrefix(mib, r.Get("Payload")) || len(r.Get("Payload")) < 100_000 || !strings.Contains(r.Get(eventstore.FieldCut), "Payload=1048576")) {
		t.Errorf("1 MiB: %d bytes, cut %q", len(r.Get("Payload")), r.Get(eventstore.FieldCut))
	}
	if r := got["quotes"]; len(r.Get(eventstore.FieldMessage)) < 50_000 || r.Get(eventstore.FieldCut) != "_msg=2097152" {
		t.Errorf("2 MiB that need escapes: %d bytes, cut %q", len(r.Get(eventstore.FieldMessage)), r.Get(eventstore.FieldCut))
	}
	if r := got["name"]; !strings.Contains(r.Get(eventstore.FieldMore), `nnn":"kept"`) {
		t.Errorf("a long name: %v", r)
	}
}

// wide: names that a sender makes up cost no event of the stream.
func (s *suite) wide(t *testing.T) {
	const n = 8
	var events []eventstore.Event
	for i := range n {
		var fields []eventstore.Field
		for j := range 600 {
			fields = append(fields, eventstore.Field{Name: fmt.Sprintf("made-up-%d-%d", i, j), Value: "v"})
		}
		at := s.now.Add(time.Duration(i-n) * time.Second)
		events = append(events, eventstore.Event{Time: at, Fields: fields},
			eventstore.Event{ID: fmt.Sprint("plain-", i), Time: at, Fields: []eventstore.Field{{Name: "Image", Value: "cmd"}}})
	}
	s.add(t, events...)
	rows := find(t, s.store, all(t), 0)
	if len(rows) != 2*n {
		t.Fatalf("%d events are left of %d", len(rows), 2*n)
	}
	for _, r := range rows {
		switch id := r.Get(eventstore.FieldID); {
		case strings.HasPrefix(id, "plain-"):
			if r.Get("Image") != "cmd" {
				t.Errorf("%v", r)
			}
		case len(r) < 600 && !strings.Contains(r.Get(eventstore.FieldMore), `-599":"v"`):
			t.Errorf("%s has lost fields: %.300v", id, r)
		}
	}
}

// clocks: an event of a time that is not kept is kept under when it came in.
func (s *suite) clocks(t *testing.T) {
	before, err := s.store.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	old := time.Date(1601, 1, 1, 0, 0, 0, 0, time.UTC)
	s.addSome(t, 2,
		eventstore.Event{ID: "refused", Time: old, Received: s.now.Add(-2 * Retention)},
		eventstore.Event{ID: "1601", Time: old, Received: s.now.Add(-time.Minute)},
		eventstore.Event{ID: "2999", Time: time.Date(2999, 12, 31, 0, 0, 0, 0, time.UTC)},
	)
	rows := find(t, s.store, all(t), 0)
	if got := ids(rows); !slices.Equal(got, []string{"2999", "1601"}) {
		t.Fatalf("found %v", got)
	}
	if r := rows[1]; r.Get(eventstore.FieldOriginalTime) != "1601-01-01T00:00:00Z" || r.Get(eventstore.FieldTime) != s.now.Add(-time.Minute).Format(time.RFC3339Nano) {
		t.Errorf("1601: %v", r)
	}
	after, err := s.store.Usage(t.Context())
	if err != nil || after.Refused-before.Refused != 1 || after.Retimed-before.Retimed != 2 {
		t.Errorf("usage %+v, before %+v, %v", after, before, err)
	}
}

// names: a sender's fields do not pass for the store's own.
func (s *suite) names(t *testing.T) {
	var fields []eventstore.Field
	for _, name := range []string{"_time", "_msg", "_stream", "_stream_id", "event_id", "event_seq", "event_source", "logsource_product", "original_time", "original_event_id", ""} {
		fields = append(fields, eventstore.Field{Name: name, Value: "forged"})
	}
	fields = append(fields, eventstore.Field{Name: `a"b\c:d | e`, Value: "odd"}, eventstore.Field{Name: "same", Value: "1"}, eventstore.Field{Name: "same", Value: "2"})
	s.add(t, eventstore.Event{ID: "true", Time: s.now, Fields: fields, Message: "true"})
	r := find(t, s.store, all(t), 0)[0]
	for name, want := range map[string]string{
		eventstore.FieldTime: s.now.Format(time.RFC3339Nano), eventstore.FieldMessage: "true", eventstore.FieldID: "true", eventstore.FieldSource: source(t),
		eventstore.FieldProduct: "", eventstore.FieldOriginalTime: "", "original__time": "forged", "original__msg": "forged", "original_event_id": "forged",
		"original_logsource_product": "forged", "original_original_time": "forged", `a"b\c:d | e`: "odd", "same": "1",
	} {
		if got := r.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if more := r.Get(eventstore.FieldMore); !strings.Contains(more, `"same":"2"`) {
		t.Errorf("a field that was there twice: %s", more)
	}
}

// stream: all events come, each once, also more of one instant than a page has.
func (s *suite) stream(t *testing.T) {
	const n = 11_000
	var events []eventstore.Event
	for i := range n {
		at := s.now.Add(-time.Hour)
		if i < 2000 || i >= 8000 { // 6,000 of one instant
			at = s.now.Add(-time.Duration(1+i/7) * time.Second)
		}
		events = append(events, eventstore.Event{Time: at, Message: "m"})
	}
	s.add(t, events...)
	Await(t, func() bool {
		b, err := s.store.Histogram(t.Context(), eventstore.Query{LogsQL: all(t).LogsQL, From: s.now.Add(-6 * time.Hour), To: s.now}, 6*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		var sum int64
		for _, one := range b {
			sum += one.Count
		}
		return sum == n
	})
	for _, limit := range []int{0, 6500} {
		seen := map[string]bool{}
		last := s.now
		for _, r := range find(t, s.store, all(t), limit) {
			at, err := time.Parse(time.RFC3339Nano, r.Get(eventstore.FieldTime))
			if err != nil || at.After(last) {
				t.Fatalf("after %v comes %v, %v", last, at, err)
			}
			last = at
			seen[r.Get(eventstore.FieldID)] = true
		}
		if want := cmp.Or(limit, n); len(seen) != want {
			t.Errorf("%d different events, want %d", len(seen), want)
		}
	}
}

func (s *suite) pipes(t *testing.T) {
	var events []eventstore.Event
	for i := range 5 {
		events = append(events, eventstore.Event{Time: s.now.Add(-time.Duration(i) * time.Minute), Fields: []eventstore.Field{{Name: "User", Value: fmt.Sprint("u", i%2)}, {Name: "Port", Value: fmt.Sprint(i)}}})
	}
	s.add(t, events...)
	q := all(t)
	q.LogsQL += " | stats by (User) count() n, max(Port) top | sort by (User)"
	rows := find(t, s.store, q, 0)
	if fmt.Sprint(rows) != "[[{User u0} {n 3} {top 4}] [{User u1} {n 2} {top 3}]]" {
		t.Errorf("stats: %v", rows)
	}
	if rows = find(t, s.store, q, 1); len(rows) != 1 {
		t.Errorf("at most one: %v", rows)
	}
	q = all(t)
	q.LogsQL += " | fields _time, User"
	if rows = find(t, s.store, q, 2); len(rows) != 2 || len(rows[0]) != 2 {
		t.Errorf("fields: %v", rows)
	}
}

func (s *suite) cancel(t *testing.T) {
	s.add(t, eventstore.Event{Time: s.now}, eventstore.Event{Time: s.now})
	enough := errors.New("enough")
	n := 0
	if err := s.store.Search(t.Context(), all(t), 0, func(eventstore.Row) error { n++; return enough }); !errors.Is(err, enough) || n != 1 {
		t.Errorf("stopped after %d: %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.store.Search(ctx, all(t), 0, func(eventstore.Row) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
}

// bytes: what is not text does no harm.
func (s *suite) bytes(t *testing.T) {
	s.add(t, eventstore.Event{Time: s.now, Message: "line one\nline two\r\n\t\x00\x7f\xff\xfe end", Fields: []eventstore.Field{{Name: "bad\xff", Value: "\xc3\x28"}, {Name: "nl\n", Value: "x"}}})
	r := find(t, s.store, all(t), 0)[0]
	if got := r.Get(eventstore.FieldMessage); got != "line one\nline two\r\n\t\x00\x7f\ufffd end" {
		t.Errorf("message %q", got)
	}
	if r.Get("bad\ufffd") != "\ufffd(" || r.Get("nl\n") != "x" {
		t.Errorf("fields %q", r)
	}
}
