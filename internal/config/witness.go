package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"

	"golang.org/x/mod/sumdb/note"

	"pasban"
)

// Witnesses cosign the ledger's checkpoints (C2SP tlog-witness). Whoever
// believes them knows that nobody was shown a ledger of their own; and this
// node learns from them if its ledger was restored from an old backup.
type Witnesses struct {
	// Need is how many of them must have cosigned a checkpoint before it is final.
	// As many must answer after a start before anything is signed.
	Need int `yaml:"need" min:"0"`
	// Of are the witnesses.
	Of []WitnessAt `yaml:"of"`
	// CAFile is a PEM file of the roots to trust for the witnesses' certificates,
	// where they are of an authority of the agencies' own. Without it: those of
	// the machine.
	CAFile string `yaml:"ca_file"`
}

// WitnessAt is one witness.
type WitnessAt struct {
	// Key is the witness's verifier key of type 0x04 (C2SP tlog-cosignature), as
	// its operator publishes it: witness.example/w1+…
	Key string `yaml:"key" required:"true"`
	// URL is the address that /add-checkpoint is appended to; for another Pasban
	// node https://HOST/ledger.
	URL string `yaml:"url" required:"true"`
}

// Witness has this node be a witness for the ledgers of others, at
// /ledger/add-checkpoint (C2SP tlog-witness). Its key is in data/keys, what it
// has seen in data/witness.
type Witness struct {
	// Name is what its cosignatures are known by, for life: a name without scheme.
	// Without it: the ledger's origin followed by /witness.
	Name string `yaml:"name"`
	// Logs are the ledgers that it watches. Without any, this node is no witness.
	Logs []WatchedLog `yaml:"logs"`
}

// WatchedLog is a ledger of somebody else's.
type WatchedLog struct {
	// Key is the ledger's verifier key, as its agency publishes it: the origin,
	// which names it, is the part before the first plus sign.
	Key string `yaml:"key" required:"true"`
}

// witnesses checks who cosigns this ledger, and whose ledgers this node cosigns.
func (k *checker) witnesses() {
	w := k.c.Ledger.Witnesses
	var keys []string
	for i, m := range w.Of {
		path := fmt.Sprintf("ledger.witnesses.of[%d]", i)
		k.witnessURL(path+".url", m.URL)
		if m.Key == "" {
			continue // reported as missing
		}
		if err := pasban.CheckWitnessKey(m.Key); err != nil {
			k.badKey(path+".key", err)
			continue
		}
		if _, err := pasban.NewWitnessPolicy(1, append(keys, m.Key)); err != nil {
			k.badKey(path+".key", err)
			continue
		}
		keys = append(keys, m.Key)
	}
	switch {
	case len(w.Of) == 0 && w.Need > 0:
		k.bad("ledger.witnesses.of", "a key and an address for each", "%d cosignatures are needed, and there is no witness", w.Need)
	case len(w.Of) > 0 && (w.Need < 1 || w.Need > len(w.Of)):
		k.bad("ledger.witnesses.need", "such as 2 of 3", "%d of %d witnesses cannot be asked for", w.Need, len(w.Of))
	}
	if w.CAFile != "" {
		k.file("ledger.witnesses.ca_file", w.CAFile)
	}
	k.watched()
}

// watched checks whose ledgers this node is a witness for.
func (k *checker) watched() {
	if n := k.c.Witness.Name; n != "" && !originForm.MatchString(n) {
		k.bad("witness.name", "such as land.example/witness", "not a name for a witness: %q", n)
	}
	seen := map[string]bool{}
	for i, l := range k.c.Witness.Logs {
		field := fmt.Sprintf("witness.logs[%d].key", i)
		if l.Key == "" {
			continue // reported as missing
		}
		v, err := note.NewVerifier(l.Key)
		switch {
		case err != nil:
			k.bad(field, "a line such as land.example/ledger+1a2b3c4d+AbCd…, as ledger/vkey and /.well-known/pasban.json have it", "not a ledger's verifier key")
			continue
		case v.Name() == k.c.Ledger.Origin:
			k.bad(field, "", "that is this node's own ledger: others have to watch it")
		case seen[v.Name()]:
			k.bad(field, "one key for each ledger", "the ledger %s is listed twice", v.Name())
		}
		seen[v.Name()] = true
	}
}

// badKey reports what is wrong with a witness's key in the words of package pasban.
func (k *checker) badKey(field string, err error) {
	if e, ok := errors.AsType[*pasban.Error](err); ok {
		k.bad(field, e.Hint, "%s", e.Msg)
		return
	}
	k.bad(field, "", "%v", err)
}

func (k *checker) witnessURL(field, raw string) {
	if raw == "" {
		return // reported as missing
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		k.bad(field, "such as https://witness.example/w1, without /add-checkpoint", "not a witness's address")
		return
	}
	if u.Scheme == "http" && !onThisMachine(u.Hostname()) {
		k.bad(field, "https://…", "plain HTTP is for a witness on this machine alone: anyone on the way could keep it from hearing")
	}
}

// onThisMachine reports whether a host's name can be this machine's alone.
func onThisMachine(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
