// Package logfile writes log files of bounded size and number: the access log
// and the firewall's.
//
// A [File] appends whole writes. When one would make the file larger than it
// may be, the file is set aside with ".1" added to its name, the one set aside
// before becomes ".2", and so on; the oldest goes. Another program may set it
// aside too (logrotate): after [File.Reopen] the next write goes to a new file.
//
// # Guarantees
//
// A write is never divided between two files, and the files together never hold
// more than Keep+1 times Most, whatever fails: what the disk does not take is
// lost, and the log says so once until it takes something again. Files are of
// mode 0600.
//
// # What it must never do
//
// It is no journal: nothing is synced, and nothing waits for what is here.
package logfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"pasban/internal/durable"
)

// The bounds of a log without others: 320 MiB in all.
const (
	Most = 64 << 20 // bytes of one file
	Keep = 4        // files set aside
)

// File is one log. It is safe for concurrent use.
type File struct {
	path string
	most int64
	keep int

	mu     sync.Mutex // covers what follows
	file   *os.File   // nil until something is written, and after Reopen
	size   int64
	broken bool // and the log says so
}

var _ io.WriteCloser = (*File)(nil)

// New returns the log at path, with the usual bounds. The file is made when
// there is something to write.
func New(path string) *File { return Bounded(path, Most, Keep) }

// Bounded is New with other bounds: bytes of one file, and files set aside, at
// least one.
func Bounded(path string, most int64, keep int) *File {
	return &File{path: path, most: most, keep: max(keep, 1)}
}

// Open makes the file and its directory now, if need be, and returns why it
// cannot.
func (f *File) Open() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file != nil {
		return nil
	}
	return f.open()
}

// Write appends p, as a whole or, with an error, not at all or in part.
func (f *File) Write(p []byte) (n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err = f.ready(int64(len(p))); err == nil {
		n, err = f.file.Write(p)
		f.size += int64(n)
	}
	if err != nil && !f.broken {
		slog.Error("a log cannot be written: lines are lost", "path", f.path, "err", err)
	}
	f.broken = err != nil
	return n, err
}

// Reopen has the next write go to the file at path, whatever became of the one
// that was written so far.
func (f *File) Reopen() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.close()
}

// Close closes the file. A write after it opens it again.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.close()
}

func (f *File) close() error {
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err
}

// ready has a file open in which there is room for n more bytes.
func (f *File) ready(n int64) error {
	if f.file == nil {
		if err := f.open(); err != nil {
			return err
		}
	}
	if f.size == 0 || f.size+n <= f.most {
		return nil
	}
	// Open all the while: if it cannot be set aside it stays full, and the next
	// write tries again.
	if err := f.setAside(); err != nil {
		return err
	}
	f.close()
	return f.open()
}

// setAside renames the file, and those that were set aside before.
func (f *File) setAside() error {
	name := func(i int) string { return fmt.Sprintf("%s.%d", f.path, i) }
	for i := f.keep; i > 1; i-- {
		if err := os.Rename(name(i-1), name(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	err := os.Rename(f.path, name(1))
	if errors.Is(err, fs.ErrNotExist) { // somebody else did
		return nil
	}
	return err
}

func (f *File) open() error {
	if err := durable.MkdirAll(filepath.Dir(f.path), durable.DirMode); err != nil {
		return err
	}
	file, err := os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	f.file, f.size = file, info.Size()
	return nil
}
