package follow

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/durable"
	"pasban/internal/ledger/tiles"
)

// Mirror copies the ledger into a directory that any static file server can
// serve, or goes on with the copy that is there. Every file is rehashed against
// the signed checkpoint, which is written last: a copy that was cut off is the
// one before. It refuses, with a tiles.Problem, what does not extend that one.
// progress, if not nil, is called with the leaves that were read.
func (f *Follower) Mirror(ctx context.Context, dir string, progress func(done, total int64)) (pasban.Checkpoint, error) {
	cp, raw, _, err := f.newest(ctx)
	if err != nil {
		return pasban.Checkpoint{}, err
	}
	if err := durable.MkdirAll(dir, 0o755); err != nil {
		return pasban.Checkpoint{}, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return pasban.Checkpoint{}, err
	}
	defer root.Close()
	copied := tiles.Dir{Root: root}
	if err := f.extends(ctx, copied, cp.Tree); err != nil {
		return pasban.Checkpoint{}, err
	}
	for t := range all(cp.N) {
		if err := f.fetch(ctx, dir, copied, t); err != nil {
			return pasban.Checkpoint{}, err
		}
		if progress != nil && t.L == tiles.Entries {
			progress(min(cp.N, t.N*tiles.Width+int64(t.W)), cp.N)
		}
	}
	report, err := tiles.Audit(ctx, onlyFiles{copied}, cp.Tree, nil)
	if err != nil {
		return pasban.Checkpoint{}, err
	}
	if len(report.Findings) > 0 {
		// What is wrong is not kept, so that the next try fetches it anew.
		for _, wrong := range report.Findings {
			if err := root.Remove(wrong.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return pasban.Checkpoint{}, err
			}
		}
		return pasban.Checkpoint{}, tiles.Problem(fmt.Sprintf("%s %s (%d files in all)", report.Findings[0].Path, report.Findings[0].Problem, len(report.Findings)))
	}
	return cp, durable.WriteFile(filepath.Join(dir, tiles.Checkpoint), raw, 0o644)
}

// onlyFiles hides what else is in the directory.
type onlyFiles struct{ tiles.Source }

// extends holds the new tree against the copy's own checkpoint, if it has one.
func (f *Follower) extends(ctx context.Context, copied tiles.Source, now tlog.Tree) error {
	raw, err := copied.ReadFile(ctx, tiles.Checkpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	old, err := pasban.OpenCheckpoint(raw, f.Verifier)
	if err != nil {
		return &pasban.Error{Kind: pasban.Invalid, Msg: "the directory holds a copy of another ledger", Err: err}
	}
	return tiles.Extends(ctx, f.Source, old.Tree, now)
}

// all yields every tile and bundle of a tree of n leaves.
func all(n int64) func(yield func(tlog.Tile) bool) {
	return func(yield func(tlog.Tile) bool) {
		for level := tiles.Entries; level <= 7; level++ {
			width := n >> (tiles.Height * max(level, 0))
			if width == 0 {
				return
			}
			for at := int64(0); at < width; at += tiles.Width {
				if !yield(tlog.Tile{H: tiles.Height, L: level, N: at / tiles.Width, W: int(min(tiles.Width, width-at))}) {
					return
				}
			}
		}
	}
}

// fetch copies one file that is not there yet. A partial tile that has been
// cleaned up is taken from the full one.
func (f *Follower) fetch(ctx context.Context, dir string, copied tiles.Dir, t tlog.Tile) error {
	name := tiles.Path(t)
	if _, err := copied.Root.Stat(name); err == nil {
		return nil
	}
	data, err := f.Source.ReadFile(ctx, name)
	if errors.Is(err, fs.ErrNotExist) && t.W < tiles.Width {
		t.W = tiles.Width
		name = tiles.Path(t)
		data, err = f.Source.ReadFile(ctx, name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", name, tiles.Missing)
	}
	if err != nil {
		return err
	}
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := durable.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return durable.WriteFile(path, data, 0o644)
}
