package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cosig "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/ledger/tiles"
	"pasban/internal/sentinel/rowtree"
)

// fatal is a checker of tests without a script.
type fatal struct{ testing.TB }

func (f fatal) Check(err error) {
	if err != nil {
		f.Helper()
		f.Fatal(err)
	}
}

// input is a file that the verifier reads from whoever hands it over.
type input struct {
	name string
	args []string // of the command that reads it
	// same reports whether the file still says what was signed: then, and only
	// then, it may hold.
	same func(data, truth []byte) bool
}

func text(signed []byte) string {
	s, _, _ := strings.Cut(string(signed), "\n\n")
	return s
}

// inputs are all of them; KEY and so on are files beside the ledger.
func inputs() []input {
	key := func(open func(string) (fmt.Stringer, error)) func(data, truth []byte) bool {
		return func(data, truth []byte) bool {
			a, err := open(strings.TrimSpace(string(data)))
			b, _ := open(strings.TrimSpace(string(truth)))
			return err == nil && a.String() == b.String()
		}
	}
	bodies := func(data []byte) (out []string) {
		var r struct {
			pasban.Receipt
			Entries []pasban.StatementEntry
			Inner   pasban.Receipt `json:"receipt"`
		}
		_ = json.Unmarshal(data, &r) // of truth, or of what held
		for _, e := range append(r.Entries, pasban.StatementEntry{Body: r.Body}, pasban.StatementEntry{Body: r.Inner.Body}) {
			if body, err := pasban.Canonical(e.Body); err == nil {
				out = append(out, string(body))
			}
		}
		return out
	}
	facts := func(data, truth []byte) bool { // an entry that no epoch covers may be left out
		want, all := bodies(data), fmt.Sprint(bodies(truth))
		for _, b := range want {
			if !strings.Contains(all, b) {
				return false
			}
		}
		return len(want) > 0
	}
	checkpoint := func(data, truth []byte) bool { return text(data) == text(truth) }
	return []input{
		{"now/checkpoint", []string{"audit", "--key", "key.vkey", "now"}, checkpoint},
		{"now/tile/0/000", []string{"audit", "--key", "key.vkey", "now"}, bytes.Equal},
		{"now/tile/1/000.p/1", []string{"audit", "--key", "key.vkey", "now"}, bytes.Equal},
		{"now/tile/entries/001.p/44", []string{"audit", "--key", "key.vkey", "now"}, bytes.Equal},
		{"now/checkpoint", []string{"checkpoint", "--key", "key.vkey", "now", "--old", "old/checkpoint", "--witness", "w.vkey"}, checkpoint},
		{"old/checkpoint", []string{"checkpoint", "--key", "key.vkey", "now", "--old", "old/checkpoint"}, checkpoint},
		{"now.receipt-0.json", []string{"receipt", "--key", "key.vkey", "now.receipt-0.json"}, facts},
		{"statement.json", []string{"statement", "--key", "key.vkey", "statement.json"}, facts},
		{"proof.json", []string{"table", "--key", "key.vkey", "proof.json", "rows"}, facts},
		{"rows", []string{"table", "--key", "key.vkey", "proof.json", "rows"}, bytes.Equal},
		{"key.vkey", []string{"audit", "--key", "key.vkey", "now"}, key(func(s string) (fmt.Stringer, error) {
			v, err := note.NewVerifier(s)
			if err != nil {
				return nil, err
			}
			return tlog.RecordHash(fmt.Append(nil, v.Name(), v.KeyHash())), nil
		})},
		{"w.vkey", []string{"checkpoint", "--key", "key.vkey", "now", "--witness", "w.vkey"}, key(func(s string) (fmt.Stringer, error) {
			v, err := cosig.NewVerifierForCosignatureV1(s)
			if err != nil {
				return nil, err
			}
			return tlog.RecordHash(fmt.Append(nil, v.Name(), v.KeyHash())), nil
		})},
	}
}

// writeInputs makes all inputs, true and signed, in the working directory.
func writeInputs(ts checker) {
	skey, vkey, err := note.GenerateKey(nil, "land.example/ledger")
	ts.Check(err)
	s, err := note.NewSigner(skey)
	ts.Check(err)
	ts.Check(os.WriteFile("key.vkey", []byte(vkey+"\n"), 0o600))
	writeLedger(ts, s, "old", 200, "")
	writeLedger(ts, s, "now", 300, "")
	ts.Check(os.WriteFile("statement.json", statement(ts, s, madeList{covered: 3}), 0o600))

	skey, vkey, err = note.GenerateKey(nil, "witness.example/w")
	ts.Check(err)
	w, err := cosig.NewSignerForCosignatureV1(skey)
	ts.Check(err)
	vkey, err = cosig.VKeyToCosignatureV1(vkey)
	ts.Check(err)
	ts.Check(os.WriteFile("w.vkey", []byte(vkey+"\n"), 0o600))
	signed, err := os.ReadFile("now/checkpoint")
	ts.Check(err)
	line, err := note.Sign(&note.Note{Text: text(signed) + "\n"}, w)
	ts.Check(err)
	signed = append(signed, strings.TrimPrefix(string(line), text(signed)+"\n\n")...)
	ts.Check(os.WriteFile("now/checkpoint", signed, 0o600))

	rows := []string{"1\t61101-1234567-1\t0.5", "2\t\\N\t0.5"}
	ts.Check(os.WriteFile("rows", []byte(strings.Join(rows, "\n")+"\n"), 0o600))
	proof, err := json.Marshal(tableProof(ts, s, rows))
	ts.Check(err)
	ts.Check(os.WriteFile("proof.json", proof, 0o600))
}

