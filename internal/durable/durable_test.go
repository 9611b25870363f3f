package durable_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pasban/internal/durable"
)

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for _, step := range []struct {
		data string
		perm fs.FileMode
	}{{"first", 0o600}, {"", 0o600}, {"longer than the first", 0o644}} {
		if err := durable.WriteFile(path, []byte(step.data), step.perm); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != step.data {
			t.Fatalf("read %q, %v; want %q", got, err, step.data)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != step.perm {
			t.Fatalf("mode %v, %v; want %v", info.Mode(), err, step.perm)
		}
	}
	onlyFile(t, filepath.Dir(path), "key")
}

// A reader beside a writer sees whole contents only.
func TestWriteFileIsAtomic(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	contents := [][]byte{bytes.Repeat([]byte("a"), 100_000), bytes.Repeat([]byte("b"), 50_000)}
	if err := durable.WriteFile(path, contents[0], 0o600); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 20 {
			if err := durable.WriteFile(path, contents[i%2], 0o600); err != nil {
				t.Error(err)
			}
		}
	})
	for range 200 {
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, contents[0]) && !bytes.Equal(got, contents[1]) {
			t.Fatalf("read %d bytes, %v: not one of the two contents", len(got), err)
		}
	}
	wg.Wait()
	onlyFile(t, filepath.Dir(path), "key")
}

// A failed write leaves the old file and nothing else.
func TestWriteFileFails(t *testing.T) {
	dir := t.TempDir()
	if err := durable.WriteFile(filepath.Join(dir, "missing", "key"), nil, 0o600); err == nil {
		t.Error("no error for a missing directory")
	}
	taken := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(taken, "inside"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := durable.WriteFile(taken, []byte("x"), 0o600)
	if err == nil || !strings.Contains(err.Error(), taken) {
		t.Errorf("error %v does not name %s", err, taken)
	}
	onlyFile(t, dir, "taken")
}

func TestMkdirAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "c")
	for range 2 {
		if err := durable.MkdirAll(path, durable.DirMode); err != nil {
			t.Fatal(err)
		}
	}
	if err := durable.CheckMode(path); err != nil {
		t.Error(err)
	}
	file := filepath.Join(path, "file")
	if err := durable.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{file, filepath.Join(file, "below")} {
		if err := durable.MkdirAll(p, durable.DirMode); err == nil {
			t.Errorf("MkdirAll(%s) over a file succeeded", p)
		}
	}
}

func TestCheckMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := durable.CheckMode(path); err == nil {
		t.Error("no error for a missing file")
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[fs.FileMode]string{
		0o600: "", 0o400: "", 0o700: "",
		0o640: "chmod 0600 " + path, 0o604: "chmod 0600 " + path, 0o755: "chmod 0700 " + path,
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		err := durable.CheckMode(path)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("mode %v: error %v, want one with %q", mode, err, want)
		}
	}
}

func onlyFile(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("%s holds %v, want %s alone", dir, entries, name)
	}
}

// A lock is another's until it is closed; a second file of the same process is
// as good as another process's (flock(2)).
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := durable.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if f, err := durable.Lock(path); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("taken twice: %v, %v", f, err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := durable.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	if f, err := durable.Lock(filepath.Join(path, "below")); err == nil || errors.Is(err, durable.ErrLocked) {
		t.Errorf("a place that cannot be: %v, %v", f, err)
	}
}
