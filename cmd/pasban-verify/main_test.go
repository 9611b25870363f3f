package main

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	cosig "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/ledger/tiles"
	"pasban/internal/vrf"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"pasban-verify": main})
}

// TestScripts runs testdata/*.txtar: one file per behaviour.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata", RequireExplicitExec: true, RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"mkledger": mkledger, "mkforms": mkforms, "mkstatement": mkstatement, "cosign": cosign, "edit": edit, "serve": serve, "schema": schema,
		},
	})
}

// signer returns the script's ledger key of that name and makes it if need be;
// NAME.vkey holds its verifier key.
func signer(ts *testscript.TestScript, name string) note.Signer {
	path := ts.MkAbs(name + ".skey")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		skey, vkey, err := note.GenerateKey(rand.Reader, "land.example/ledger")
		ts.Check(err)
		ts.Check(os.WriteFile(path, []byte(skey), 0o600))
		ts.Check(os.WriteFile(ts.MkAbs(name+".vkey"), []byte(vkey+"\n"), 0o600))
		ts.Setenv(name, vkey)
	}
	s, err := note.NewSigner(ts.ReadFile(path))
	ts.Check(err)
	return s
}

// mkledger KEY DIR N [SALT] writes a ledger of N leaves, signed with the key,
// and DIR.receipt-I.json for the first and the last of them. Ledgers of one
// SALT are one ledger at several sizes; the leaves of SALT heads are of that kind.
func mkledger(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: mkledger KEY DIR N [SALT]")
	}
	s, dir := signer(ts, args[0]), ts.MkAbs(args[1])
	n, err := strconv.ParseInt(args[2], 10, 64)
	ts.Check(err)
	writeLedger(ts, s, dir, n, fmt.Sprint(args[3:]))
}

// checker ends a test at an error: a script, or a fuzz target's set-up.
type checker interface{ Check(error) }

// writeLedger is mkledger without the script around it.
func writeLedger(ts checker, s note.Signer, dir string, n int64, salt string) {
	put := func(name string, data []byte) error {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		return os.WriteFile(path, data, 0o600)
	}
	b := tiles.NewBuilder(func(t tlog.Tile, data []byte) error { return put(tiles.Path(t), data) })
	openings := make([]pasban.Opening, n)
	var bundle []byte
	for i := range n {
		openings[i] = opening(ts, fmt.Sprint(salt, i))
		if salt == "[heads]" {
			openings[i].Kind = pasban.KindHeads
		}
		leaf, err := openings[i].Leaf()
		ts.Check(err)
		bundle = tiles.AppendEntry(bundle, leaf[:])
		ts.Check(b.Add(leaf.Hash()))
		if w := int(i%tiles.Width) + 1; w == tiles.Width || i+1 == n {
			ts.Check(put(tiles.Path(tlog.Tile{L: tiles.Entries, N: i / tiles.Width, W: w}), bundle))
			bundle = nil
		}
	}
	ts.Check(b.Partial())
	tree := b.Tree()
	signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", s.Name(), tree.N, tree.Hash)}, s)
	ts.Check(err)
	ts.Check(put(tiles.Checkpoint, signed))
	if n == 0 {
		return
	}
	root, err := os.OpenRoot(dir)
	ts.Check(err)
	defer root.Close()
	for _, i := range []int64{0, n - 1} {
		proof, err := tlog.ProveRecord(n, i, tiles.HashReader(context.Background(), tiles.Dir{Root: root}, tree))
		ts.Check(err)
		r := pasban.Receipt{
			Schema: pasban.ReceiptSchema, Origin: s.Name(), Index: uint64(i), Kind: openings[i].Kind, Salt: openings[i].Salt,
			Body: openings[i].Body, Proof: proof, Checkpoint: string(signed),
		}
		data, err := json.Marshal(r)
		ts.Check(err)
		ts.Check(os.WriteFile(fmt.Sprintf("%s.receipt-%d.json", dir, i), data, 0o600))
	}
}

// mkforms RECEIPT PDF CODES writes a receipt's other forms: attached to a PDF, as
// a program that compresses leaves it, and as texts of codes.
func mkforms(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: mkforms RECEIPT PDF CODES")
	}
	data := []byte(ts.ReadFile(args[0]))
	var pdf bytes.Buffer
	pdf.WriteString("%PDF-1.7\n1 0 obj\n<</Type/EmbeddedFile/Filter/FlateDecode>>\nstream\n")
	z := zlib.NewWriter(&pdf)
	_, err := z.Write(data)
	ts.Check(err)
	ts.Check(z.Close())
	pdf.WriteString("\nendstream\nendobj\n%%EOF\n")
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), pdf.Bytes(), 0o600))
	r, err := pasban.ParseReceipt(data)
	ts.Check(err)
	codes, err := r.Codes()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(strings.Join(codes, "\n")+"\n"), 0o600))
}

