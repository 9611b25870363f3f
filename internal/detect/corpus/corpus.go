// Package corpus gives tests the real rules, logs and attack samples that are
// not part of the project: those in the directory PASBAN_TESTDATA, by default
// shared/data beside the project's folder. Where they are absent the test is skipped.
package corpus

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// Gzip returns the unpacked contents of a file, such as logs/NAME.ndjson.gz.
func Gzip(t testing.TB, name string) []byte {
	t.Helper()
	var data []byte
	open(t, name, func(in io.Reader) (err error) {
		data, err = io.ReadAll(in)
		return err
	})
	return data
}

// Tar returns the files of a packed archive, such as sigma/rules.tar.gz, by name.
func Tar(t testing.TB, name string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	open(t, name, func(in io.Reader) error {
		for tr := tar.NewReader(in); ; {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if h.Typeflag == tar.TypeReg {
				if files[h.Name], err = io.ReadAll(tr); err != nil {
					return err
				}
			}
		}
	})
	return files
}

func open(t testing.TB, name string, read func(in io.Reader) error) {
	t.Helper()
	path, err := where(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("there is no %s: PASBAN_TESTDATA names the folder that holds %s", path, name)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in, err := gzip.NewReader(f)
	if err == nil {
		err = read(in)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// where is the path of a file of the test data; tests run in their package's folder.
func where(name string) (string, error) {
	dir := os.Getenv("PASBAN_TESTDATA")
	if dir == "" {
		at, err := os.Getwd()
		if err != nil {
			return "", err
		}
		for ; ; at = filepath.Dir(at) {
			if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
				break
			}
			if at == filepath.Dir(at) {
				return "", errors.New("no go.mod above the test's folder")
			}
		}
		dir = filepath.Join(at, "..", "shared", "data")
	}
	return filepath.Join(dir, filepath.FromSlash(name)), nil
}
