package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets this test binary be pasban: what a test or a script runs under
// that name is the command as it is built, in a process of its own (with the
// race detector, if the tests have it).
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"pasban": main})
}

// TestScripts runs testdata/*.txtar: one file for each behaviour of the
// command line.
func TestScripts(t *testing.T) {
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv("EXAMPLES", examples)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"free":  freeCmd,
			"ready": readyCmd,
		},
	})
}

// freeCmd is `free FILE`: it replaces LISTEN and ADMIN in a file by addresses
// at which nobody listens.
func freeCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: free FILE")
	}
	name := ts.MkAbs(args[0])
	text := ts.ReadFile(args[0])
	for _, word := range []string{"LISTEN", "ADMIN"} {
		at, err := freeAddress()
		ts.Check(err)
		ts.Setenv(word, at)
		text = replaceAll(text, word, at)
	}
	ts.Check(os.WriteFile(name, []byte(text), 0o600))
}

// readyCmd is `ready`: it waits until the node at $ADMIN is ready.
func readyCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: ready")
	}
	ts.Check(await(func() error {
		_, err := readyz(ts.Getenv("ADMIN"))
		return err
	}))
}
