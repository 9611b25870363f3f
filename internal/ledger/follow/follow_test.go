package follow_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/ledger/follow"
	"pasban/internal/ledger/tiles"
)

const origin = "synthetic.example/ledger"

// rig is a ledger in a directory and what follows it, over HTTP.
type rig struct {
	*follow.Follower
	t      *testing.T
	signer note.Signer
	dir    string
	salt   string
	down   bool              // the server answers 502
	more   map[string][]byte // what the server has besides files: heads, watch/…
}

func newRig(t *testing.T) *rig {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	check(t, err)
	r := &rig{t: t, dir: t.TempDir(), more: map[string][]byte{}}
	r.signer, err = note.NewSigner(skey)
	check(t, err)
	verifier, err := note.NewVerifier(vkey)
	check(t, err)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		name := strings.TrimPrefix(req.URL.RequestURI(), "/ledger/")
		if data, ok := r.more[name]; ok && !r.down {
			w.Write(data)
			return
		}
		if r.down {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		http.ServeFile(w, req, filepath.Join(r.dir, filepath.FromSlash(name)))
	}))
	t.Cleanup(srv.Close)
	site, err := tiles.NewSite(srv.URL, tiles.Access{Agent: "test"})
	check(t, err)
	r.Follower = &follow.Follower{Source: site, Site: site, Verifier: verifier}
	return r
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// leaf is a synthetic one; every third is a change.
func (r *rig) leaf(i int64) []byte {
	h := tlog.RecordHash(fmt.Append(nil, r.salt, i))
	kind := byte(1)
	if i%3 == 2 {
		kind = 2
	}
	return append([]byte{1, kind}, h[:]...)
}

// publish writes the ledger at a size, as a tlog-tiles directory.
func (r *rig) publish(n int64) {
	r.t.Helper()
	put := func(name string, data []byte) error {
		path := filepath.Join(r.dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		return os.WriteFile(path, data, 0o600)
	}
	b := tiles.NewBuilder(func(t tlog.Tile, data []byte) error { return put(tiles.Path(t), data) })
	var bundle []byte
	for i := range n {
		bundle = tiles.AppendEntry(bundle, r.leaf(i))
		check(r.t, b.Add(tlog.RecordHash(r.leaf(i))))
		if w := int(i%tiles.Width) + 1; w == tiles.Width || i+1 == n {
			check(r.t, put(tiles.Path(tlog.Tile{H: tiles.Height, L: tiles.Entries, N: i / tiles.Width, W: w}), bundle))
			bundle = nil
		}
	}
	check(r.t, b.Partial())
	check(r.t, put(tiles.Checkpoint, r.sign(b.Tree())))
}

func (r *rig) sign(tree tlog.Tree) []byte {
	r.t.Helper()
	signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", origin, tree.N, tree.Hash)}, r.signer)
	check(r.t, err)
	return signed
}

// step takes one that finds nothing wrong.
func (r *rig) step() follow.Report {
	r.t.Helper()
	report, err := r.Step(r.t.Context())
	check(r.t, err)
	if len(report.Findings) > 0 {
		r.t.Fatalf("found %v", report.Findings)
	}
	return report
}

func TestStep(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct{ size, fresh, looks, changes int64 }{{0, 0, 0, 0}, {3, 3, 2, 1}, {3, 0, 0, 0}, {300, 297, 198, 99}, {700, 400, 267, 133}} {
		r.publish(c.size)
		got := r.step()
		if got.Size != c.size || got.New != c.fresh || got.Kinds[pasban.KindLook] != c.looks || got.Kinds[pasban.KindChange] != c.changes {
			t.Errorf("at %d: %+v, want %+v", c.size, got, c)
		}
	}
	// What was seen survives, as a file does.
	data, err := json.Marshal(r.State)
	check(t, err)
	if r.State, err = follow.ParseState(data); err != nil {
		t.Fatal(err)
	}
	r.publish(701)
	if got := r.step(); got.New != 1 {
		t.Errorf("%+v", got)
	}
}

// Whatever a ledger does that it must not is found, and what was seen before stands.
func TestFindings(t *testing.T) {
	for name, c := range map[string]struct {
		do    func(r *rig)
		check string
		msg   string
	}{
		"went back":    {func(r *rig) { r.publish(200) }, "consistency", "lost leaves"},
		"forked":       {func(r *rig) { r.salt = "x"; r.publish(300) }, "consistency", "two roots"},
		"other past":   {func(r *rig) { r.salt = "x"; r.publish(500) }, "consistency", "its past was changed"},
		"another key":  {func(r *rig) { r.signer = newRig(r.t).signer; r.publish(400) }, "signature", "not signed by key"},
		"no note":      {func(r *rig) { r.write(tiles.Checkpoint, "hello") }, "signature", "not a signed checkpoint"},
		"an entry":     {func(r *rig) { r.publish(400); r.flip("tile/entries/001.p/144") }, "leaves", "leaf 399 is not the one"},
		"a tile":       {func(r *rig) { r.publish(400); r.flip("tile/0/001.p/144") }, "consistency", "do not prove"},
		"a lost entry": {func(r *rig) { r.publish(400); r.remove("tile/entries/001.p/144") }, "leaves", "is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.publish(300)
			r.step()
			before := r.State
			c.do(r)
			got, err := r.Step(t.Context())
			if err != nil || len(got.Findings) != 1 || got.Findings[0].Check != c.check || !strings.Contains(got.Findings[0].Msg, c.msg) {
				t.Errorf("found %+v, %v; want %s: … %s …", got.Findings, err, c.check, c.msg)
			}
			if r.State != before {
				t.Error("what was seen before was forgotten")
			}
		})
	}
}

