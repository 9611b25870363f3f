package ledger_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/journal"
	"pasban/internal/journal/journaltest"
	"pasban/internal/keys"
	"pasban/internal/ledger"
	"pasban/internal/ledger/ledgertest"
	"pasban/internal/ledger/storage/posix"
	"pasban/internal/ledger/tiles"
	"pasban/internal/ledger/witness"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

const origin = ledgertest.Origin

// child is set in the process that TestKill9 kills.
const child = "PASBAN_LEDGER_CHILD"

// childWitness is the key and the address of that process's witness, if it has one.
const childWitness = "PASBAN_LEDGER_WITNESS"

func TestMain(m *testing.M) {
	ledger.RouteLogs(slog.New(slog.DiscardHandler))
	slog.SetDefault(slog.New(slog.DiscardHandler))
	if dir := os.Getenv(child); dir != "" {
		if err := crashingNode(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// node is a ledger in one directory with what it stands on.
type node struct {
	dir string
	*ledgertest.Parts
	*ledger.Ledger
	stop func() error // stops Run and returns its error
}

// options make everything fast; audits are called by hand.
var options = ledger.Options{Agency: "land-records", Interval: 100 * time.Millisecond, AuditEvery: time.Hour, MaxDelay: time.Minute}

// parts opens everything under the ledger.
func parts(ctx context.Context, dir, dsn string) (*node, error) {
	p, err := ledgertest.Open(ctx, dir, dsn, journaltest.NewSealer(""))
	return &node{dir: dir, Parts: p}, err
}

func (n *node) ledgerDir() string { return filepath.Join(n.dir, "ledger") }

// open opens the ledger over the parts and runs it.
func (n *node) open(ctx context.Context, o ledger.Options) (err error) {
	o.Damaged = n.ledgerDir() + ".damaged"
	n.Ledger, err = ledger.Open(ctx, posix.New(n.ledgerDir()), n.Store, n.Journal, n.Signer, n.VKey, o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- n.Run(ctx) }()
	n.stop = sync.OnceValue(func() error { cancel(); return <-ran })
	return nil
}

func (n *node) close() error {
	var errs []error
	if n.Ledger != nil {
		errs = append(errs, n.Close())
		n.stop()
	}
	return errors.Join(append(errs, n.CloseParts())...)
}

// start opens a whole node in dir, which ends with the test.
func start(t testing.TB, dir string) *node {
	t.Helper()
	return startAt(t, dir, filepath.Join(dir, "store.db"))
}

func startAt(t testing.TB, dir, dsn string) *node {
	t.Helper()
	n, err := parts(t.Context(), dir, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.close() })
	if err := n.open(context.WithoutCancel(t.Context()), options); err != nil {
		t.Fatal(err)
	}
	return n
}

func look(i int) pasban.Fact {
	f := pasban.NewFact(pasban.KindLook, "land-records", pasban.Actor{ID: "officer:1", Kind: pasban.ActorPerson}, time.Now())
	f.Body.Resource = strconv.Itoa(i)
	return f
}

// record records accountable facts, with others between them.
func (n *node) record(t testing.TB, count int) []journal.Entry {
	t.Helper()
	var out []journal.Entry
	for chunk := range slices.Chunk(make([]struct{}, count), 200) {
		var facts []pasban.Fact
		for i := range chunk {
			facts = append(facts, look(i))
			if i%3 == 0 {
				facts = append(facts, pasban.NewFact(pasban.KindBlock, "land-records", pasban.Actor{}, time.Now()))
			}
		}
		entries, err := n.Journal.Record(t.Context(), facts...)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Index >= 0 {
				out = append(out, e)
			}
		}
	}
	return out
}

// settle waits until everything recorded is under a checkpoint.
func (n *node) settle(t testing.TB) {
	t.Helper()
	_, leaves, err := n.Journal.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if leaves > 0 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := n.Await(ctx, leaves-1); err != nil {
			t.Fatal(err, n.Healthy())
		}
	}
}

// until waits for what another goroutine brings about; the limit is the
// test's own.
func until(t testing.TB, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-tick.C:
		}
	}
}

