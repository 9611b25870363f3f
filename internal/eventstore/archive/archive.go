// Package archive ends the days of an event store: what retention deletes is
// written to Parquet files first, and read back before anything is deleted.
//
// # Main types
//
// [Keeper] looks once a minute which days are too old, or too many for the disk.
//
// # What it guarantees
//
// With an archive, no day is deleted whose rows are not, all of them, in a file
// that was read back from the disk. If that fails nothing is deleted, and Err
// says why. A day that is deleted takes no more events: the floor is raised and
// on disk first.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"pasban/internal/durable"
	"pasban/internal/eventstore"
	"pasban/internal/eventstore/parquet"
)

// dayForm is how days are written: YYYYMMDD, in UTC.
const dayForm = "20060102"

// Every is how often a Keeper looks.
const every = time.Minute

// early is how long before the end of its retention a day of a server is
// archived: the server deletes it by its own clock.
const early = 48 * time.Hour

// days is a store whose days are deleted by the node.
type days interface {
	Days(ctx context.Context) ([]string, error)
	Flush(ctx context.Context) error
	Drop(ctx context.Context, day string) error
}

var _ days = (*eventstore.Embedded)(nil)

// Options are what a Keeper needs.
type Options struct {
	Store     eventstore.Store // of a server only the archive is kept: it deletes by its own retention
	Dir       string           // of the archive; "" is none
	Retention time.Duration
	MaxBytes  int64 // of the store on disk
	Window    *eventstore.Window
	Positions *eventstore.Positions
	Log       *slog.Logger // nil is slog.Default()
}

// Keeper keeps a store within its bounds.
type Keeper struct {
	Options
	mu     sync.Mutex // covers status
	status Status
}

// Status is what a Keeper did since the start.
type Status struct {
	Archived, Dropped int // days
	Err               error
}

// unfinished is how files are called, to begin with.
const unfinished = ".events-*.tmp"

// New returns a keeper and makes the archive's directory. What a crash left of a
// file goes: the day is still in the store.
func New(o Options) (*Keeper, error) {
	if o.Dir != "" {
		if err := durable.MkdirAll(o.Dir, durable.DirMode); err != nil {
			return nil, fmt.Errorf("make the archive of events: %w", err)
		}
		left, err := fs.Glob(os.DirFS(o.Dir), unfinished)
		for _, name := range left {
			err = errors.Join(err, os.Remove(filepath.Join(o.Dir, name)))
		}
		if err != nil {
			return nil, fmt.Errorf("tidy the archive of events: %w", err)
		}
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	o.Window.Raise(o.Positions.Floor())
	return &Keeper{Options: o}, nil
}

// Run keeps the store within its bounds until ctx is done.
func (k *Keeper) Run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if err := k.Once(ctx, now); err != nil && ctx.Err() == nil {
				k.Log.ErrorContext(ctx, "days of events are not archived or deleted, trying again", "err", err)
			}
		}
	}
}

// Status says what was done.
func (k *Keeper) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.status
}

// Once ends the days that are over their time, and then the oldest while the
// store is over its size.
func (k *Keeper) Once(ctx context.Context, now time.Time) error {
	err := k.once(ctx, now.UTC())
	k.mu.Lock()
	k.status.Err = err
	k.mu.Unlock()
	return err
}

func (k *Keeper) once(ctx context.Context, now time.Time) error {
	own, ok := k.Store.(days)
	if !ok {
		return k.server(ctx, now)
	}
	list, err := own.Days(ctx)
	if err != nil {
		return err
	}
	for len(list) > 0 {
		day, err := time.Parse(dayForm, list[0])
		if err != nil {
			return fmt.Errorf("the event engine has a day %q", list[0])
		}
		behind := day.Add(24 * time.Hour)
		if behind.After(now.Add(-k.Retention)) {
			use, err := k.Store.Usage(ctx)
			if err != nil || use.Bytes <= k.MaxBytes {
				return err
			}
			if behind.After(now) {
				return fmt.Errorf("the events of today alone are over events.max_bytes (%d of %d bytes): nothing older is left to delete", use.Bytes, k.MaxBytes)
			}
		}
		if err := k.end(ctx, own, day); err != nil {
			return err
		}
		list = list[1:]
	}
	return nil
}

