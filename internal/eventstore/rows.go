package eventstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// first is the order of the store's own fields in a row.
var first = []string{FieldTime, FieldStream, FieldMessage, FieldID, FieldSeq, FieldSource, FieldProduct, FieldCategory, FieldService}

// readRow reads one JSON object whose values are texts.
func readRow(line []byte) (Row, error) {
	dec := json.NewDecoder(bytes.NewReader(line))
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	row := make(Row, 0, 32)
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		value, err := dec.Token()
		if err != nil {
			return nil, err
		}
		n, ok := name.(string)
		v, ok2 := value.(string)
		if !ok || !ok2 {
			return nil, fmt.Errorf("%v is not a text", name)
		}
		row = append(row, Field{n, v})
	}
	_, err := dec.Token()
	return row, err
}

// Arrange puts the store's own fields first and the rest in order of their
// names, and leaves out what is the engine's own. It works in place.
func (row Row) Arrange() Row {
	place := func(name string) int {
		if i := slices.Index(first, name); i >= 0 {
			return i
		}
		return len(first)
	}
	row = slices.DeleteFunc(row, func(f Field) bool { return f.Name == "_stream_id" })
	slices.SortStableFunc(row, func(a, b Field) int {
		if d := place(a.Name) - place(b.Name); d != 0 {
			return d
		}
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return row
}

// Search implements Store. It asks for the newest page, and goes on before the
// oldest instant that the page holds whole: neither side holds more than a page.
func (c *Client) Search(ctx context.Context, q Query, limit int, each func(Row) error) error {
	p, err := parse(q)
	if err != nil {
		return err
	}
	if !p.events {
		return c.reshaped(ctx, p, q, limit, each)
	}
	size := page
	for given := 0; ; {
		want := size
		if limit > 0 {
			want = min(want, limit-given+1)
		}
		rows, whole, err := c.page(ctx, p, q, want)
		if errors.Is(err, errPage) && want > 1 {
			size = max(1, want/8)
			continue
		}
		if err != nil {
			return err
		}
		if limit == 0 || given+len(rows) < limit {
			if rows, q.To, err = c.instant(ctx, p, q, rows, whole); err != nil {
				return err
			}
		}
		for _, row := range rows {
			if limit > 0 && given == limit {
				return nil
			}
			if err := each(row); err != nil {
				return err
			}
			given++
		}
		if whole || limit > 0 && given >= limit {
			return nil
		}
	}
}

// errPage says that a page has too many bytes to be held.
var errPage = errors.New("the page is too large")

// page returns the newest events, at most want of them, and whether there are
// no others.
func (c *Client) page(ctx context.Context, p parsed, q Query, want int) (rows []Row, whole bool, err error) {
	held := 0
	form := url.Values{"query": {p.text}, "limit": {strconv.Itoa(want)}}
	err = c.ask(ctx, "query", q, form, func(r io.Reader) error {
		return readRows(r, func(row Row) error {
			for _, f := range row {
				held += len(f.Name) + len(f.Value) + 32
			}
			if held > pageBytes {
				return stopped{errPage}
			}
			if !p.ordered {
				row = row.Arrange()
			}
			rows = append(rows, row)
			return nil
		})
	})
	if s, ok := errors.AsType[stopped](err); ok {
		return nil, false, s.err
	}
	slices.SortStableFunc(rows, func(a, b Row) int { return b.time().Compare(a.time()) })
	return rows, len(rows) < want, err
}

func (r Row) time() time.Time {
	t, _ := time.Parse(time.RFC3339Nano, r.Get(FieldTime))
	return t
}

// instant makes a page end between two instants: the events of its last one may
// be there in part. It returns the page without them and where to go on. If the
// page has one instant only, all of that are read, whatever their number.
func (c *Client) instant(ctx context.Context, p parsed, q Query, rows []Row, whole bool) ([]Row, time.Time, error) {
	if whole || len(rows) == 0 {
		return rows, q.To, nil
	}
	last := rows[len(rows)-1].time()
	if last.IsZero() {
		return nil, q.To, unavailable("the pipes of the query left out "+FieldTime+", so that it cannot be read in parts", nil)
	}
	if rows[0].time().After(last) {
		cut := slices.IndexFunc(rows, func(r Row) bool { return !r.time().After(last) })
		return rows[:cut], last.Add(1), nil
	}
	rows = rows[:0]
	at := Query{From: last, To: last.Add(1)}
	err := c.ask(ctx, "query", at, url.Values{"query": {p.text}}, func(r io.Reader) error {
		return readRows(r, func(row Row) error {
			if !p.ordered {
				row = row.Arrange()
			}
			rows = append(rows, row)
			return nil
		})
	})
	return rows, last, err
}

// reshaped gives the rows that pipes made, in the order that they made.
func (c *Client) reshaped(ctx context.Context, p parsed, q Query, limit int, each func(Row) error) error {
	form := url.Values{"query": {p.text}}
	if limit > 0 {
		form.Set("limit", strconv.Itoa(limit))
	}
	given := 0
	err := c.ask(ctx, "query", q, form, func(r io.Reader) error {
		return readRows(r, func(row Row) error {
			if limit > 0 && given >= limit {
				return nil
			}
			given++
			if err := each(row); err != nil {
				return stopped{err}
			}
			return nil
		})
	})
	if s, ok := errors.AsType[stopped](err); ok {
		return s.err
	}
	return err
}
