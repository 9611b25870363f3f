package logfile

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// read returns the files of a directory, as NAME=CONTENTS.
func read(t *testing.T, dir string) (out []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
		}
		out = append(out, e.Name()+"="+string(data))
	}
	return out
}

func want(t *testing.T, dir string, files ...string) {
	t.Helper()
	if got := read(t, dir); !slices.Equal(got, files) {
		t.Errorf("files %q, want %q", got, files)
	}
}

func put(t *testing.T, f *File, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if n, err := f.Write([]byte(l)); err != nil || n != len(l) {
			t.Fatalf("%q: %d, %v", l, n, err)
		}
	}
}

// TestBounds: a full file is set aside, the oldest goes, no line is divided, and
// a restart goes on where it was.
func TestBounds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	f := Bounded(filepath.Join(dir, "a.log"), 10, 2)
	if _, err := os.Stat(dir); err == nil {
		t.Error("a log with nothing in it has a directory")
	}
	put(t, f, "1aaa\n", "2aaa\n")
	want(t, dir, "a.log=1aaa\n2aaa\n")
	put(t, f, "3\n")
	want(t, dir, "a.log=3\n", "a.log.1=1aaa\n2aaa\n")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = Bounded(filepath.Join(dir, "a.log"), 10, 2)
	put(t, f, "4\n", "a line longer than the file\n")
	want(t, dir, "a.log=a line longer than the file\n", "a.log.1=3\n4\n", "a.log.2=1aaa\n2aaa\n")
	put(t, f, "5\n")
	want(t, dir, "a.log=5\n", "a.log.1=a line longer than the file\n", "a.log.2=3\n4\n")
	f.Close()
}

// TestReopen: another program sets the file aside, and says so.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.log")
	f := New(path)
	if err := f.Open(); err != nil {
		t.Fatal(err)
	}
	put(t, f, "1\n")
	if err := os.Rename(path, path+"-2026"); err != nil {
		t.Fatal(err)
	}
	put(t, f, "2\n") // to where it is now: nothing is lost between
	f.Reopen()
	put(t, f, "3\n")
	want(t, dir, "a.log=3\n", "a.log-2026=1\n2\n")
	f.Close()
}

// TestBroken: what cannot be set aside does not grow beyond its bound, lines are
// lost meanwhile, and it goes on by itself.
func TestBroken(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.log")
	f := Bounded(path, 4, 1)
	put(t, f, "123\n")
	if err := os.MkdirAll(filepath.Join(path+".1", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := f.Write([]byte("lost\n")); err == nil {
			t.Error("written beyond its bound")
		}
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "123\n" {
		t.Errorf("%q, %v", data, err)
	}
	if err := os.RemoveAll(path + ".1"); err != nil {
		t.Fatal(err)
	}
	put(t, f, "4\n")
	want(t, dir, "a.log=4\n", "a.log.1=123\n")
	f.Close()
	if err := Bounded(filepath.Join(path, "a file is no directory"), 4, 1).Open(); err == nil {
		t.Error("opened below a file")
	}
}

// TestManyWriters: lines of many writers are whole, and of those that are still
// there each writer's are in order.
func TestManyWriters(t *testing.T) {
	dir := t.TempDir()
	f := Bounded(filepath.Join(dir, "a.log"), 4096, 100)
	const writers, lines = 8, 200
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range lines {
				fmt.Fprintf(f, "writer %d line %d\n", w, i)
				if i%50 == 0 {
					f.Reopen()
				}
			}
		})
	}
	wg.Wait()
	f.Close()
	var all strings.Builder
	for i := 100; i >= 0; i-- {
		name := filepath.Join(dir, "a.log")
		if i > 0 {
			name += fmt.Sprint(".", i)
		}
		data, err := os.ReadFile(name)
		if err == nil && len(data) > 4096 {
			t.Errorf("%s has %d bytes", name, len(data))
		}
		all.Write(data)
	}
	next := [writers]int{}
	for line := range strings.Lines(all.String()) {
		var w, i int
		if _, err := fmt.Sscanf(line, "writer %d line %d\n", &w, &i); err != nil || next[w] != i {
			t.Fatalf("%q, want line %d of it: %v", line, next[w], err)
		}
		next[w]++
	}
	if strings.Count(all.String(), "\n") != writers*lines {
		t.Errorf("%d lines, want %d", strings.Count(all.String(), "\n"), writers*lines)
	}
}
