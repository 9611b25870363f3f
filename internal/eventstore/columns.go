package eventstore

import (
	"context"
	"fmt"
	"time"
)

// The engine keeps the events of a stream and a day in blocks of columns. Of a
// block that would have more than 2,000 names it drops the last events, when they
// are added and again when blocks are merged: whoever makes names up could have
// the events of others dropped. So a stream gets no more names a day than always
// fit, and fields with further ones go into FieldMore.
const (
	// maxColumns is how many senders' names a stream has on one day. The engine
	// counts all fields of the next event beside them: maxFields, and the store's.
	maxColumns = 1000
	// maxKnown bounds how many names are remembered for all streams and days.
	maxKnown = 100_000
)

// stream is what the engine keeps together: one of the streams, on one day.
type stream struct {
	day                       time.Time
	source, product, category string
}

// columnsOf returns the names that a stream has, to be added to; those that were
// there before this process tells the store. The caller holds naming.
func (c *Client) columnsOf(ctx context.Context, s stream) (map[string]struct{}, error) {
	if names := c.columns[s]; names != nil {
		return names, nil
	}
	known := 0
	for _, names := range c.columns {
		known += len(names)
	}
	if known > maxKnown {
		clear(c.columns)
	}
	fields, err := c.Fields(ctx, Query{From: s.day, To: s.day.Add(24 * time.Hour),
		LogsQL: fmt.Sprintf("%s:=%q %s:=%q %s:=%q", FieldSource, s.source, FieldProduct, s.product, FieldCategory, s.category)})
	if err != nil {
		return nil, unavailable("the fields of a stream are not listed", err)
	}
	names := make(map[string]struct{}, len(fields))
	for _, f := range fields {
		names[f.Name] = struct{}{}
	}
	c.columns[s] = names
	return names, nil
}