func (r *rig) write(name, text string) {
	r.t.Helper()
	check(r.t, os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600))
}

func (r *rig) flip(name string) {
	r.t.Helper()
	data, err := os.ReadFile(filepath.Join(r.dir, name))
	check(r.t, err)
	data[len(data)-1] ^= 1
	r.write(name, string(data))
}

func (r *rig) remove(name string) {
	r.t.Helper()
	check(r.t, os.Remove(filepath.Join(r.dir, name)))
}

// An outage is no fraud.
func TestOutage(t *testing.T) {
	r := newRig(t)
	r.publish(300)
	r.step()
	before := r.State
	r.down = true
	if got, err := r.Step(t.Context()); err == nil || len(got.Findings) > 0 || r.State != before {
		t.Errorf("%+v, %v", got, err)
	}
	r.down = false
	r.publish(301)
	if got := r.step(); got.New != 1 {
		t.Errorf("%+v", got)
	}
}

// epoch publishes an epoch with labels of these blinds.
func (r *rig) epoch(number int64, blinds ...byte) {
	r.t.Helper()
	now := time.Now()
	var all []pasban.WatchLabel
	for _, b := range blinds {
		all = append(all, pasban.NewWatchKey(origin, [32]byte{b}, now.UTC().Year()).Label(number))
	}
	slices.SortFunc(all, func(a, b pasban.WatchLabel) int { return strings.Compare(string(a[:]), string(b[:])) })
	var labels []byte
	for _, l := range all {
		labels = append(labels, l[:]...)
	}
	f := pasban.NewFact(pasban.KindHeads, "land-records", pasban.Actor{Kind: pasban.ActorSystem}, now)
	hash := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	f.Body.Heads = pasban.Heads{Epoch: number, Size: 1, Labels: 2, Root: hash, Key: hash, Watch: pasban.WatchDigest(labels)}
	if number > 1 {
		f.Body.Heads.Previous = hash
	}
	sealed, err := f.Seal()
	check(r.t, err)
	leaf, err := sealed.Opening.Leaf()
	check(r.t, err)
	rc := pasban.Receipt{Schema: pasban.ReceiptSchema, Origin: origin, Kind: pasban.KindHeads, Salt: sealed.Opening.Salt, Body: sealed.Opening.Body,
		Proof: []tlog.Hash{}, Checkpoint: string(r.sign(tlog.Tree{N: 1, Hash: leaf.Hash()}))}
	data, err := json.Marshal(rc)
	check(r.t, err)
	r.more["heads"], r.more[fmt.Sprintf("heads?epoch=%d", number)], r.more[fmt.Sprintf("watch/%d", number)] = data, data, labels
}

