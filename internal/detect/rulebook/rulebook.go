// Package rulebook looks after directories of Sigma rules: it loads those that
// hold and lists those that do not, runs the regression cases that lie beside
// them, and installs collections of others with their licence.
//
// # Main types
//
// [Load] gives an engine and the mistakes of what was left out. [Cases] finds
// regression cases and [Case.Run] runs one. [Install] takes a directory or an
// archive.
//
// # What it guarantees
//
// No rule is dropped in silence: what is not loaded or not installed is listed
// with file, line and reason. An archive writes nowhere but into its own
// directory, and is there whole or not at all.
//
// # What it must never do
//
// It never changes a rule, and never installs rules without the licence files
// that came with them.
package rulebook

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/detect"
)

// Load reads the rules in paths (directories or files). Rules with mistakes,
// and those that refer to them, are left out and returned as problems. The
// error says why paths cannot be read at all.
func Load(paths []string) (*detect.Engine, config.Problems, error) {
	files, err := Files(paths)
	if err != nil {
		return nil, nil, err
	}
	var problems config.Problems
	var options []detect.Option
	for {
		var found config.Problems
		engine, err := detect.Load(files, append(options, detect.SkipBad(func(p config.Problems) { found = p }))...)
		if err != nil {
			return nil, nil, err
		}
		if len(found) == 0 {
			return engine, problems, nil
		}
		options = []detect.Option{detect.Reuse(engine)} // files that hold are read once
		bad := map[string]bool{}
		for _, p := range found {
			bad[p.File] = true
		}
		left := slices.DeleteFunc(slices.Clone(files), func(f string) bool { return bad[f] })
		if len(left) == len(files) { // the problem is nobody's: do not go round for ever
			return nil, nil, found
		}
		problems = append(problems, found...)
		files = left
	}
}

// Files lists the rule files in paths, in order: those of directories, and files
// that are named. YAML files that hold no rule (placeholders, maps, cases) are
// passed over in directories.
func Files(paths []string) ([]string, error) {
	found := map[string]bool{}
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, &pasban.Error{Kind: pasban.NotFound, Msg: "cannot read the rules", Where: p, Err: cause(err), Hint: "name a directory or a file of Sigma rules"}
		}
		if !info.IsDir() {
			found[p] = true
			continue
		}
		err = filepath.WalkDir(p, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !isYAML(name) {
				return err
			}
			data, err := os.ReadFile(name)
			if err == nil && IsRule(name, data) {
				found[name] = true
			}
			return err
		})
		if err != nil {
			return nil, &pasban.Error{Kind: pasban.Unavailable, Msg: "cannot read the rules", Where: p, Err: cause(err)}
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

func isYAML(name string) bool {
	ext := filepath.Ext(name)
	return ext == ".yml" || ext == ".yaml"
}

// ruleKey is what a rule cannot be without.
var ruleKey = regexp.MustCompile(`(?m)^["']?(detection|correlation|filter)["']?\s*:`)

// IsRule reports whether a file of a collection holds a rule, by its name and
// content. One that is a rule with mistakes is a rule.
func IsRule(name string, data []byte) bool {
	base := filepath.Base(name)
	stem := strings.TrimSuffix(base, filepath.Ext(base))
	return isYAML(base) && !strings.HasSuffix(stem, ".test") && base != infoName && ruleKey.Match(bytes.ReplaceAll(data, []byte("\r"), nil))
}

// cause is an error without the path that the message names already.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}