// tableProof is an audit of these rows, the only leaf of its ledger.
func tableProof(ts checker, s note.Signer, rows []string) rowtree.TableProof {
	layout := rowtree.Layout{Table: "public.owners", Key: []string{"id"}, Columns: []string{"cnic", "share"}, Salt: make([]byte, 32), Buckets: 1}
	sum := rowtree.NewSum(layout)
	for _, r := range rows {
		sum.Add([]byte(r))
	}
	root := rowtree.Root(layout.ID(), sum.Rows, sum.Hashes())
	said, err := json.Marshal(layout)
	ts.Check(err)
	f := pasban.NewFact(pasban.KindAdmin, "land-records", pasban.Actor{Kind: pasban.ActorSystem}, time.UnixMilli(1795464900123))
	f.Body.Service = "sentinel"
	f.Restricted.More = map[string]string{"root": hex.EncodeToString(root[:]), "rows": fmt.Sprint(sum.Rows), "layout": string(said)}
	sealed, err := f.Seal()
	ts.Check(err)
	o := sealed.Opening
	leaf, err := o.Leaf()
	ts.Check(err)
	b := tiles.NewBuilder(func(tlog.Tile, []byte) error { return nil })
	ts.Check(b.Add(leaf.Hash()))
	signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n1\n%s\n", s.Name(), b.Tree().Hash)}, s)
	ts.Check(err)
	return rowtree.TableProof{Schema: rowtree.ProofSchema, Receipt: pasban.Receipt{Schema: pasban.ReceiptSchema, Origin: s.Name(), Kind: o.Kind,
		Salt: o.Salt, Body: o.Body, Proof: []tlog.Hash{}, Checkpoint: string(signed), Restricted: &sealed.Restricted}}
}

// FuzzInputs puts anything in the place of every file that the verifier reads.
// It must come to a verdict, in a form that machines read, and find that
// nothing holds but what was signed.
func FuzzInputs(f *testing.F) {
	f.Chdir(f.TempDir())
	writeInputs(fatal{f})
	all := inputs()
	truths := make([][]byte, len(all))
	for i, in := range all {
		data, err := os.ReadFile(in.name)
		if err != nil {
			f.Fatal(err)
		}
		truths[i] = data
		flipped := bytes.Clone(data)
		flipped[len(data)/2] ^= 1
		for _, seed := range [][]byte{data, nil, data[:len(data)/2], data[:len(data)-1], flipped, append(bytes.Clone(data), "\n\x00{"...), bytes.Repeat(data, 2), bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n"))} {
			f.Add(uint8(i), seed)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		i := int(which) % len(all)
		in := all[i]
		if err := os.WriteFile(in.name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		defer os.WriteFile(in.name, truths[i], 0o600)
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"--json"}, in.args...), strings.NewReader(""), &out, &errs)
		switch code {
		case 0:
			if !in.same(data, truths[i]) {
				t.Errorf("%s holds, but was never signed: %q\n%s", in.name, data, out.Bytes())
			}
		case 1, 2:
			if bytes.Equal(data, truths[i]) {
				t.Errorf("%s does not hold: exit status %d\n%s%s", in.name, code, out.Bytes(), errs.Bytes())
			}
		default:
			t.Errorf("%s: exit status %d", in.name, code)
		}
		checkReport(t, code, out.Bytes(), errs.Bytes())
	})
}

// checkReport holds the documents to the exit status.
func checkReport(t *testing.T, code int, out, errs []byte) {
	t.Helper()
	var r report
	if len(out) > 0 || code != 2 { // a wrong key is an error before there is a report
		if err := json.Unmarshal(out, &r); err != nil || r.Verdict.exit() != code || r.Schema != "pasban.verify.v1" {
			t.Errorf("exit status %d, report %s: %v", code, out, err)
		}
	}
	var e struct {
		Error struct{ Code, Message string }
	}
	if told := json.Unmarshal(errs, &e) == nil && e.Error.Message != ""; told != (code == 2) && !(code == 1 && told) {
		t.Errorf("exit status %d, error %q", code, errs)
	}
}

// TestRowsWithoutEnd: a line that does not end is not kept whole in memory.
func TestRowsWithoutEnd(t *testing.T) {
	t.Chdir(t.TempDir())
	writeInputs(fatal{t})
	f, err := os.Create("rows")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(1 << 40); err != nil { // sparse: takes no room
		t.Skip("the file system has no sparse files: ", err)
	}
	f.Close()
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"table", "--key", "key.vkey", "proof.json", "rows"}, nil, &out, &errs)
	if want := "could not tell: rows: row 1: longer than any row of a table"; code != 2 || !strings.Contains(out.String(), want) {
		t.Errorf("exit status %d: %s", code, out.String())
	}
	for name, want := range map[string]string{"one\ntwo": "row 2: it was cut off", "": "0 rows of public.owners are not the 2 rows"} {
		out.Reset()
		if err := os.WriteFile(filepath.Join(".", "rows"), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t.Context(), []string{"table", "--key", "key.vkey", "proof.json", "rows"}, nil, &out, &errs)
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q: %s", name, out.String())
		}
	}
}
