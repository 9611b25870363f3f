package rulebook

import (
	"archive/tar"
	"archive/zip"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/durable"
)

// What an archive may hold. SigmaHQ's whole repository is 8,000 files, 60 MB.
const (
	maxEntries = 200_000
	maxFile    = 512 << 10 // of a file that is kept
	maxKept    = 256 << 20 // of all of them
	maxRead    = 4 << 30   // of everything unpacked on the way
)

// markName is the file that says where an installed collection comes from, and
// that its directory may be replaced.
const markName = "installed.json"

// Installed says what was done.
type Installed struct {
	Schema   string          `json:"schema"` // pasban.rules-installed.v1
	Name     string          `json:"name"`
	From     string          `json:"from"` // the file's or directory's name
	Dir      string          `json:"dir"`
	Rules    int             `json:"rules"`
	Files    int             `json:"files"`
	LeftOut  int             `json:"left_out"` // files of rules that do not load
	Licences []string        `json:"licences"` // files, relative to dir
	Problems config.Problems `json:"-"`        // why rules were left out
}

// Install copies the rules of a directory or archive (.tar.gz, .tgz, .tar, .zip)
// into dir/name, together with its licence files. Rules that do not load,
// and those that dir holds already, are left out and listed. A collection
// that was installed under the name before is replaced once the new one is
// whole; anything else of that name is left alone. Name may be "": the
// source's own without its ending.
func Install(from, dir, name string) (*Installed, error) {
	name = cmp.Or(name, stemOf(from))
	if !nameForm.MatchString(name) {
		return nil, &pasban.Error{Kind: pasban.Invalid, Msg: fmt.Sprintf("%q cannot be a directory's name", name), Hint: "give --name: letters, digits, dots and dashes"}
	}
	target := filepath.Join(dir, name)
	if err := mayReplace(target); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	// Staged beside dir, so that one rename puts it in place and a node that
	// reads dir meanwhile never sees half of it.
	stage, err := os.MkdirTemp(filepath.Dir(filepath.Clean(dir)), ".installing-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(stage)
	in := &Installed{Schema: "pasban.rules-installed.v1", Name: name, From: filepath.Base(from), Dir: target, Licences: []string{}}
	if err := in.stage(from, stage); err != nil {
		return nil, err
	}
	if err := in.sift(dir, target, stage); err != nil {
		return nil, err
	}
	if in.Rules == 0 {
		return nil, &pasban.Error{Kind: pasban.Invalid, Where: from, Msg: "it holds no rule that loads", Hint: "pasban rules lint says why"}
	}
	mark, err := json.MarshalIndent(in, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := durable.WriteFile(filepath.Join(stage, markName), append(mark, '\n'), 0o644); err != nil {
		return nil, err
	}
	return in, replace(stage, target)
}

var nameForm = regexp.MustCompile(`^[\pL\pN][\pL\pN._-]{0,99}$`)

func stemOf(from string) string {
	base := filepath.Base(filepath.Clean(from))
	for _, ext := range []string{".tar.gz", ".tgz", ".tar", ".zip"} {
		if stem, ok := strings.CutSuffix(strings.ToLower(base), ext); ok {
			return base[:len(stem)]
		}
	}
	return base
}

// mayReplace refuses a directory that Install did not make.
func mayReplace(target string) error {
	_, err := os.Lstat(target)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(target, markName)); err != nil {
		return &pasban.Error{Kind: pasban.Conflict, Where: target, Msg: "it is there already and was not installed by this command", Hint: "give another --name, or move it away"}
	}
	return nil
}

// replace puts the staged directory where the old one was.
func replace(stage, target string) error {
	if err := os.Chmod(stage, 0o755); err != nil {
		return err
	}
	old := stage + "-old"
	switch err := os.Rename(target, old); {
	case err == nil:
		defer os.RemoveAll(old)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return os.Rename(stage, target)
}

// stage copies the files to keep.
func (in *Installed) stage(from, stage string) error {
	root, err := os.OpenRoot(stage)
	if err != nil {
		return err
	}
	defer root.Close()
	kept, entries := int64(0), 0
	return walk(from, func(name string, r io.Reader) error {
		if entries++; entries > maxEntries {
			return tooMuch(from, fmt.Sprintf("it has more than %d files", maxEntries))
		}
		licence := isLicence(name)
		if !licence && !isYAML(name) {
			return nil
		}
		if !filepath.IsLocal(filepath.FromSlash(name)) {
			return &pasban.Error{Kind: pasban.Invalid, Where: from, Msg: fmt.Sprintf("it wants to write to %q, outside its own directory", name), Hint: "do not trust it"}
		}
		name = path.Clean(name)
		data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
		if err != nil {
			return damaged(from, err)
		}
		if len(data) > maxFile {
			if licence {
				return tooMuch(from, fmt.Sprintf("%s is over %d bytes", name, maxFile))
			}
			in.LeftOut++
			in.Problems = append(in.Problems, config.Problem{File: name, Msg: fmt.Sprintf("the file is over %d bytes", maxFile)})
			return nil
		}
		if !licence && !IsRule(name, data) {
			return nil
		}
		if kept += int64(len(data)); kept > maxKept {
			return tooMuch(from, fmt.Sprintf("its rules are over %d bytes", maxKept))
		}
		if licence {
			in.Licences = append(in.Licences, name)
		}
		in.Files++
		return write(root, name, data)
	})
}

func write(root *os.Root, name string, data []byte) error {
	name = filepath.FromSlash(name)
	if dir := filepath.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return root.WriteFile(name, data, 0o644)
}

// isLicence reports whether a file says on what terms the others may be used.
func isLicence(name string) bool {
	base := strings.ToUpper(path.Base(filepath.ToSlash(name)))
	for _, word := range []string{"LICENSE", "LICENCE", "COPYING", "NOTICE"} {
		if strings.HasPrefix(base, word) {
			return true
		}
	}
	return false
}

// sift removes staged rules that do not load, and those that dir has already.
func (in *Installed) sift(dir, target, stage string) error {
	var others []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, d := range entries {
		if p := filepath.Join(dir, d.Name()); p != target && (d.IsDir() || isYAML(p)) {
			others = append(others, p)
		}
	}
	before, broken, err := Load(others)
	if err != nil {
		return err
	}
	there := map[string]string{}
	for _, r := range before.Rules() {
		there[r.ID] = r.File
	}
	staged, problems, err := Load([]string{stage})
	if err != nil {
		return err
	}
	for _, r := range staged.Rules() {
		if other := there[r.ID]; other != "" {
			problems = append(problems, config.Problem{File: r.File, Line: r.Line, Field: "id", Msg: "the rule is there already: " + other})
		}
	}
	if err := in.leaveOut(problems, stage); err != nil {
		return err
	}
	all, problems, err := Load(append(others, stage))
	if err != nil {
		return err
	}
	if len(problems) > len(broken) { // two rules of one name, for instance
		return &pasban.Error{Kind: pasban.Conflict, Where: in.From, Msg: "its rules and those in " + dir + " do not load together", Err: problems.Err()}
	}
	in.Rules = len(all.Rules()) - len(before.Rules())
	return nil
}

// leaveOut removes the staged files that have problems, and notes why.
func (in *Installed) leaveOut(problems config.Problems, stage string) error {
	removed := map[string]bool{}
	for _, p := range problems {
		if !removed[p.File] {
			removed[p.File] = true
			if err := os.Remove(p.File); err != nil {
				return err
			}
		}
		if name, err := filepath.Rel(stage, p.File); err == nil {
			p.File = filepath.ToSlash(name)
		}
		in.Problems = append(in.Problems, p)
	}
	in.LeftOut += len(removed)
	in.Files -= len(removed)
	return nil
}

// walk calls fn with every regular file of a directory or archive, its name with
// slashes. Links are passed over: nothing that a rule needs is one.
func walk(from string, fn func(name string, r io.Reader) error) error {
	st, err := os.Stat(from)
	if err != nil {
		return &pasban.Error{Kind: pasban.NotFound, Where: from, Msg: "cannot read it", Err: cause(err)}
	}
	if st.IsDir() {
		return walkDir(from, fn)
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	lower := strings.ToLower(from)
	switch {
	case strings.HasSuffix(lower, ".zip"):
		return walkZip(from, f, st.Size(), fn)
	case strings.HasSuffix(lower, ".tar"):
		return walkTar(from, f, fn)
	case strings.HasSuffix(lower, ".tar.gz"), strings.HasSuffix(lower, ".tgz"):
		zr, err := gzip.NewReader(f)
		if err != nil {
			return damaged(from, err)
		}
		return walkTar(from, zr, fn)
	}
	return &pasban.Error{Kind: pasban.Invalid, Where: from, Msg: "neither a directory nor a .tar.gz, .tar or .zip archive"}
}

func walkDir(from string, fn func(name string, r io.Reader) error) error {
	root, err := os.OpenRoot(from)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if !isYAML(name) && !isLicence(name) {
			return nil
		}
		f, err := root.Open(filepath.FromSlash(name))
		if err != nil {
			return err
		}
		defer f.Close()
		return fn(name, f)
	})
}

func walkTar(from string, in io.Reader, fn func(name string, r io.Reader) error) error {
	limited := &io.LimitedReader{R: in, N: maxRead}
	tr := tar.NewReader(limited)
	for {
		head, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF) && limited.N > 0:
			return nil
		case limited.N <= 0:
			return tooMuch(from, fmt.Sprintf("it unpacks to over %d bytes", int64(maxRead)))
		case err != nil:
			return damaged(from, err)
		case head.Typeflag != tar.TypeReg:
			continue
		}
		if err := fn(head.Name, tr); err != nil {
			return err
		}
	}
}

func walkZip(from string, f io.ReaderAt, size int64, fn func(name string, r io.Reader) error) error {
	zr, err := zip.NewReader(f, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return damaged(from, err)
	}
	for _, e := range zr.File {
		if !e.Mode().IsRegular() {
			continue
		}
		r, err := e.Open()
		if err != nil {
			return damaged(from, err)
		}
		err = fn(e.Name, r)
		r.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func tooMuch(from, what string) error {
	return &pasban.Error{Kind: pasban.Limited, Where: from, Msg: what, Hint: "unpack it yourself and install the directory of the rules"}
}

func damaged(from string, err error) error {
	return &pasban.Error{Kind: pasban.Invalid, Where: from, Msg: "the archive is damaged", Err: err}
}
