// Package witness watches other ledgers: it cosigns a checkpoint only if that
// extends everything that it has cosigned of the same ledger before (C2SP
// tlog-witness, tlog-cosignature). Whoever believes the witness then knows
// that nobody was shown a ledger of their own.
//
// # Main types
//
// A [Witness] is the one who is asked. Stand-alone ([Open]) it has its key in its
// directory; in a node ([New]) the key is the ring's. A [Client] is a ledger's way
// to ask one witness; what it hands back has been verified.
//
// # What a witness keeps
//
// A directory of mode 0700, open in one process at a time:
//
//	witness.key        the witness's Ed25519 key, a note signer key; not in a node
//	HASH.checkpoint    the newest checkpoint cosigned of a ledger, as its key signed it
//	HASH.fork          proof that the ledger forked: two signed checkpoints of one size
//
// HASH is the SHA-256 of the ledger's origin. A checkpoint is on stable storage
// before its cosignature is given out, so that a crash can lose an answer, never
// the memory of one.
//
// # What it must never do
//
// It never cosigns two checkpoints of which one does not contain the other. A
// record that is damaged, or signed by another key, stops the witness instead of
// being taken for none. Restoring an old copy of the directory would undo its
// memory: a witness that lost its directory starts with a new key.
package witness

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	cosig "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/durable"
)

const keyFile = "witness.key"

// Init makes dir, if need be, and a witness's key in it, and returns the
// verifier key (type 0x04). A directory that has a key is refused.
func Init(dir, name string) (vkey string, err error) {
	if name == "" || strings.ContainsAny(name, " \t\r\n+") {
		return "", &pasban.Error{Kind: pasban.Invalid, Msg: fmt.Sprintf("%q cannot be a witness's name", name), Hint: "the witness's address without https://, such as witness.example/w1"}
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return "", &pasban.Error{Kind: pasban.Invalid, Msg: "no key can be made for that name", Err: err}
	}
	if vkey, err = cosig.VKeyToCosignatureV1(vkey); err != nil {
		return "", &pasban.Error{Kind: pasban.Invalid, Msg: "no key can be made for that name", Err: err}
	}
	if err := durable.MkdirAll(dir, durable.DirMode); err != nil {
		return "", unavailable(dir, "the witness's directory cannot be made", err)
	}
	if err := durable.CheckMode(dir); err != nil {
		return "", err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	left, err := os.ReadDir(dir)
	if err != nil {
		return "", unavailable(dir, "the witness's directory cannot be read", err)
	}
	for _, e := range left {
		if e.Name() != filepath.Base(lock.Name()) {
			return "", &pasban.Error{Kind: pasban.Conflict, Where: filepath.Join(dir, e.Name()), Msg: "the directory is not empty", Hint: "a new witness needs a new directory"}
		}
	}
	if err := durable.WriteFile(filepath.Join(dir, keyFile), []byte(skey+"\n"), 0o600); err != nil {
		return "", unavailable(dir, "the witness's key cannot be kept", err)
	}
	return vkey, nil
}

func lockDir(dir string) (*os.File, error) {
	f, err := durable.Lock(filepath.Join(dir, "lock"))
	if errors.Is(err, durable.ErrLocked) {
		return nil, &pasban.Error{Kind: pasban.Conflict, Where: dir, Msg: "another process has this witness open", Err: err, Hint: "one at a time: stop the other one"}
	}
	if err != nil {
		return nil, unavailable(dir, "the witness's directory cannot be written", err)
	}
	return f, nil
}

// Witness cosigns checkpoints of the ledgers that it knows. It is safe for
// concurrent use.
type Witness struct {
	lock   *os.File
	signer note.Signer
	logs   map[string]*known // by origin; not changed after New
	log    *slog.Logger
	alarm  func(Alarm)
}

// Alarm is what a witness saw a ledger do that no honest one does.
type Alarm struct {
	Origin  string
	Size    int64 // of the checkpoint that was refused
	Seen    int64 // of the newest that was cosigned
	Forked  bool  // two roots of one size are signed: proof is kept. Otherwise the ledger has failed for a while to show that it extends what was seen
	Problem string
}

// known is a ledger and what was seen of it.
type known struct {
	verifier note.Verifier
	path     string // without the extension

	mu     sync.Mutex // held from the check of a checkpoint to its record
	tree   tlog.Tree  // the newest that was cosigned; N is 0 if none was
	forked bool       // proof of a fork is kept
	told   bool       // an alarm was given since the last cosignature
	doubt  time.Time  // when the first checkpoint since then was not shown to extend it; zero if none
}

// Open opens the stand-alone witness in dir, which Init made, for these ledgers'
// verifier keys. It fails if anything that it remembers of one of them is damaged.
func Open(dir string, logs []note.Verifier, log *slog.Logger) (*Witness, error) {
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, keyFile)
	skey, err := os.ReadFile(path)
	if err != nil {
		return nil, &pasban.Error{Kind: pasban.Invalid, Where: path, Msg: "the witness's key cannot be read", Err: err, Hint: "pasban witness --init makes a new witness"}
	}
	if err := durable.CheckMode(path); err != nil {
		return nil, err
	}
	signer, err := cosig.NewSignerForCosignatureV1(strings.TrimSpace(string(skey)))
	if err != nil {
		return nil, &pasban.Error{Kind: pasban.Invalid, Where: path, Msg: "not a witness's key", Err: err}
	}
	return New(dir, signer, logs, Options{Log: log})
}

