package storetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"

	"pasban/internal/store"
)

// Crash tests run the test binary again as a child that works until it is
// killed. These variables tell it so.
const (
	envChild = "PASBAN_STORETEST_CHILD" // the name of the work to do
	envArg   = "PASBAN_STORETEST_ARG"
)

// Main is the TestMain of test binaries with crash tests: it runs the tests,
// or, in a child started by [KillChild], the named work.
func Main(m *testing.M, works map[string]func(arg string, acknowledge func(line string)) error) {
	name := os.Getenv(envChild)
	if name == "" {
		os.Exit(m.Run())
	}
	work := works[name]
	if name == "store" {
		work = storeChild
	}
	if work == nil {
		fmt.Fprintln(os.Stderr, "no such work:", name)
		os.Exit(2)
	}
	var mu sync.Mutex
	err := work(os.Getenv(envArg), func(line string) {
		mu.Lock()
		defer mu.Unlock()
		if _, err := io.WriteString(os.Stdout, line+"\n"); err != nil { // one write: a line is whole or not there
			os.Exit(3)
		}
	})
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// KillChild runs the named work in a child process, kills it (SIGKILL) at a
// random moment after between 1 and max acknowledgements, and returns every
// line that it acknowledged.
func KillChild(t *testing.T, name, arg string, max int) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), envChild+"="+name, envArg+"="+arg)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var lines []string
	after := 1 + rand.IntN(max)
	in := bufio.NewScanner(out)
	for in.Scan() {
		lines = append(lines, in.Text())
		if len(lines) == after {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || len(lines) < after {
		t.Fatalf("the child ended by itself after %d acknowledgements: %v", len(lines), err)
	}
	return lines
}

// storeChild writes pairs of rows from several goroutines for ever.
func storeChild(dsn string, acknowledge func(string)) error {
	st, err := store.Open(context.Background(), dsn)
	if err != nil {
		return err
	}
	errs := make(chan error)
	for range 8 {
		go func() {
			for {
				id := rand.Int64N(1 << 62)
				err := st.Write(context.Background(), func(tx *store.Tx) error {
					_, err := tx.Exec(`INSERT INTO item (id, note) VALUES (?, 'first')`, id)
					_, err2 := tx.Exec(`INSERT INTO item (id, note) VALUES (?, 'second')`, -id)
					return errors.Join(err, err2)
				})
				if err != nil {
					errs <- err
				}
				acknowledge(fmt.Sprint(id))
			}
		}()
	}
	return <-errs
}

// survivesKill: whatever was acknowledged before a kill -9 is there, and every
// write is there whole or not at all.
func survivesKill(t *testing.T, dsn string) {
	table(t, dsn).Close()
	for range 8 {
		acknowledged := KillChild(t, "store", dsn, 200)
		st, err := store.Open(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range acknowledged {
			if n := count(t, st, `id = CAST(? AS BIGINT) OR id = -CAST(? AS BIGINT)`, id, id); n != 2 {
				t.Errorf("acknowledged write %s: %d of its 2 rows are there", id, n)
			}
		}
		if n := count(t, st, `id > 0 AND NOT EXISTS (SELECT 1 FROM item o WHERE o.id = -item.id)`); n != 0 {
			t.Errorf("%d writes are there by half", n)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}
}
