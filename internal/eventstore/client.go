package eventstore

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"pasban"
)

const (
	// queryTime bounds one question to the engine. A search of all events asks
	// many.
	queryTime = 30 * time.Second
	// insertTime bounds one Add.
	insertTime = time.Minute
	// together is how many questions are asked at a time; others wait.
	together = 4
	// page is how many events one question of a search asks for, and pageBytes
	// how much of an answer is held; if it is more, fewer are asked for.
	page      = 5000
	pageBytes = 64 << 20
	// maxLine is the longest line of an answer.
	maxLine = 16 << 20
	// maxBuckets bounds a histogram.
	maxBuckets = 10_000
	// ahead is how far in the future an event's time may lie.
	ahead = 24 * time.Hour
)

// Window is which times of events are kept.
type Window struct {
	// Retention is how long an event is kept, by its time.
	Retention time.Duration
	// adding is held for reading while events are added, and covers floor: the
	// first instant that is still taken. Days before it were deleted, or are
	// about to be.
	adding sync.RWMutex
	floor  time.Time
}

// Raise has stores take no more events of before t. When it returns, none that
// was taken before is on its way.
func (w *Window) Raise(t time.Time) {
	w.adding.Lock()
	defer w.adding.Unlock()
	if t.After(w.floor) {
		w.floor = t
	}
}

// from is the first instant that is kept. The caller holds adding.
func (w *Window) from(now time.Time) time.Time {
	from := now.Add(-w.Retention)
	if w.floor.After(from) {
		return w.floor
	}
	return from
}

// Client is a Store behind the HTTP API of VictoriaLogs: a server, a cluster,
// or Pasban's own engine.
type Client struct {
	buffers sync.Pool // of *bytes.Buffer: of the last requests, empty
	base    url.URL
	http    *http.Client
	tenant  Tenant
	window  *Window
	max     int // bytes of one event
	slots   chan struct{}

	naming  sync.Mutex // covers columns and what is in it
	columns map[stream]map[string]struct{}

	refused, retimed, cut atomic.Int64
}

var _ Store = (*Client)(nil)

// defaultMaxEvent is what VictoriaLogs takes of one event unless it is told
// otherwise (-insert.maxLineSizeBytes is 256 KiB), with some room.
const defaultMaxEvent = 240 << 10

// Open returns the store of a tenant at an address: victorialogs://host:port
// speaks HTTP, victorialogs+https://host:port HTTPS. A user and a password in
// it are sent as basic authentication. The parameter max_event is how many
// bytes of one event the server takes, less than its -insert.maxLineSizeBytes;
// without it 245760. Open connects to nothing: a server may come later.
func Open(address string, tenant Tenant, w *Window) (*Client, error) {
	base, maxEvent, err := ParseAddress(address)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = insertTime
	return newClient(base, maxEvent, transport, tenant, w), nil
}

func newClient(base url.URL, maxEvent int, transport http.RoundTripper, tenant Tenant, w *Window) *Client {
	return &Client{base: base, http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return errors.New("the server redirects, which an event store does not")
	}}, tenant: tenant, window: w, max: maxEvent, slots: make(chan struct{}, together), columns: map[stream]map[string]struct{}{}}
}

// ParseAddress reads the address of a VictoriaLogs server, as [Open] takes it.
// The error never holds it: it may hold a password.
func ParseAddress(address string) (base url.URL, maxEvent int, err error) {
	bad := func(msg string) error {
		return &pasban.Error{Kind: pasban.Invalid, Msg: msg, Hint: "victorialogs://host:port, or victorialogs+https://user:password@host:port"}
	}
	u, err := url.Parse(address)
	if err != nil {
		return base, 0, bad("not an address")
	}
	switch u.Scheme {
	case "victorialogs":
		u.Scheme = "http"
	case "victorialogs+https":
		u.Scheme = "https"
	default:
		return base, 0, bad("not the address of a VictoriaLogs server")
	}
	if u.Hostname() == "" || u.Fragment != "" {
		return base, 0, bad("the address of the VictoriaLogs server has no host")
	}
	maxEvent = defaultMaxEvent
	for name, values := range u.Query() {
		n, err := strconv.Atoi(values[0])
		if name != "max_event" || err != nil || n < 4096 || n > 1900<<10 {
			return base, 0, bad("the address takes max_event=BYTES, 4096 to 1945600, and nothing else")
		}
		maxEvent = n
	}
	u.RawQuery = ""
	u.Path = strings.TrimSuffix(u.Path, "/")
	return *u, maxEvent, nil
}