func checkDir(dir string) error {
	err := durable.CheckMode(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return &pasban.Error{Kind: pasban.Invalid, Where: dir, Msg: "there is no witness", Hint: "pasban witness --init makes one"}
	}
	return err
}

// Options are whom a witness tells. The zero value tells slog.Default alone.
type Options struct {
	Log *slog.Logger
	// Alarm is told what a ledger did, once until that ledger is cosigned again.
	// The answer waits for it: it must not take long.
	Alarm func(Alarm)
}

// New opens the witness whose memory is in dir, which must be there, and whose
// signer makes cosignatures (key type 0x04). The signer and the directory belong
// together for life. It fails if anything that it remembers is damaged.
func New(dir string, signer note.Signer, logs []note.Verifier, o Options) (_ *Witness, err error) {
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Alarm == nil {
		o.Alarm = func(Alarm) {}
	}
	w := &Witness{signer: signer, logs: map[string]*known{}, log: o.Log, alarm: o.Alarm}
	if w.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.lock.Close()
		}
	}()
	for _, v := range logs {
		if w.logs[v.Name()] != nil {
			return nil, &pasban.Error{Kind: pasban.Invalid, Msg: fmt.Sprintf("two keys for the ledger %s", v.Name()), Hint: "one key for each ledger"}
		}
		k := &known{verifier: v, path: filepath.Join(dir, fmt.Sprintf("%x", sha256.Sum256([]byte(v.Name()))))}
		if err := k.load(); err != nil {
			return nil, err
		}
		w.logs[v.Name()] = k
	}
	return w, nil
}

// load reads what was seen of the ledger.
func (k *known) load() error {
	path := k.path + ".checkpoint"
	signed, err := os.ReadFile(path)
	if err == nil {
		cp, err := pasban.OpenCheckpoint(signed, k.verifier)
		if err != nil {
			return &pasban.Error{Kind: pasban.Conflict, Where: path, Msg: "what the witness remembers of " + k.verifier.Name() + " is damaged, or of another key", Err: err,
				Hint: "nothing is cosigned on a guess: make a new witness, with a new key"}
		}
		k.tree = cp.Tree
	} else if !errors.Is(err, fs.ErrNotExist) {
		return unavailable(path, "what the witness remembers cannot be read", err)
	}
	_, err = os.Stat(k.path + ".fork")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unavailable(k.path+".fork", "what the witness remembers cannot be read", err)
	}
	k.forked = err == nil
	return nil
}

// Close lets another process open the witness.
func (w *Witness) Close() error { return w.lock.Close() }

// Refusal is a witness's answer other than a cosignature.
type Refusal struct {
	Status int // of HTTP, as C2SP tlog-witness wants it
	Msg    string
	Size   int64 // with 409: of the newest checkpoint that the witness has cosigned; -1 if it does not say
}

// Error implements error.
func (r *Refusal) Error() string { return r.Msg }

