package config_test

import (
	"strings"
	"testing"
)

const (
	// Keys of nobody: the public halves of pairs whose private halves were dropped.
	witnessA = "a.example/w+8f6dbbed+BEKdiRiDNOQRS5ete2vkwRe/K7xFNbd7QSiURd/dqGZG"
	witnessB = "b.example/w+b8f2b27d+BC5Yy3FKFdu5VODxxtvWmUFPx+xy+s100FKOUOUQ3dTQ"
	ledgerA  = "a.example/ledger+c700755f+AZVYL90sssCJI09nPPMgtehWReWaQzx9y27zXlN1b6E7"

	witnessed = minimal + `ledger:
  witnesses:
    need: 1
    of:
      - {key: ` + witnessA + `, url: "https://a.example/w"}
      - {key: ` + witnessB + `, url: "http://127.0.0.1:8444"}
witness:
  logs:
    - {key: ` + ledgerA + `}
`
)

func TestWitnesses(t *testing.T) {
	c, problems := read(t, witnessed)
	if problems != nil {
		t.Fatal(problems)
	}
	if w := c.Ledger.Witnesses; w.Need != 1 || len(w.Of) != 2 || w.Of[1].URL != "http://127.0.0.1:8444" || w.Of[0].Key != witnessA {
		t.Errorf("%+v", w)
	}
	if w := c.Witness; w.Name != "land-records/ledger/witness" || len(w.Logs) != 1 || w.Logs[0].Key != ledgerA {
		t.Errorf("%+v", w)
	}
	c, problems = read(t, minimal+"ledger: {witnesses: {need: 0, of: []}}\nwitness: {name: land.example/w, logs: []}\n")
	if problems != nil || c.Witness.Name != "land.example/w" {
		t.Errorf("%+v, %v", c.Witness, problems)
	}
}

func TestWitnessProblems(t *testing.T) {
	swap := func(old, new string) string {
		if !strings.Contains(witnessed, old) {
			t.Fatalf("there is no %q", old)
		}
		return strings.Replace(witnessed, old, new, 1)
	}
	for text, want := range map[string]string{
		swap("need: 1", "need: 3"):                                                 "pasban.yaml:5:11: ledger.witnesses.need: 3 of 2 witnesses cannot be asked for (such as 2 of 3)",
		swap("need: 1", "need: 0"):                                                 "ledger.witnesses.need: 0 of 2 witnesses cannot be asked for",
		minimal + "ledger: {witnesses: {need: 1}}":                                 "ledger.witnesses.of: 1 cosignatures are needed, and there is no witness",
		swap(witnessB, witnessA):                                                   "ledger.witnesses.of[1].key: the witnesses a.example/w and a.example/w have one key (each witness counts once)",
		swap(witnessA, ledgerA):                                                    "ledger.witnesses.of[0].key: not a key of type 4",
		swap(witnessA, "a.example/w"):                                              "pasban.yaml:7:15: ledger.witnesses.of[0].key: not a witness's verifier key",
		swap(`, url: "https://a.example/w"`, ""):                                   `ledger.witnesses.of[0].url: missing key "url"`,
		swap("https://a.example/w", "http://a.example/w"):                          "ledger.witnesses.of[0].url: plain HTTP is for a witness on this machine alone",
		swap("https://a.example/w", "a.example/w"):                                 "ledger.witnesses.of[0].url: not a witness's address",
		swap("https://a.example/w", "https://u:p@a.example/w"):                     "ledger.witnesses.of[0].url: not a witness's address",
		swap("need: 1", "need: 1\n    ca_file: nowhere.pem"):                       "ledger.witnesses.ca_file: no such file",
		swap("need: 1", "needs: 1"):                                                `unknown key "needs" (did you mean "need"?)`,
		swap("{key: "+ledgerA, "{key: "+witnessA):                                  "witness.logs[0].key: not a ledger's verifier key",
		swap("{key: "+ledgerA+"}", "{key: "+ledgerA+"}\n    - {key: "+ledgerA+"}"): "pasban.yaml:12:13: witness.logs[1].key: the ledger a.example/ledger is listed twice",
		swap("ledger:\n", "ledger:\n  origin: a.example/ledger\n"):                 "witness.logs[0].key: that is this node's own ledger",
		swap("witness:\n", "witness:\n  name: a b\n"):                              `witness.name: not a name for a witness: "a b"`,
		swap("{key: "+ledgerA, "{origin: x, key: "+ledgerA):                        `unknown key "origin"`,
	} {
		_, problems := read(t, text)
		if problems == nil || !strings.Contains(problems.Error(), want) {
			t.Errorf("problems:\n%v\nwant %s", problems, want)
		}
	}
}
