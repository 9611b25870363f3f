package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/vrf"
)

// Proofs as a telephone gets them: from a ledger of 2³² leaves with a map of 2²⁴
// citizens, of which only the hashes beside the proof's way are there.
const (
	ledgerDepth = 32
	mapDepth    = 24
	listLength  = 1000
)

// browserProofs is what the browser is given, as speed.mjs reads it.
type browserProofs struct {
	VKey      string           `json:"vkey"`
	Receipt   pasban.Receipt   `json:"receipt"`
	Statement pasban.Statement `json:"statement"`
}

// aLook is a synthetic look at a synthetic citizen, as long as real ones are.
func aLook() pasban.Fact {
	f := pasban.NewFact(pasban.KindLook, "land-records", pasban.Actor{ID: "officer:1", Kind: pasban.ActorPerson, Role: pasban.RoleOfficer, Staff: "LHR-032"}, time.Now())
	f.Subject = pasban.Subject{ID: "00", CNIC: "99104-1234567-8"}
	f.Body.Service, f.Body.Resource, f.Body.Action = "land-transfer", "LT-2026-000012", "view"
	f.Body.Fields = []string{"seller_name", "seller_father", "area_kanal"}
	f.Body.Purpose, f.Body.Case, f.Body.Basis, f.Body.Mode = "mutation", "SYN-MUT-88213", "Punjab Land Revenue Act 1967, section 42", pasban.ModePerson
	return f
}

// prove makes the receipt of an opening at the end of a simulated ledger.
func prove(s note.Signer, o pasban.Opening) (pasban.Receipt, error) {
	leaf, err := o.Leaf()
	if err != nil {
		return pasban.Receipt{}, err
	}
	r := pasban.Receipt{Schema: pasban.ReceiptSchema, Origin: s.Name(), Index: 1<<ledgerDepth - 1, Kind: o.Kind, Salt: o.Salt, Body: o.Body}
	root := leaf.Hash()
	for i := range ledgerDepth { // the last leaf of a full tree is the right one all the way up
		sibling := tlog.RecordHash([]byte{byte(i)})
		r.Proof = append(r.Proof, sibling)
		root = tlog.NodeHash(sibling, root)
	}
	signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", s.Name(), int64(1)<<ledgerDepth, root)}, s)
	r.Checkpoint = string(signed)
	return r, err
}

// proveList makes the statement of a list.
func proveList(s note.Signer) (pasban.Statement, error) {
	st := pasban.Statement{Schema: pasban.StatementSchema, Citizen: "99104-1234567-8", Number: listLength}
	const first = 1<<ledgerDepth - 5_000_000
	var end tlog.Hash
	for i := range int64(listLength) {
		sealed, err := aLook().Seal()
		if err != nil {
			return st, err
		}
		o := sealed.Opening.At(pasban.NextPlace(i, end))
		leaf, err := o.Leaf()
		if err != nil {
			return st, err
		}
		end = leaf.Hash()
		st.Entries = append(st.Entries, pasban.StatementEntry{Index: uint64(first + 4000*i), Kind: o.Kind, Salt: o.Salt, Body: o.Body})
	}
	key := vrf.NewKey([32]byte{7})
	value, proof, err := key.Prove([]byte(st.Citizen))
	if err != nil {
		return st, err
	}
	st.Label = proof
	label, blind := pasban.SplitLabel(value)
	root := pasban.LabelNode(label, pasban.HeadValue(blind, st.Number, end))
	for depth := mapDepth - 1; depth >= 0; depth-- {
		sibling := tlog.RecordHash([]byte{byte(depth)})
		st.Proof = append(st.Proof, sibling)
		if label[depth/8]>>(7-depth%8)&1 == 0 {
			root = pasban.InnerNode(root, pasban.MapHash(sibling))
		} else {
			root = pasban.InnerNode(pasban.MapHash(sibling), root)
		}
	}
	f := pasban.NewFact(pasban.KindHeads, "land-records", pasban.Actor{Kind: pasban.ActorSystem}, time.Now())
	f.Body.Action = "commit"
	f.Body.Heads = pasban.Heads{Epoch: 2, Size: 1<<ledgerDepth - 10, Labels: 1 << mapDepth, Previous: pasban.NextPlace(1, end).Previous,
		Root: base64.RawURLEncoding.EncodeToString(root[:]), Key: base64.RawURLEncoding.EncodeToString(key.Public())}
	sealed, err := f.Seal()
	if err != nil {
		return st, err
	}
	st.Epoch, err = prove(s, sealed.Opening)
	return st, err
}