// Add implements Store.
func (c *Client) Add(ctx context.Context, events []Event) error {
	c.window.adding.RLock()
	defer c.window.adding.RUnlock()
	now := time.Now()
	buf, ok := c.buffers.Get().(*bytes.Buffer)
	if !ok {
		buf = new(bytes.Buffer)
	}
	enc := encoder{buf: buf, from: c.window.from(now), to: now.Add(ahead), maxEvent: c.max,
		columns: func(s stream) (map[string]struct{}, error) { return c.columnsOf(ctx, s) }}
	for _, ev := range events {
		c.naming.Lock()
		err := enc.add(ev)
		c.naming.Unlock()
		if err != nil {
			return err
		}
		if enc.buf.Len() > insertBytes {
			if err := c.insert(ctx, &enc); err != nil {
				return err
			}
		}
	}
	if err := c.insert(ctx, &enc); err != nil {
		return err // a request that failed may still be read from
	}
	c.buffers.Put(buf)
	return nil
}

// insertBytes is from how many bytes on no more is added to one request.
const insertBytes = 8 << 20

func (c *Client) insert(ctx context.Context, enc *encoder) error {
	if enc.buf.Len() > 0 {
		ctx, cancel := context.WithTimeout(ctx, insertTime)
		defer cancel()
		q := url.Values{"_stream_fields": {FieldSource + "," + FieldProduct + "," + FieldCategory}}
		resp, err := c.do(ctx, http.MethodPost, "/insert/jsonline?"+q.Encode(), "application/stream+json", bytes.NewReader(enc.buf.Bytes()))
		if err != nil {
			return unavailable("events are not taken", err)
		}
		resp.Body.Close()
	}
	c.refused.Add(enc.refused)
	c.retimed.Add(enc.retimed)
	c.cut.Add(enc.cut)
	enc.buf.Reset()
	enc.refused, enc.retimed, enc.cut = 0, 0, 0
	return nil
}

// do sends a request and returns the answer if it is good.
func (c *Client) do(ctx context.Context, method, path, contentType string, body io.Reader) (*http.Response, error) {
	at := c.base
	user := at.User
	at.User = nil
	where, query, _ := strings.Cut(path, "?")
	at.Path += where
	at.RawQuery = query
	req, err := http.NewRequestWithContext(ctx, method, at.String(), body)
	if err != nil {
		return nil, err
	}
	if user != nil {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("AccountID", strconv.FormatUint(uint64(c.tenant.Account), 10))
	req.Header.Set("ProjectID", strconv.FormatUint(uint64(c.tenant.Project), 10))
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusNoContent {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	return nil, answer{resp.StatusCode, strings.TrimSpace(string(text))}
}

// answer is an error that the server sent.
type answer struct {
	status int
	text   string
}

func (a answer) Error() string {
	text := a.text
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	return fmt.Sprintf("the event store answers %d: %s", a.status, text)
}

// unavailable is an error that is logged: what a server says stands in it without
// what somebody asked or what an event holds.
func unavailable(msg string, err error) error {
	if a, ok := errors.AsType[answer](err); ok {
		err = answer{a.status, brief(a.text)}
	}
	return &pasban.Error{Kind: pasban.Unavailable, Where: "event store", Msg: msg, Err: err}
}

// asked turns what went wrong with a question into what the caller can do.
func asked(ctx context.Context, err error) error {
	a, ok := errors.AsType[answer](err)
	switch {
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled):
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded) || ok && strings.Contains(a.text, "deadline exceeded"):
		return &pasban.Error{Kind: pasban.Limited, Where: "event store", Msg: fmt.Sprintf("the query took longer than %s and was ended", queryTime), Hint: "ask for less time, or for a more telling word first"}
	case ok && (strings.Contains(a.text, "memory") || strings.Contains(a.text, "requires more than")):
		return &pasban.Error{Kind: pasban.Limited, Where: "event store", Msg: "the query needs more memory than it may have", Hint: "ask for less time or fewer groups", Err: a}
	case ok && a.status == http.StatusBadRequest:
		return &pasban.Error{Kind: pasban.Invalid, Where: "query", Msg: "cannot be answered", Err: a}
	}
	return unavailable("the query is not answered", err)
}

