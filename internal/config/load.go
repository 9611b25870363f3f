package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"pasban"
)

// Load reads pasban.yaml. The error is Problems, all of them, or a
// *pasban.Error if the file cannot be read.
func Load(path string) (*Config, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("path of the configuration: %w", err)
	}
	data, err := ReadFile(path)
	if err != nil {
		return nil, err
	}
	c, problems := Read(path, data)
	if err := problems.Err(); err != nil {
		return nil, err
	}
	return c, nil
}

// ReadFile reads a file that an operator wrote, of bounded size. The error is
// a *pasban.Error of kind Invalid.
func ReadFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &pasban.Error{Kind: pasban.Invalid, Msg: "not readable", Where: path, Err: err}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, &pasban.Error{Kind: pasban.Invalid, Msg: "not readable", Where: path, Err: err}
	}
	return data, nil
}

// Read is Load for a file's content. Relative paths are relative to the
// folder of path, which need not exist.
func Read(path string, data []byte) (*Config, Problems) {
	doc, problems := Parse(path, data)
	if problems != nil {
		return nil, problems
	}
	c := &Config{File: path}
	problems = doc.Into(c)
	k := &checker{doc: doc, c: c, dir: filepath.Dir(path), problems: problems}
	k.secrets(reflect.ValueOf(c).Elem(), "")
	k.fill()
	k.paths()
	k.check()
	k.problems.Sort()
	if k.problems != nil {
		return nil, k.problems
	}
	return c, nil
}

// fill gives values that depend on others, and those of lists.
func (k *checker) fill() {
	c := k.c
	if c.Ledger.Origin == "" && c.Agency.ID != "" {
		c.Ledger.Origin = c.Agency.ID + "/ledger"
	}
	if c.Witness.Name == "" && c.Ledger.Origin != "" {
		c.Witness.Name = c.Ledger.Origin + "/witness"
	}
	if c.Access.Budgets == nil {
		c.Access.Budgets = []Budget{
			{Role: pasban.RoleOfficer, Subjects: 50, Per: time.Hour},
			{Role: pasban.RoleSupervisor, Subjects: 100, Per: time.Hour},
		}
	}
	for i := range c.Sites {
		if w := &c.Sites[i].WAF; w.Letters == nil {
			w.Letters = []string{"Arab"}
		}
		for j := range c.Sites[i].Routes {
			r := &c.Sites[i].Routes[j]
			r.Action = r.Does()
		}
	}
}

// paths makes every path absolute and expands the patterns of file lists.
func (k *checker) paths() {
	c := k.c
	for _, p := range []*string{&c.Data, &c.TLS.Cert, &c.TLS.Key, &c.TLS.ACME.CAFile, &c.Keys.Identity, &c.Limits.Countries.File, &c.Ledger.Witnesses.CAFile} {
		*p = k.abs(*p)
	}
	for i := range c.Sites {
		c.Sites[i].UpstreamTLS.CA = k.abs(c.Sites[i].UpstreamTLS.CA)
		for _, list := range [][]string{c.Sites[i].WAF.Custom, c.Sites[i].WAF.CustomAfter} {
			for j := range list {
				list[j] = k.abs(list[j])
			}
		}
	}
	for i := range c.Limits.BlockFiles {
		c.Limits.BlockFiles[i] = k.abs(c.Limits.BlockFiles[i])
	}
	c.Services = k.glob("services", c.Services, "services/*.yaml")
	c.Policies = k.glob("policies", c.Policies, "policies/*.cedar")
	c.Rules = k.glob("rules", c.Rules, "rules")
}

func (k *checker) abs(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(k.dir, path)
}

// glob expands a list of patterns. A pattern that the file names must match
// something; the one that stands in for an absent key need not.
func (k *checker) glob(key string, patterns []string, preset string) []string {
	given := k.doc.Has(key)
	if !given {
		patterns = []string{preset}
	}
	var out []string
	for i, pattern := range patterns {
		files, err := filepath.Glob(k.abs(pattern))
		field := fmt.Sprintf("%s[%d]", key, i)
		switch {
		case err != nil:
			k.bad(field, "", "not a pattern: %q", pattern)
		case len(files) == 0 && given:
			k.bad(field, "paths are relative to "+k.dir, "no file matches %q", pattern)
		}
		for _, f := range files {
			if info, err := os.Stat(f); err == nil && info.IsDir() != (key == "rules") {
				k.bad(field, "", "%s is %s", f, map[bool]string{true: "a folder, want a file", false: "a file, want a folder"}[info.IsDir()])
				continue
			}
			out = append(out, f)
		}
	}
	return out
}

// secrets resolves every Secret in v, and refuses ${…} anywhere else.
func (k *checker) secrets(v reflect.Value, path string) {
	switch {
	case v.Type() == reflect.TypeFor[Secret]():
		s, err := v.Interface().(Secret).resolve(k.dir)
		if err != nil {
			k.bad(path, "", "%v", err)
			return
		}
		v.SetString(s.Value())
	case v.Kind() == reflect.String:
		if strings.Contains(v.String(), "${") {
			k.bad(path, "write the value itself", "${…} is for secrets only")
		}
	case v.Kind() == reflect.Pointer && !v.IsNil():
		k.secrets(v.Elem(), path)
	case v.Kind() == reflect.Struct:
		for _, f := range fieldsOf(v.Type()) {
			k.secrets(v.FieldByIndex(f.index), join(path, f.name))
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			k.secrets(v.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
	}
}