// makeProofs makes what the browser is given and sees that it holds.
func makeProofs() (p browserProofs, err error) {
	skey, vkey, err := note.GenerateKey(rand.Reader, "bench.example/ledger")
	if err != nil {
		return p, err
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		return p, err
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return p, err
	}
	p.VKey = vkey
	sealed, err := aLook().Seal()
	if err != nil {
		return p, err
	}
	if p.Receipt, err = prove(s, sealed.Opening); err != nil {
		return p, err
	}
	if _, err := p.Receipt.Verify(v); err != nil {
		return p, err
	}
	if p.Statement, err = proveList(s); err != nil {
		return p, err
	}
	_, err = p.Statement.Verify(v)
	return p, err
}

// browserTimes are milliseconds from the press of the button to the verdict on
// the page, by how much the processor was slowed.
type browserTimes struct {
	Browser  string               `json:"browser"`
	Receipts map[string][]float64 `json:"receipts"`
	Lists    map[string][]float64 `json:"lists"`
}

// browserSection checks proofs in Chromium.
func browserSection(ctx context.Context, dir string, rounds int) (section, error) {
	p, err := makeProofs()
	if err != nil {
		return section{}, err
	}
	whole, err := json.Marshal(p.Statement)
	if err != nil {
		return section{}, err
	}
	entries, err := json.Marshal(p.Statement.Entries)
	if err != nil {
		return section{}, err
	}
	data, err := json.Marshal(p)
	if err != nil {
		return section{}, err
	}
	file := filepath.Join(dir, "proofs.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return section{}, err
	}
	load := busy()
	cmd := exec.CommandContext(ctx, "node", "speed.mjs", file, fmt.Sprint(4*rounds))
	cmd.Dir, cmd.Stderr = "test/browser", os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return section{}, fmt.Errorf("test/browser/speed.mjs (npm ci --prefix test/browser installs what it needs): %w", err)
	}
	var t browserTimes
	if err := json.Unmarshal(out, &t); err != nil {
		return section{}, err
	}
	ms := func(what string, v []float64, aim float64) string {
		return bar{what, spreadOf(v), false, aim, " ms"}.String()
	}
	text := fmt.Sprintf("The citizen's page in %s, with the scripts as they are served: from the press of the button to the verdict on the page, with fetching from the same machine, parsing, checking and comparing with the cards. The processor is slowed by the browser (Emulation.setCPUThrottlingRate), which slows the page's own thread, where SHA-256 is made; Ed25519 runs in a thread of the browser's. The ledger has 2³² leaves and the map 2²⁴ citizens, simulated: the proofs are as long as they would be. %s%s; every figure from %d presses, each on a page that was opened a second before: what verifies an entry has been fetched by then, the proofs have not, nor has what verifies a list.\n\n`go run ./test/bench -only proofs -rounds %d`\n\n", t.Browser, today(), load, 4*rounds, rounds)
	text += "| what | median (min–max) | aim | holds |\n|---|---|---|---|\n" +
		ms("an entry's receipt, processor 6 × slower, ms", t.Receipts["6"], 50) + ms("the same at full speed, ms", t.Receipts["1"], 50) +
		ms("the complete list of 1,000 entries, processor 6 × slower, ms", t.Lists["6"], 1000) + ms("the same at full speed, ms", t.Lists["1"], 1000) +
		bar{"the list's proof besides its entries, bytes", spreadOf([]float64{float64(len(whole) - len(entries))}), false, 10_000, ""}.String() +
		fmt.Sprintf("\nThe entries themselves are %d bytes of JSON.\n", len(entries))
	return section{"Proofs in the browser", text}, nil
}
