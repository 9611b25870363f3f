package eventstore

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"pasban"
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
		return cmp.Or(place(a.Name)-place(b.Name), strings.Compare(a.Name, b.Name))
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
		return c.straight(ctx, p, q, limit, each)
	}
	size, given := page, 0
	give := func(row Row) error {
		if limit > 0 && given == limit {
			return errEnough
		}
		given++
		return each(row)
	}
	for {
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
		var instant time.Time
		if enough := limit > 0 && given+len(rows) >= limit; !whole && !enough {
			if rows, q.To, instant, err = apart(rows); err != nil {
				return err
			}
		}
		for _, row := range rows {
			if err := give(row); err != nil {
				return ended(err)
			}
		}
		if !instant.IsZero() {
			err = c.straight(ctx, p, Query{From: instant, To: instant.Add(1)}, 0, give)
		}
		if err != nil || whole || limit > 0 && given == limit {
			return ended(err)
		}
	}
}

// errEnough ends a search that has given what was asked for.
var errEnough = errors.New("enough")

func ended(err error) error {
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
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

// apart makes a page end between two instants: of its last one there may be more
// events. It returns the page without them and where to go on. If the page has
// one instant only, it returns that instead, to be read straight: its events have
// no order, and there may be any number of them.
func apart(rows []Row) (before []Row, to, instant time.Time, err error) {
	last := rows[len(rows)-1].time()
	if last.IsZero() {
		return nil, to, instant, &pasban.Error{Kind: pasban.Invalid, Where: "query", Msg: "the pipes leave out " + FieldTime + ", so that it cannot be read in parts", Hint: "keep " + FieldTime + ", or ask for at most " + strconv.Itoa(page) + " rows"}
	}
	if !rows[0].time().After(last) {
		return nil, last, last, nil
	}
	cut := slices.IndexFunc(rows, func(r Row) bool { return !r.time().After(last) })
	return rows[:cut], last.Add(1), instant, nil
}

// straight gives rows as they come from one question: those that pipes made, or
// those of one instant.
func (c *Client) straight(ctx context.Context, p parsed, q Query, limit int, each func(Row) error) error {
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
			if p.events && !p.ordered {
				row = row.Arrange()
			}
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