// check compares the published log with the journal, leaf by leaf.
func (n *node) check(t testing.TB) {
	t.Helper()
	n.settle(t)
	if err := n.Audit(t.Context()); err != nil {
		t.Error(err)
	}
	_, leaves, err := n.Journal.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rows, err := n.Journal.Leaves(t.Context(), 0, int(leaves)+1)
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(n.ledgerDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	size := int64(n.Status().Size)
	if size != int64(leaves) {
		t.Errorf("%d leaves published, the journal has %d", size, leaves)
	}
	for at := int64(0); at < size; at += tiles.Width {
		w := min(tiles.Width, size-at)
		got, err := tiles.ReadBundle(t.Context(), tiles.Dir{Root: root}, tlog.Tile{L: tiles.Entries, N: at / tiles.Width, W: int(w)})
		if err != nil {
			t.Fatal(err)
		}
		for i, leaf := range got {
			if want := rows[at+int64(i)].Leaf; !bytes.Equal(leaf, want[:]) {
				t.Fatalf("leaf %d is not the journal's", at+int64(i))
			}
		}
	}
}

// alarms returns what alarm facts name.
func (n *node) alarms(t testing.TB) []string {
	t.Helper()
	return n.alarmed(t, func(b pasban.Body) string { return b.Resource })
}

// alarmed returns what alarm facts say of something, oldest first.
func (n *node) alarmed(t testing.TB, what func(pasban.Body) string) (out []string) {
	t.Helper()
	entries, err := n.Journal.Since(t.Context(), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Fact.Body.Kind == pasban.KindAlarm {
			out = append(out, what(e.Fact.Body))
		}
	}
	return out
}

func TestReceipts(t *testing.T) {
	storetest.Each(t, func(t *testing.T, _ *store.Store) {
		dir := t.TempDir()
		dsn := filepath.Join(dir, "store.db")
		if strings.HasSuffix(t.Name(), store.Postgres) {
			dsn = storetest.PostgresDSN(t)
		}
		n := startAt(t, dir, dsn)
		entries := n.record(t, 700)
		n.settle(t)
		for _, i := range []int{0, 1, 255, 256, 511, 699} {
			r, err := n.Receipt(t.Context(), entries[i])
			if err != nil {
				t.Fatal(err)
			}
			body, err := r.Verify(n.Verifier)
			if err != nil || body.ID != entries[i].Fact.Body.ID || r.Index != uint64(i) {
				t.Errorf("receipt %d: %+v, %v", i, body, err)
			}
			if r.Restricted != nil {
				t.Error("the receipt tells the restricted part")
			}
			stored, err := n.Journal.ByIndex(t.Context(), uint64(i)) // as read back, later
			if err != nil {
				t.Fatal(err)
			}
			if _, err := n.Receipt(t.Context(), stored); err != nil {
				t.Error(err)
			}
		}
		n.check(t)
		if err := n.Healthy(); err != nil {
			t.Error(err)
		}
	})
}

func TestReceiptRefuses(t *testing.T) {
	n := start(t, t.TempDir())
	e := n.record(t, 3)[0]
	n.settle(t)
	other := e
	other.Opening.Body = bytes.Replace(other.Opening.Body, []byte("look"), []byte("1ook"), 1)
	for name, c := range map[string]struct {
		e    journal.Entry
		kind pasban.ErrorKind
	}{
		"no leaf":       {journal.Entry{Index: -1}, pasban.NotFound},
		"shredded":      {journal.Entry{Index: 0, Shredded: true}, pasban.NotFound},
		"not yet there": {journal.Entry{Index: 1 << 40, Opening: e.Opening}, pasban.Unavailable},
		"another leaf":  {journal.Entry{Index: 1, Opening: e.Opening}, pasban.Unavailable},
		"another body":  {other, pasban.Unavailable},
	} {
		if r, err := n.Receipt(t.Context(), c.e); err == nil || pasban.KindOf(err) != c.kind || r.Schema != "" {
			t.Errorf("%s: %+v, %v; want %s", name, r, err, c.kind)
		}
	}
}

// A tile that was changed gives no receipt, and is forgotten when it is whole again.
func TestReceiptFromDamagedTile(t *testing.T) {
	n := start(t, t.TempDir())
	e := n.record(t, 300)[7]
	n.settle(t)
	path := filepath.Join(n.ledgerDir(), "tile", "0", "000")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	broken := bytes.Clone(whole)
	broken[0] ^= 1
	for _, c := range []struct {
		data []byte
		ok   bool
	}{{broken, false}, {whole, true}} {
		if err := os.WriteFile(path, c.data, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := n.Receipt(t.Context(), e)
		if (err == nil) != c.ok || err != nil && pasban.KindOf(err) != pasban.Unavailable {
			t.Errorf("receipt from a tile that is whole: %t: %v", c.ok, err)
		}
	}
}

// Many writers at once: the log is the journal's order.
func TestOrderUnderLoad(t *testing.T) {
	n := start(t, t.TempDir())
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range 60 {
				if _, err := n.Journal.Record(t.Context(), look(i), look(-i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	n.check(t)
}

func TestRestartGoesOn(t *testing.T) {
	dir := t.TempDir()
	for range 4 {
		n := start(t, dir)
		n.record(t, 100)
		n.check(t)
		n.record(t, 50) // left to the next start
		if err := n.close(); err != nil {
			t.Fatal(err)
		}
	}
	n := start(t, dir)
	n.check(t)
	if got := n.Status().Size; got != 600 {
		t.Errorf("%d leaves, want 600", got)
	}
}

// crashingNode records facts and says which were acknowledged, until it is killed.
func crashingNode(dir string) error {
	n, err := parts(context.Background(), dir, filepath.Join(dir, "store.db"))
	if err != nil {
		return err
	}
	o := options
	if key, url, ok := strings.Cut(os.Getenv(childWitness), " "); ok {
		w, err := witness.NewClient(key, url, nil)
		if err != nil {
			return err
		}
		o.Witnesses = ledger.Witnesses{Need: 1, Of: []*witness.Client{w}, Pause: 20 * time.Millisecond}
	}
	if err := n.open(context.Background(), o); err != nil {
		return err
	}
	for n.Healthy() != nil { // the witness has not spoken
		time.Sleep(time.Millisecond)
	}
	for i := 0; ; i++ {
		entries, err := n.Journal.Record(context.Background(), look(i), look(i), look(i))
		if err != nil {
			return err
		}
		for _, e := range entries {
			fmt.Println(e.Index, e.Fact.Body.ID)
		}
	}
}

// kill -9 at any moment: everything acknowledged is in the log, once, in order,
// and the log goes on. Every other time it has a witness, which never sees
// anything but one log that grows.
func TestKill9(t *testing.T) {
	dir := t.TempDir()
	p, err := parts(t.Context(), dir, filepath.Join(dir, "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	w := newWatcher(t, "a.example/w", p.Verifier)
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	acknowledged := map[uint64]string{}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for round := range 6 {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), child+"="+dir)
		if round%2 == 1 {
			cmd.Env = append(cmd.Env, childWitness+"="+w.Key()+" "+w.url)
		}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			var index uint64
			var id string
			if _, err := fmt.Sscan(lines.Text(), &index, &id); err == nil {
				acknowledged[index] = id
			}
			if n == 100+173*round { // somewhere: what it does in between is up to the machine
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		cmd.Wait()
		if stderr.Len() > 0 {
			t.Fatal(stderr.String())
		}
	}
	n := begin(t, dir, "", func(note.Verifier) ledger.Options { return witnessed(1, w) })
	n.finalAt(t)
	n.check(t)
	if alarms := n.actions(t); len(alarms) > 0 {
		t.Errorf("alarms %v", alarms)
	}
	for index, id := range acknowledged {
		e, err := n.Journal.ByIndex(t.Context(), index)
		if err != nil || e.Fact.Body.ID != id {
			t.Fatalf("acknowledged leaf %d: %v", index, err)
		}
		if index%50 == 0 {
			if _, err := n.Receipt(t.Context(), e); err != nil {
				t.Error(err)
			}
		}
	}
	if err := n.Healthy(); err != nil {
		t.Error(err)
	}
}

// allFiles lists the ledger's public files.
func (n *node) allFiles(t testing.TB) []string {
	t.Helper()
	names := []string{"checkpoint"}
	err := filepath.WalkDir(filepath.Join(n.ledgerDir(), "tile"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			name, _ := filepath.Rel(n.ledgerDir(), path)
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func (n *node) edit(t testing.TB, name string) {
	t.Helper()
	path := filepath.Join(n.ledgerDir(), name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 0x10
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Every kind of file, changed: found and named, recorded once, repaired.
func TestTamperingIsFoundAndRepaired(t *testing.T) {
	n := start(t, t.TempDir())
	n.record(t, 300)
	n.settle(t)
	n.record(t, 330)
	n.check(t)
	var want []string
	kinds := map[string]bool{}
	for _, name := range n.allFiles(t) {
		if name == "checkpoint" {
			continue // another test
		}
		tile, err := tiles.ParsePath(name)
		if err != nil {
			t.Fatalf("what is %s: %v", name, err)
		}
		if kind := fmt.Sprint(tile.L, tile.W == tiles.Width, tile.N); kinds[kind] {
			continue
		} else {
			kinds[kind] = true
		}
		want = append(want, name)
		n.edit(t, name)
		for range 2 {
			err := n.Audit(t.Context())
			e, ok := errors.AsType[*pasban.Error](err)
			if !ok || e.Where != name {
				t.Errorf("%s changed: %v", name, err)
			}
		}
		if got := n.Status().Damaged; len(got) != 1 || got[0].Path != name {
			t.Errorf("%s changed: status says %v", name, got)
		}
		if err := n.Healthy(); err != nil {
			t.Errorf("%s changed: unhealthy, %v", name, err)
		}
		findings, err := n.Repair(t.Context())
		if err != nil || len(findings) != 1 || findings[0].Path != name {
			t.Errorf("%s changed: repaired %v, %v", name, findings, err)
		}
		n.check(t)
	}
	if len(kinds) < 6 {
		t.Errorf("only %d kinds of files tried", len(kinds))
	}
	if got := n.alarms(t); !slices.Equal(got, want) {
		t.Errorf("alarms %q, want %q", got, want)
	}
	kept, err := filepath.Glob(n.ledgerDir() + ".damaged/*")
	if err != nil || len(kept) == 0 {
		t.Errorf("what was there was not kept: %v", err)
	}
}

// A changed tile at the right edge is built upon by the driver. The wrong root
// is not signed; the tile is put right and the log goes on.
func TestWrongRootIsNotSigned(t *testing.T) {
	n := start(t, t.TempDir())
	n.record(t, 300)
	n.settle(t)
	size := n.Status().Size
	var edited string
	for _, name := range n.allFiles(t) {
		if tile, err := tiles.ParsePath(name); err == nil && tile.L == 0 && tile.N == 1 && tile.W == int(size%tiles.Width) {
			edited = name
		}
	}
	n.edit(t, edited)
	n.record(t, 10)
	n.settle(t) // only a right root gets here
	n.check(t)
	if got := n.alarms(t); !slices.Contains(got, edited) {
		t.Errorf("alarms %q, want %q among them", got, edited)
	}
	if err := n.Healthy(); err != nil {
		t.Error(err)
	}
}

// A changed, removed or rolled back checkpoint is put back and recorded.
func TestCheckpointIsPutBack(t *testing.T) {
	n := start(t, t.TempDir())
	n.record(t, 5)
	n.settle(t)
	path := filepath.Join(n.ledgerDir(), "checkpoint")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n.record(t, 5)
	n.settle(t)
	for i, change := range []func() error{
		func() error { return os.WriteFile(path, []byte("nonsense"), 0o644) },
		func() error { return os.Remove(path) },
		func() error { return os.WriteFile(path, old, 0o644) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		until(t, func() bool { return len(n.alarms(t)) > i })
		n.record(t, 1)
		n.check(t)
	}
}

// copyTree copies a directory, as a backup does.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(to, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(name, 0o700)
		}
		return os.Chmod(name, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A directory that is not the one that was signed for is refused, and what is
// refused has signed nothing.
func TestRollbackIsNoticed(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, n *node, old string)
		want  string
	}{
		{"directory restored", func(t *testing.T, n *node, old string) {
			copyTree(t, filepath.Join(old, "ledger"), n.ledgerDir())
		}, "rolled back"},
		{"directory removed", func(t *testing.T, n *node, _ string) {
			if err := os.RemoveAll(n.ledgerDir()); err != nil {
				t.Fatal(err)
			}
		}, "no checkpoint"},
		{"state restored", func(t *testing.T, n *node, old string) {
			copyTree(t, filepath.Join(old, "ledger/.state"), filepath.Join(n.ledgerDir(), ".state"))
		}, "rolled back"},
		{"checkpoint restored", func(t *testing.T, n *node, old string) {
			data, err := os.ReadFile(filepath.Join(old, "ledger/checkpoint"))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(n.ledgerDir(), "checkpoint"), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "rolled back"},
		{"checkpoint forged", func(t *testing.T, n *node, _ string) { n.edit(t, "checkpoint") }, "cannot be used"},
		{"checkpoint forked", func(t *testing.T, n *node, _ string) { // with the key itself
			root := tlog.RecordHash([]byte("fork"))
			signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", origin, 40, root)}, n.Signer)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(n.ledgerDir(), "checkpoint"), signed, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "forked"},
		{"store restored", func(t *testing.T, n *node, old string) {
			for _, name := range []string{"store.db", "store.db-wal", "store.db-shm"} {
				data, err := os.ReadFile(filepath.Join(old, name))
				if errors.Is(err, fs.ErrNotExist) {
					os.Remove(filepath.Join(n.dir, name))
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(n.dir, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}, "store was rolled back"},
		{"ledger of another key", func(t *testing.T, n *node, _ string) {
			if err := os.WriteFile(filepath.Join(n.ledgerDir(), "vkey"), []byte("other\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, "another key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, old := t.TempDir(), t.TempDir()
			n := start(t, dir)
			n.record(t, 20)
			n.settle(t)
			if err := n.close(); err != nil {
				t.Fatal(err)
			}
			copyTree(t, dir, old)
			n = start(t, dir)
			n.record(t, 20)
			n.settle(t)
			if err := n.close(); err != nil {
				t.Fatal(err)
			}
			again := &node{dir: dir, Parts: &ledgertest.Parts{}}
			reopened, err := keys.Open(t.Context(), filepath.Join(dir, "keys"), keys.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer reopened.Close()
			inner, vkey, err := reopened.LedgerSigner(origin)
			if err != nil {
				t.Fatal(err)
			}
			n.Signer = inner
			c.spoil(t, n, old)
			counter := &counting{Signer: inner}
			again.Store, err = store.Open(t.Context(), filepath.Join(dir, "store.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer again.Store.Close()
			again.Journal, err = journal.Open(t.Context(), again.Store, journal.Options{Signer: inner, Sealer: journaltest.NewSealer("")})
			if err != nil {
				t.Fatal(err)
			}
			l, err := ledger.Open(t.Context(), posix.New(again.ledgerDir()), again.Store, again.Journal, counter, vkey, options)
			if err == nil {
				l.Close()
			}
			e, ok := errors.AsType[*pasban.Error](err)
			if !ok || !strings.Contains(err.Error(), c.want) || e.Hint == "" {
				t.Errorf("opened: %v; want %q and a hint", err, c.want)
			}
			if counter.n != 0 {
				t.Errorf("%d signatures were given", counter.n)
			}
		})
	}
}

// counting counts signatures.
type counting struct {
	note.Signer
	n int
}

func (c *counting) Sign(msg []byte) ([]byte, error) {
	c.n++
	return c.Signer.Sign(msg)
}

// An operator may have a lost or old directory restored from the journal; the
// log goes on and extends what was signed.
func TestRebuild(t *testing.T) {
	dir := t.TempDir()
	n := start(t, dir)
	n.record(t, 600)
	n.settle(t)
	signed := n.Status()
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(n.ledgerDir()); err != nil {
		t.Fatal(err)
	}
	n, err := parts(t.Context(), dir, filepath.Join(dir, "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.close() })
	o := options
	o.Rebuild = true
	if err := n.open(context.WithoutCancel(t.Context()), o); err != nil {
		t.Fatal(err)
	}
	if got := n.Status(); got.Size != signed.Size || got.Root != signed.Root {
		t.Errorf("rebuilt %d %s, signed was %d %s", got.Size, got.Root, signed.Size, signed.Root)
	}
	n.record(t, 30)
	n.check(t)
}

// The directory taken away under a running ledger: no crash, unhealthy, and
// nothing that was acknowledged is lost.
func TestStorageFails(t *testing.T) {
	n := start(t, t.TempDir())
	n.record(t, 10)
	n.settle(t)
	state, away := filepath.Join(n.ledgerDir(), ".state"), filepath.Join(n.dir, "away")
	if err := os.Rename(state, away); err != nil {
		t.Fatal(err)
	}
	n.record(t, 10)
	until(t, func() bool { return n.Healthy() != nil })
	if err := os.Rename(away, state); err != nil {
		t.Fatal(err)
	}
	n.check(t)
	until(t, func() bool { return n.Healthy() == nil })
}

func TestHealthyOnlyWhileRunning(t *testing.T) {
	dir := t.TempDir()
	n, err := parts(t.Context(), dir, filepath.Join(dir, "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	l, err := ledger.Open(t.Context(), posix.New(n.ledgerDir()), n.Store, n.Journal, n.Signer, n.VKey, options)
	if err != nil {
		t.Fatal(err)
	}
	if l.Healthy() == nil {
		t.Error("healthy before Run")
	}
	if _, err := ledger.Open(t.Context(), posix.New(n.ledgerDir()), n.Store, n.Journal, n.Signer, n.VKey, options); pasban.KindOf(err) != pasban.Conflict {
		t.Errorf("opened twice: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if l.Healthy() == nil {
		t.Error("healthy after Close")
	}
	if err := l.Run(t.Context()); err == nil {
		t.Error("runs after Close")
	}
}

// Facts that wait too long make the ledger unhealthy, by number and by age.
func TestLagIsUnhealthy(t *testing.T) {
	for name, o := range map[string]ledger.Options{
		"number": {MaxLag: 3, MaxDelay: time.Hour},
		"age":    {MaxDelay: 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			n, err := parts(t.Context(), dir, filepath.Join(dir, "store.db"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { n.close() })
			o.Interval, o.AuditEvery = 10*time.Second, time.Hour // leaves wait
			if err := n.open(context.WithoutCancel(t.Context()), o); err != nil {
				t.Fatal(err)
			}
			n.record(t, 5)
			until(t, func() bool {
				err := n.Healthy()
				return err != nil && strings.Contains(err.Error(), "limit")
			})
			if s := n.Status(); s.Lag != 5 || s.Err == nil {
				t.Errorf("status %+v", s)
			}
		})
	}
}

// A clock that was set back, or ahead, keeps no leaf waiting, while the node
// runs and over a restart: the checkpoint's file is of tomorrow then, or of
// last year.
func TestClockJumps(t *testing.T) {
	dir := t.TempDir()
	n := start(t, dir)
	n.record(t, 5)
	n.settle(t)
	file := filepath.Join(n.ledgerDir(), tiles.Checkpoint)
	for _, jump := range []time.Duration{24 * time.Hour, -365 * 24 * time.Hour} {
		for _, restart := range []bool{false, true} {
			if restart {
				if err := n.close(); err != nil {
					t.Fatal(err)
				}
			}
			if at := time.Now().Add(jump); os.Chtimes(file, at, at) != nil {
				t.Fatal("the file's time cannot be set")
			}
			if restart {
				n = start(t, dir)
			}
			n.record(t, 5)
			n.settle(t) // within a minute
			if err := n.Healthy(); err != nil {
				t.Errorf("%v, restarted %v: %v", jump, restart, err)
			}
		}
	}
	if err := n.Audit(t.Context()); err != nil {
		t.Error(err)
	}
	if s := n.Status(); s.Size != 25 || len(s.Damaged) > 0 {
		t.Errorf("%+v", s)
	}
}

// Nothing of the driver is left running after Close.
func TestCloseLeavesNothing(t *testing.T) {
	n := start(t, t.TempDir())
	n.record(t, 5)
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { // its goroutines end on their own
		buf := make([]byte, 1<<20)
		buf = buf[:runtime.Stack(buf, true)]
		return !bytes.Contains(buf, []byte("transparency-dev/tessera"))
	})
}