// cosign WITNESS DIR adds that witness's cosignature to DIR's checkpoint and to
// the receipts taken from it; WITNESS.vkey holds the witness's key.
func cosign(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: cosign WITNESS DIR")
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, args[0]+".example/w")
	ts.Check(err)
	s, err := cosig.NewSignerForCosignatureV1(skey)
	ts.Check(err)
	vkey, err = cosig.VKeyToCosignatureV1(vkey)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".vkey"), []byte(vkey+"\n"), 0o600))
	ts.Setenv(args[0], vkey)
	path := filepath.Join(ts.MkAbs(args[1]), tiles.Checkpoint)
	old := ts.ReadFile(path)
	text, _, _ := strings.Cut(old, "\n\n")
	signed, err := note.Sign(&note.Note{Text: text + "\n"}, s)
	ts.Check(err)
	now := old + strings.TrimPrefix(string(signed), text+"\n\n")
	ts.Check(os.WriteFile(path, []byte(now), 0o600))
	receipts, err := filepath.Glob(ts.MkAbs(args[1]) + ".receipt-*.json")
	ts.Check(err)
	for _, name := range receipts {
		r, err := pasban.ParseReceipt([]byte(ts.ReadFile(name)))
		ts.Check(err)
		r.Checkpoint = now
		data, err := json.Marshal(r)
		ts.Check(err)
		ts.Check(os.WriteFile(name, data, 0o600))
	}
}

// mkstatement KEY FILE [COVERED [SALT [DATE]]] writes the statement of a citizen's
// list of which an epoch covers that many entries (3 without it), and which has one
// more unless it is empty; the map has no other label. Epoch 1, of 25 November
// 2026, covers up to three entries, epoch 2 more. Lists of one SALT are one list at
// several times. The second entry is hidden until DATE, and not opened.
func mkstatement(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: mkstatement KEY FILE [COVERED [SALT [DATE]]]")
	}
	list := madeList{covered: 3}
	if len(args) > 2 {
		var err error
		list.covered, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	if len(args) > 3 {
		list.salt = args[3]
	}
	if len(args) > 4 {
		list.hidden = args[4]
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), statement(ts, signer(ts, args[0]), list), 0o600))
}

// madeList says what mkstatement makes.
type madeList struct {
	covered      int
	salt, hidden string
}

// statement is mkstatement without the script around it.
func statement(ts checker, s note.Signer, list madeList) []byte {
	key := vrf.NewKey([32]byte{1})
	covered := list.covered
	st := pasban.Statement{Schema: pasban.StatementSchema, Citizen: "61101-1234567-1", Number: int64(covered), Entries: []pasban.StatementEntry{}}
	var last, end tlog.Hash
	for i := 0; covered > 0 && i <= covered; i++ {
		o := opening(ts, fmt.Sprint(list.salt, i))
		if i == 1 && list.hidden != "" {
			o = hidden(ts, list.hidden)
		}
		o = o.At(pasban.NextPlace(int64(i), last))
		leaf, err := o.Leaf()
		ts.Check(err)
		if last = leaf.Hash(); i == covered-1 {
			end = last
		}
		st.Entries = append(st.Entries, pasban.StatementEntry{Index: uint64(i), Kind: o.Kind, Salt: o.Salt, Body: o.Body})
	}
	value, proof, err := key.Prove([]byte(st.Citizen))
	ts.Check(err)
	label, blind := pasban.SplitLabel(value)
	var root pasban.MapHash // of an empty map
	if covered > 0 {
		root = pasban.LabelNode(label, pasban.HeadValue(blind, st.Number, end))
	}
	f := pasban.NewFact(pasban.KindHeads, "land-records", pasban.Actor{Kind: pasban.ActorSystem}, time.UnixMilli(1795464900123))
	f.Body.Heads = pasban.Heads{Epoch: 1, Size: max(1, st.Number), Labels: 1, Root: base64.RawURLEncoding.EncodeToString(root[:]), Key: base64.RawURLEncoding.EncodeToString(key.Public())}
	if covered > 3 {
		f.Body.Heads.Epoch, f.Body.Heads.Previous = 2, pasban.NextPlace(1, tlog.RecordHash([]byte("epoch 1"))).Previous
	}
	sealed, err := f.Seal()
	ts.Check(err)
	o := sealed.Opening
	leaf, err := o.Leaf()
	ts.Check(err)
	b := tiles.NewBuilder(func(tlog.Tile, []byte) error { return nil })
	var hashes []tlog.Hash
	for i := range 5 { // leaves 0 to 3 stand in for others: the statement proves the fifth
		h := tlog.RecordHash([]byte{byte(i)})
		if i == 4 {
			h = leaf.Hash()
		}
		hashes = append(hashes, h)
		ts.Check(b.Add(h))
	}
	tree := b.Tree()
	left := tlog.NodeHash(tlog.NodeHash(hashes[0], hashes[1]), tlog.NodeHash(hashes[2], hashes[3]))
	signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", s.Name(), tree.N, tree.Hash)}, s)
	ts.Check(err)
	st.Label = proof
	st.Epoch = pasban.Receipt{Schema: pasban.ReceiptSchema, Origin: s.Name(), Index: 4, Kind: o.Kind, Salt: o.Salt, Body: o.Body,
		Proof: []tlog.Hash{left}, Checkpoint: string(signed)}
	data, err := json.Marshal(st)
	ts.Check(err)
	return data
}

