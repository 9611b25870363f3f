package pasban_test

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

const module = "pasban"

// floors is the plan of the house. A room imports lower floors only; rooms on
// one floor do not know each other. A folder inside a room belongs to it,
// unless it is listed itself. ARCHITECTURE.md says what each room is for.
var floors = map[string]int{
	"internal/vrf": -1, // below the nouns: they verify with it
	".":            0, "internal/durable": 0, "internal/store": 0, "examples": 0, "examples/landregistry": 0,
	"internal/journal": 1, "internal/page": 1, "internal/paper": 1, "internal/config": 1, "internal/keys": 1, "internal/eventstore": 1,
	"internal/identity": 2, "internal/access": 2, "internal/vault": 2, "internal/ledger": 2, "internal/detect": 2,
	"internal/registry": 3, "internal/soc": 3, "internal/sentinel": 3,
	"internal/gateway": 4, "internal/portal": 4, "internal/desk": 4, "internal/console": 4, "internal/trust": 4, "internal/api": 4,
	"internal/node": 5, "internal/demo": 5,
	"cmd/pasban": 6, "cmd/pasban-verify": 6, "test/bench": 6, "test/clients": 6, "test/storage": 6,
}

// maxLines is the longest a function may be.
const maxLines = 80

// room returns the listed room that a folder belongs to.
func room(dir string) (string, bool) {
	for d := dir; ; d = path.Dir(d) {
		if _, ok := floors[d]; ok && (d != "." || dir == ".") {
			return d, true
		}
		if d == "." {
			return "", false
		}
	}
}

// TestHouse keeps the rules of the house: floors, one package comment each, no
// init functions, functions that fit on a screen, nothing of Pasban inside the
// example of an existing service.
func TestHouse(t *testing.T) {
	comments := map[string]int{}
	rooms := map[string]bool{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); name != "." && (n == "testdata" || n == "node_modules" || strings.HasPrefix(n, ".")) || name == "internal/tmpdeps" {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		dir := filepath.ToSlash(filepath.Dir(name))
		from, ok := room(dir)
		if !ok {
			t.Errorf("%s: no floor; add the room to floors and to ARCHITECTURE.md, or move the file", dir)
			return nil
		}
		rooms[from] = true
		if strings.HasSuffix(name, "_test.go") {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		comments[dir] += 0
		if f.Doc != nil {
			comments[dir]++
		}
		checkImports(t, fset, f, from)
		checkFuncs(t, fset, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir, n := range comments {
		if n != 1 {
			t.Errorf("%s: %d package comments, want 1", dir, n)
		}
	}
	for r := range floors {
		if !rooms[r] && r != "examples" {
			t.Errorf("%s: listed in floors but not there", r)
		}
	}
}

func checkImports(t *testing.T, fset *token.FileSet, f *ast.File, from string) {
	for _, spec := range f.Imports {
		p := strings.Trim(spec.Path.Value, `"`)
		if p != module && !strings.HasPrefix(p, module+"/") {
			continue
		}
		to, ok := room(cmp.Or(strings.TrimPrefix(strings.TrimPrefix(p, module), "/"), "."))
		if !ok || to != from && floors[to] >= floors[from] {
			t.Errorf("%s: %s (floor %d) may not import %s (floor %d)",
				fset.Position(spec.Pos()), from, floors[from], p, floors[to])
		}
	}
}

func checkFuncs(t *testing.T, fset *token.FileSet, f *ast.File) {
	for _, decl := range f.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		pos := fset.Position(fn.Pos())
		if n := fset.Position(fn.End()).Line - pos.Line + 1; n > maxLines {
			t.Errorf("%s: %s is %d lines, want at most %d", pos, fn.Name.Name, n, maxLines)
		}
		if fn.Recv == nil && fn.Name.Name == "init" {
			t.Errorf("%s: no init functions; wire in internal/node", pos)
		}
	}
}

// TestArchitectureListsEveryRoom keeps ARCHITECTURE.md's table true.
func TestArchitectureListsEveryRoom(t *testing.T) {
	doc, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for r := range floors {
		if r == "." {
			continue
		}
		if !strings.Contains(string(doc), "`"+r+"`") {
			t.Errorf("ARCHITECTURE.md does not name `%s`", r)
		}
	}
}