// Whoever has a key is told of the epochs in which their list grew, and of no others.
func TestLabels(t *testing.T) {
	r := newRig(t)
	r.publish(5)
	year := time.Now().UTC().Year()
	r.Keys = []pasban.WatchKey{pasban.NewWatchKey(origin, [32]byte{7}, year)}
	if got := r.step(); got.Epoch != 0 || got.Mine != nil {
		t.Errorf("before the first epoch: %+v", got)
	}
	r.epoch(1, 7)
	r.epoch(2, 7, 8)
	if got := r.step(); got.Epoch != 2 || !slices.Equal(got.Mine, []int64{2}) { // it began to watch with the second
		t.Errorf("%+v", got)
	}
	r.epoch(3, 8)
	r.epoch(4, 7)
	r.epoch(5)
	if got := r.step(); got.Epoch != 5 || !slices.Equal(got.Mine, []int64{4}) {
		t.Errorf("%+v", got)
	}
	if got := r.step(); got.Mine != nil {
		t.Errorf("told twice: %+v", got)
	}
	r.epoch(6, 7)
	r.more["watch/6"] = nil // the node leaves one out
	got, err := r.Step(t.Context())
	if err != nil || len(got.Findings) != 1 || got.Findings[0].Check != "labels" || r.State.Epoch != 5 {
		t.Errorf("%+v, %v", got, err)
	}
	r.epoch(6, 7)
	r.more["heads?epoch=6"] = r.more["heads?epoch=4"]
	r.epoch(7)
	if got, err := r.Step(t.Context()); err != nil || len(got.Findings) != 1 || !strings.Contains(got.Findings[0].Msg, "asked for epoch 6") {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestProve(t *testing.T) {
	r := newRig(t)
	r.publish(300)
	sign := func(s note.Signer, index uint64, leaf int64, age time.Duration) string {
		p, err := pasban.SignPromises(s, index, []tlog.Hash{tlog.RecordHash(r.leaf(leaf))}, time.Now().Add(-age))
		check(t, err)
		return p[0].Header()
	}
	promise := func(index uint64, leaf int64, age time.Duration) string { return sign(r.signer, index, leaf, age) }
	got, err := r.Prove(t.Context(), promise(41, 41, time.Hour))
	check(t, err)
	cp, err := pasban.OpenCheckpoint([]byte(got.Checkpoint), r.Verifier)
	check(t, err)
	check(t, tlog.CheckRecord(got.Proof, cp.N, cp.Hash, int64(got.Index), got.Leaf))
	for name, c := range map[string]struct {
		header string
		kind   pasban.ErrorKind // "": a Problem
		msg    string
	}{
		"another leaf":  {promise(41, 42, time.Hour), "", "another one than was promised"},
		"never":         {promise(300, 300, time.Hour), "", "the promise was not kept"},
		"not yet":       {promise(300, 300, time.Second), pasban.Unavailable, "not under a checkpoint yet"},
		"another key's": {sign(newRig(t).signer, 41, 41, 0), pasban.Invalid, "does not verify"},
		"no promise":    {"41", pasban.Invalid, "not a promise"},
	} {
		_, err := r.Prove(t.Context(), c.header)
		_, problem := errors.AsType[tiles.Problem](err)
		if err == nil || !strings.Contains(err.Error(), c.msg) || problem != (c.kind == "") || c.kind != "" && pasban.KindOf(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A copy is the ledger, goes on from where it was, and never follows a fork.
func TestMirror(t *testing.T) {
	r, dir := newRig(t), filepath.Join(t.TempDir(), "copy")
	for _, n := range []int64{0, 5, 300, 300, 70_000} {
		r.publish(n)
		var last int64
		cp, err := r.Mirror(t.Context(), dir, func(done, total int64) { last = done })
		if err != nil || cp.N != n || last != n {
			t.Fatalf("at %d: %d leaves, %d told, %v", n, cp.N, last, err)
		}
	}
	root, err := os.OpenRoot(dir)
	check(t, err)
	defer root.Close()
	raw, err := root.ReadFile(tiles.Checkpoint)
	check(t, err)
	cp, err := pasban.OpenCheckpoint(raw, r.Verifier)
	check(t, err)
	if report, err := tiles.Audit(context.Background(), tiles.Dir{Root: root}, cp.Tree, nil); err != nil || len(report.Findings) > 0 {
		t.Errorf("%+v, %v", report.Findings, err)
	}

	// A file that arrives wrong is not kept.
	r.publish(70_100)
	r.flip("tile/entries/273.p/212")
	if _, err := r.Mirror(t.Context(), dir, nil); err == nil || !strings.Contains(err.Error(), "tile/entries/273.p/212") {
		t.Errorf("a wrong file: %v", err)
	}
	r.publish(70_100)
	if _, err := r.Mirror(t.Context(), dir, nil); err != nil {
		t.Errorf("after it was put right: %v", err)
	}
	before, err := root.ReadFile(tiles.Checkpoint)
	check(t, err)
	r.salt = "x"
	r.publish(70_200)
	_, err = r.Mirror(t.Context(), dir, nil)
	if _, ok := errors.AsType[tiles.Problem](err); !ok {
		t.Errorf("a fork was followed: %v", err)
	}
	if after, err := root.ReadFile(tiles.Checkpoint); err != nil || string(after) != string(before) {
		t.Errorf("the copy's checkpoint changed, %v", err)
	}
}

// FuzzParse: whatever a file holds, it is read or refused.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"schema":"pasban.ledger-state.v1","checkpoint":"x","epoch":3}`))
	f.Add([]byte(`{"schema":"pasban.watch-key.v1","origin":"a","year":2026,"key":"AAAA"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := follow.ParseState(data); err == nil && s.Schema != follow.StateSchema {
			t.Error("another schema")
		}
		if k, err := follow.ParseKey(data); err == nil && len(k.Key) != 32 {
			t.Error("a key of another length")
		}
	})
}