// cosign answers the body of an add-checkpoint request: with the signature
// line, or with a refusal and the status that the specification wants.
func (w *Witness) cosign(body []byte) ([]byte, error) {
	req, err := parseRequest(body)
	if err != nil {
		return nil, &Refusal{Status: 400, Msg: err.Error()}
	}
	k := w.logs[req.origin]
	if k == nil {
		return nil, &Refusal{Status: 404, Msg: "this witness does not know the ledger"}
	}
	n, err := note.Open(req.signed, note.VerifierList(k.verifier))
	if err != nil {
		_, unverified := errors.AsType[*note.UnverifiedNoteError](err)
		_, invalid := errors.AsType[*note.InvalidSignatureError](err)
		if unverified || invalid {
			return nil, &Refusal{Status: 403, Msg: "the checkpoint is not signed with the ledger's key"}
		}
		return nil, &Refusal{Status: 400, Msg: "not a signed checkpoint"}
	}
	cp, err := pasban.OpenCheckpoint(req.signed, k.verifier)
	if err != nil {
		return nil, &Refusal{Status: 400, Msg: "not a checkpoint"}
	}
	if req.old > cp.N {
		return nil, &Refusal{Status: 400, Msg: "the old size is larger than the checkpoint's"}
	}
	// Only the ledger's own signature is kept: the others could be anything.
	signed, err := note.Sign(&note.Note{Text: n.Text, Sigs: n.Sigs})
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := w.check(k, req, cp, signed); err != nil {
		return nil, err
	}
	if cp.N > k.tree.N {
		if err := durable.WriteFile(k.path+".checkpoint", signed, 0o600); err != nil {
			return nil, unavailable(k.path+".checkpoint", "the checkpoint cannot be kept, so it is not cosigned", err)
		}
		k.tree = cp.Tree
	}
	line, err := note.Sign(&note.Note{Text: n.Text}, w.signer)
	if err != nil {
		return nil, err
	}
	k.told, k.doubt = false, time.Time{}
	return line[len(n.Text)+1:], nil
}

// check refuses a checkpoint that does not extend what was seen. k.mu is held.
func (w *Witness) check(k *known, req request, cp pasban.Checkpoint, signed []byte) error {
	if cp.N == k.tree.N && cp.N > 0 && cp.Hash != k.tree.Hash {
		if err := w.keepFork(k, signed); err != nil {
			return err
		}
		w.tell(k, cp, true, "it has signed two roots for one size")
		return &Refusal{http.StatusConflict, "the ledger forked: the witness has cosigned another root for this size", k.tree.N}
	}
	if req.old != k.tree.N {
		if cp.N < k.tree.N {
			w.log.Warn("a checkpoint older than the one cosigned was refused", "ledger", cp.Origin, "size", cp.N, "cosigned", k.tree.N)
		}
		return &Refusal{http.StatusConflict, "the witness has cosigned another size", k.tree.N}
	}
	var err error
	switch {
	case cp.N == 0 && cp.Hash != sha256.Sum256(nil):
		err = errors.New("no leaves with a root of some")
	case req.old == 0 || req.old == cp.N:
		if len(req.proof) > 0 {
			err = errors.New("a proof where none can be")
		}
	default:
		err = tlog.CheckTree(req.proof, cp.N, cp.Hash, k.tree.N, k.tree.Hash)
	}
	if err != nil {
		w.log.Error("a checkpoint that is not shown to extend the one cosigned was refused: the ledger may have forked", "ledger", cp.Origin, "size", cp.N, "root", cp.Hash, "cosigned", k.tree.N)
		w.doubt(k, cp)
		return &Refusal{Status: 422, Msg: "the proof does not show that the checkpoint extends the one cosigned"}
	}
	return nil
}

// tell gives the alarm once until the ledger is cosigned again. k.mu is held.
func (w *Witness) tell(k *known, cp pasban.Checkpoint, forked bool, problem string) {
	if !k.told {
		k.told = true
		w.alarm(Alarm{Origin: cp.Origin, Size: cp.N, Seen: k.tree.N, Forked: forked, Problem: problem})
	}
}

// doubtFor is how long a ledger may fail to show that it extends what was seen
// before that is an alarm. A stranger can ask with a wrong proof, but cannot keep
// an honest ledger from being cosigned within that time.
const doubtFor = time.Minute

// doubt notes a checkpoint with a proof that does not hold. k.mu is held.
func (w *Witness) doubt(k *known, cp pasban.Checkpoint) {
	if k.doubt.IsZero() {
		k.doubt = time.Now()
	}
	if time.Since(k.doubt) >= doubtFor {
		w.tell(k, cp, false, "it has not shown that it extends what was cosigned since "+k.doubt.UTC().Format(time.RFC3339))
	}
}

// keepFork keeps the first proof of a fork: both checkpoints, each signed.
func (w *Witness) keepFork(k *known, signed []byte) error {
	w.log.Error("the ledger FORKED: its key has signed two roots for one size", "ledger", k.verifier.Name(), "size", k.tree.N, "proof", k.path+".fork")
	if k.forked {
		return nil
	}
	seen, err := os.ReadFile(k.path + ".checkpoint")
	if err == nil {
		err = durable.WriteFile(k.path+".fork", append(append(seen, '\n'), signed...), 0o600)
	}
	if err != nil {
		return unavailable(k.path+".fork", "the proof of the fork cannot be kept", err)
	}
	k.forked = true
	return nil
}

func unavailable(where, msg string, err error) error {
	return &pasban.Error{Kind: pasban.Unavailable, Where: where, Msg: msg, Err: err}
}