// opening makes the same synthetic fact for the same seed.
func opening(ts checker, seed string) pasban.Opening {
	salt := tlog.RecordHash([]byte(seed))
	f := pasban.NewFact(pasban.KindLook, "land-records", pasban.Actor{Kind: pasban.ActorPerson, Role: pasban.RoleOfficer}, time.UnixMilli(1795464900123))
	f.Body.ID, f.Body.Subject, f.Body.Resource, f.Body.Fields = "00112233445566778899aabbccddeeff", "61101-1234567-1", "LT-1", []string{"price"}
	body, err := pasban.Canonical(f.Body)
	ts.Check(err)
	return pasban.Opening{Kind: pasban.KindLook, Salt: salt[:], Body: body}
}

// hidden is a look that the citizen is told of at a date.
func hidden(ts checker, date string) pasban.Opening {
	f := pasban.NewFact(pasban.KindLook, "land-records", pasban.Actor{Kind: pasban.ActorPerson, Role: pasban.RoleSupervisor}, time.UnixMilli(1795464900123))
	f.Subject.CNIC, f.Body.Hidden.Until = "61101-1234567-1", date+"T00:00:00.000Z"
	sealed, err := f.Seal()
	ts.Check(err)
	return sealed.Opening
}

// edit FILE changes one bit in the middle of a file.
func edit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: edit FILE")
	}
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	data[len(data)/2] ^= 1
	ts.Check(os.WriteFile(path, data, 0o600))
}

// serve DIR serves it at $http/ledger and, with a certificate of its own, at
// $https/ledger; ca.pem is the authority. /elsewhere redirects, /broken fails.
func serve(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: serve DIR")
	}
	mux := http.NewServeMux()
	mux.Handle("/ledger/", http.StripPrefix("/ledger", http.FileServer(http.Dir(ts.MkAbs(args[0])))))
	mux.Handle("/elsewhere/", http.RedirectHandler("/ledger/checkpoint", http.StatusFound))
	mux.HandleFunc("/broken/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken/checkpoint" {
			http.ServeFile(w, r, filepath.Join(ts.MkAbs(args[0]), "checkpoint"))
			return
		}
		http.Error(w, "down", http.StatusBadGateway)
	})
	plain, secure := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	secure.Config.ErrorLog = nil
	ts.Defer(plain.Close)
	ts.Defer(secure.Close)
	ts.Setenv("http", plain.URL)
	ts.Setenv("https", secure.URL)
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	ts.Check(os.WriteFile(ts.MkAbs("ca.pem"), cert, 0o600))
}

// schema FILE NAME VERDICT checks that a file is one JSON document of that
// schema, and what it says.
func schema(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: schema FILE NAME [VERDICT]")
	}
	var doc struct {
		Schema  string
		Verdict string
		Checks  []check
		Error   struct{ Code, Message string }
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &doc))
	if doc.Schema != args[1] || len(args) > 2 && doc.Verdict != args[2] {
		ts.Fatalf("schema %q, verdict %q", doc.Schema, doc.Verdict)
	}
	if doc.Schema == "pasban.error.v1" && (doc.Error.Code == "" || doc.Error.Message == "") {
		ts.Fatalf("an error without code or message")
	}
}

func TestPlainText(t *testing.T) {
	for in, want := range map[string]string{
		"زمین LT-1": "زمین LT-1", "a\nholds: b": "a\uFFFDholds: b", "\x1b[2J": "\uFFFD[2J", "a\u202eb\u2066": "a\uFFFDb\uFFFD", "\u0085": "\uFFFD",
	} {
		if got := plain(in); got != want {
			t.Errorf("plain(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestImports keeps the verifier small enough to be read by its users.
func TestImports(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		first, _, _ := strings.Cut(dep, "/")
		switch {
		case dep == "pasban", dep == "pasban/cmd/pasban-verify", dep == "pasban/internal/ledger/tiles", dep == "pasban/internal/vrf", dep == "pasban/internal/sentinel/rowtree":
		case strings.HasPrefix(dep, "golang.org/x/mod/sumdb/"), strings.HasPrefix(dep, "golang.org/x/mod/internal/"):
		case dep == "github.com/gowebpki/jcs": // RFC 8785
		case dep == "filippo.io/edwards25519", strings.HasPrefix(dep, "filippo.io/edwards25519/"): // the labels of RFC 9381
		case first != "pasban" && !strings.Contains(first, "."), first == "vendor": // the standard library
		default:
			t.Errorf("the verifier imports %s", dep)
		}
	}
}
