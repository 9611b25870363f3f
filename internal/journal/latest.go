package journal

import (
	"context"

	"pasban"
)

// Latest returns the newest facts of one kind, newest first, at most max, from
// the last within rows of the journal: what it looks through is bounded however
// rare the kind is. It fails if one is damaged.
func (j *Journal) Latest(ctx context.Context, kind pasban.Kind, within uint64, max int) ([]Entry, error) {
	head, _, err := j.Head(ctx)
	if err != nil {
		return nil, err
	}
	from := uint64(0)
	if head > within {
		from = head - within
	}
	rows, err := j.rows(ctx, selectRow+`WHERE kind = ? AND seq > ? ORDER BY seq DESC LIMIT ?`, string(kind), int64(from), max)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(rows))
	for i, r := range rows {
		if entries[i], err = j.open(ctx, r); err != nil {
			return nil, err
		}
	}
	return whole(entries)
}