// end archives a day and deletes it.
func (k *Keeper) end(ctx context.Context, own days, day time.Time) error {
	if err := k.raise(day.Add(24 * time.Hour)); err != nil {
		return err
	}
	if err := own.Flush(ctx); err != nil { // or the last events would be neither archived nor counted
		return err
	}
	if err := k.archive(ctx, day); err != nil {
		return err
	}
	if err := own.Drop(ctx, day.Format(dayForm)); err != nil {
		return err
	}
	k.mu.Lock()
	k.status.Dropped++
	k.mu.Unlock()
	k.Log.InfoContext(ctx, "a day of events was deleted", "day", day.Format(time.DateOnly), "archived", k.Dir != "")
	return nil
}

// raise has no more events taken of before an instant; that is on disk first.
func (k *Keeper) raise(floor time.Time) error {
	if k.Positions.Floor().Before(floor) {
		if err := k.Positions.SetFloor(floor); err != nil {
			return err
		}
	}
	k.Window.Raise(floor)
	return nil
}

// server archives the days that a server is about to delete. They take no more
// events from one look to the next before they are written: what was on its way to
// them can be found by then.
func (k *Keeper) server(ctx context.Context, now time.Time) error {
	if k.Dir == "" {
		return nil
	}
	first := now.Add(-k.Retention).Truncate(24 * time.Hour)
	floor := first.Add(early + 24*time.Hour)
	if today := now.Truncate(24 * time.Hour); floor.After(today) {
		floor = today
	}
	if k.Positions.Floor().Before(floor) {
		return k.raise(floor)
	}
	for day := first; day.Before(floor); day = day.Add(24 * time.Hour) {
		if _, err := os.Stat(k.file(day, 1)); errors.Is(err, fs.ErrNotExist) {
			if err := k.archive(ctx, day); err != nil {
				return err
			}
		}
	}
	return nil
}

func (k *Keeper) file(day time.Time, n int) string {
	name := "events-" + day.Format(dayForm)
	if n > 1 {
		name = fmt.Sprintf("%s-%d", name, n)
	}
	return filepath.Join(k.Dir, name+".parquet")
}

// archive writes a day into a file, unless it is empty or one holds the same already.
func (k *Keeper) archive(ctx context.Context, day time.Time) (err error) {
	if k.Dir == "" {
		return nil
	}
	q := eventstore.Query{From: day, To: day.Add(24 * time.Hour)}
	f, err := os.CreateTemp(k.Dir, unfinished)
	if err != nil {
		return fmt.Errorf("begin a file of the archive: %w", err)
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	var wrote parquet.Digest
	w := parquet.NewWriter(f)
	if err := k.Store.Search(ctx, q, 0, func(r eventstore.Row) error { wrote.Add(r); return w.Write(r) }); err != nil {
		return fmt.Errorf("read %s for the archive: %w", day.Format(time.DateOnly), err)
	}
	if err := errors.Join(w.Close(), f.Sync()); err != nil {
		return fmt.Errorf("write the archive of %s: %w", day.Format(time.DateOnly), err)
	}
	count, err := k.Store.Histogram(ctx, q, 24*time.Hour)
	if err != nil {
		return err
	}
	if count[0].Count != wrote.Rows {
		return fmt.Errorf("the store has %d events of %s, the archive %d", count[0].Count, day.Format(time.DateOnly), wrote.Rows)
	}
	if wrote.Rows == 0 {
		return os.Remove(f.Name())
	}
	if err := same(f.Name(), wrote); err != nil {
		return err
	}
	name := ""
	for n := 1; ; n++ {
		name = k.file(day, n)
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			break
		}
		if same(name, wrote) == nil { // it was archived, and then the node ended before the day was deleted
			return os.Remove(f.Name())
		}
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	k.mu.Lock()
	k.status.Archived++
	k.mu.Unlock()
	return durable.SyncDir(k.Dir)
}

// same reads a file of the archive back and compares it with what was written.
func same(name string, want parquet.Digest) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	var got parquet.Digest
	if err := parquet.Read(f, info.Size(), func(r eventstore.Row) error { got.Add(r); return nil }); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if got != want {
		return fmt.Errorf("%s does not hold what was written: %d rows of %d", name, got.Rows, want.Rows)
	}
	return nil
}