// ask posts a question within the query's time and hands the answer's body to
// read.
func (c *Client) ask(ctx context.Context, path string, q Query, form url.Values, read func(io.Reader) error) error {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	limited, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	form.Set("timeout", queryTime.String())
	now := time.Now()
	from, to := q.From, q.To
	if from.Before(time.Unix(0, 0)) { // nothing is kept of before, and the engine's times have 64 bits
		from = time.Unix(0, 0)
	}
	if latest := now.Add(2 * ahead); to.IsZero() || to.After(latest) {
		to = latest
	}
	for name, at := range map[string]time.Time{"start": from, "end": to, "time": now} { // time is what _time:5m counts from
		form.Set(name, at.UTC().Format(time.RFC3339Nano))
	}
	resp, err := c.do(limited, http.MethodPost, "/select/logsql/"+path, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
	if err != nil {
		return asked(ctx, err)
	}
	defer resp.Body.Close()
	if err := read(resp.Body); err != nil {
		if _, stop := errors.AsType[stopped](err); stop {
			return err
		}
		return asked(ctx, err)
	}
	return nil
}

// stopped carries an error of the caller's through a question.
type stopped struct{ err error }

func (s stopped) Error() string { return s.err.Error() }

// Histogram implements Store.
func (c *Client) Histogram(ctx context.Context, q Query, step time.Duration) ([]Bucket, error) {
	p, err := parse(q)
	if err != nil {
		return nil, err
	}
	if step <= 0 || q.From.IsZero() || q.To.IsZero() || !q.From.Before(q.To) || q.To.Sub(q.From)/step >= maxBuckets {
		return nil, &pasban.Error{Kind: pasban.Invalid, Where: "step", Msg: fmt.Sprintf("a histogram has a beginning, an end and at most %d steps", maxBuckets)}
	}
	first := q.From.UnixNano() - q.From.UnixNano()%int64(step)
	buckets := make([]Bucket, (q.To.UnixNano()-1-first)/int64(step)+1)
	for i := range buckets {
		buckets[i].Start = time.Unix(0, first+int64(i)*int64(step)).UTC()
	}
	// The engine widens start and end to whole steps: the filter keeps the query's.
	bound := fmt.Sprintf("_time:[%s, %s)", q.From.UTC().Format(time.RFC3339Nano), q.To.UTC().Format(time.RFC3339Nano))
	form := url.Values{"query": {p.filter}, "step": {strconv.FormatInt(int64(step), 10) + "ns"}, "extra_filters": {bound}}
	err = c.ask(ctx, "hits", q, form, func(r io.Reader) error {
		var doc struct {
			Hits []struct {
				Timestamps []time.Time
				Values     []int64
			}
		}
		if err := json.NewDecoder(io.LimitReader(r, maxLine)).Decode(&doc); err != nil {
			return err
		}
		for _, h := range doc.Hits {
			for i, at := range h.Timestamps {
				n := (at.UnixNano() - first) / int64(step)
				if i < len(h.Values) && n >= 0 && n < int64(len(buckets)) {
					buckets[n].Count += h.Values[i]
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return buckets, nil
}

// Fields implements Store.
func (c *Client) Fields(ctx context.Context, q Query) (out []FieldCount, err error) {
	p, err := parse(q)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Values []struct {
			Value string
			Hits  int64
		}
	}
	err = c.ask(ctx, "field_names", q, url.Values{"query": {p.filter}}, func(r io.Reader) error {
		return json.NewDecoder(io.LimitReader(r, 4*maxLine)).Decode(&doc)
	})
	for _, v := range doc.Values {
		out = append(out, FieldCount{v.Value, v.Hits})
	}
	slices.SortStableFunc(out, func(a, b FieldCount) int { return cmp.Compare(b.Count, a.Count) })
	return out, err
}

// Values implements Store.
func (c *Client) Values(ctx context.Context, q Query, field string, limit int) (out []ValueCount, err error) {
	p, err := parse(q)
	if err != nil {
		return nil, err
	}
	if field == "" || limit < 1 || limit > 10_000 {
		return nil, &pasban.Error{Kind: pasban.Invalid, Where: "field", Msg: "want a field, and 1 to 10000 values of it"}
	}
	// "top" counts exactly; field_values stops counting at its limit.
	quoted := strconv.Quote(field)
	form := url.Values{"query": {fmt.Sprintf("%s | filter %s:* | top %d by (%s) hits as hits", p.filter, quoted, limit, quoted)}}
	err = c.ask(ctx, "query", q, form, func(r io.Reader) error {
		return readRows(r, func(row Row) error {
			n, err := strconv.ParseInt(row.Get("hits"), 10, 64)
			if field == "hits" || err != nil { // the name is taken: the count is the last
				n, _ = strconv.ParseInt(row[len(row)-1].Value, 10, 64)
			}
			out = append(out, ValueCount{row.Get(field), n})
			return nil
		})
	})
	slices.SortStableFunc(out, func(a, b ValueCount) int { return cmp.Compare(b.Count, a.Count) })
	return out, err
}

// Name says which events these are: the server's host, and the tenant there.
func (c *Client) Name() string {
	return fmt.Sprintf("%s/%d:%d", c.base.Host, c.tenant.Account, c.tenant.Project)
}

// Usage implements Store. Of a server that is not Pasban's own it knows only
// what it did itself.
func (c *Client) Usage(ctx context.Context) (Usage, error) {
	return Usage{Events: -1, Bytes: -1, Refused: c.refused.Load(), Retimed: c.retimed.Load(), Cut: c.cut.Load()}, nil
}

// Close implements Store.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// readRows reads JSON objects of texts, one a line, and keeps their order. A
// line that is none is what went wrong on the server after it had begun.
func readRows(r io.Reader, each func(Row) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for lines.Scan() {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		if line[0] != '{' {
			return answer{http.StatusBadRequest, string(line)}
		}
		row, err := readRow(line)
		if err != nil {
			return fmt.Errorf("the event store's answer is not readable: %w", err)
		}
		if err := each(row); err != nil {
			return err
		}
	}
	return lines.Err()
}
