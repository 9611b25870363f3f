// Package keys holds the keys that everything else rests on: the
// key-encryption key (KEK) that wraps the citizens' keys, the key of the blind
// indexes, the ledger's signing key, a witness's, and the key of what visitors
// carry.
//
// # Types
//
// A [Ring] is a directory of files encrypted with age (age-encryption.org/v1):
//
//	identity.txt   the age identity that opens the others; may live elsewhere
//	ring.age       the KEK and the index key
//	ledger.age     the ledger's origin and Ed25519 key
//	witness.age    the name and Ed25519 key that it cosigns others' ledgers with
//	pass.age       the two generations of the pass key
//
// A [KEK] wraps and unwraps keys and never gives itself away; the ring's is
// AES-256-GCM in memory, and other engines (an HSM, a key server) stand behind
// the same interface and pass the same suite, keystest.RunTests.
//
// # Guarantees
//
// A ring is made once: a directory that has lost a part of itself is refused,
// never filled up with fresh keys, because what the old ones sealed would be
// lost silently. Files are 0600 in a directory of 0700, replaced atomically,
// and checked when opened. Keys are wiped from memory by [Ring.Close] and
// print as [redacted] however they are printed.
//
// # What this package must never do
//
// It never returns the bytes of a key, never logs one, and never writes one
// unencrypted except for the age identity, which is what an operator moves to
// a safer place.
package keys

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"filippo.io/age"
	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/durable"
	"pasban/internal/vrf"
)

// The files of a ring.
const (
	identityFile = "identity.txt"
	ringFile     = "ring.age"
	ledgerFile   = "ledger.age"
	witnessFile  = "witness.age"
)

// maxFile bounds what is read of any file of the ring, in bytes.
const maxFile = 1 << 16

// KEK wraps data-encryption keys. Implementations are safe for concurrent use.
type KEK interface {
	// Wrap encrypts a key and binds it to aad: two wraps of one key differ.
	Wrap(ctx context.Context, dek, aad []byte) ([]byte, error)
	// Unwrap returns the key, or an error if wrapped is not what Wrap returned
	// under this KEK with the same aad.
	Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error)
}

// Options say where the ring's parts are. The zero value keeps all in one directory.
type Options struct {
	// Identity is the file with the age identity that opens the ring, for
	// operators who keep it on another medium. "" is identity.txt in the ring.
	// A file named here is never created.
	Identity string
}

// Ring is an opened set of keys. It is safe for concurrent use.
type Ring struct {
	hidden
	dir string
	id  *age.HybridIdentity

	kek   *localKEK
	index *IndexKey

	mu      sync.Mutex // guards what follows
	closed  bool
	ledger  *signer   // nil until asked for
	witness *cosigner // likewise
	pass    *PassKey  // likewise
}

// Open opens the ring in dir and makes it on first use. It refuses files that
// others may read, a ring that lacks its identity, and files that are not what
// they are named.
func Open(ctx context.Context, dir string, o Options) (*Ring, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the key directory: %w", err)
	}
	if err := durable.CheckMode(dir); err != nil {
		return nil, err
	}
	id, err := openIdentity(dir, o.Identity)
	if err != nil {
		return nil, err
	}
	r := &Ring{dir: dir, id: id}
	plain, err := r.read(ringFile)
	if errors.Is(err, fs.ErrNotExist) {
		plain, err = r.create()
	}
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	kek, index, err := parseRing(plain)
	if err != nil {
		return nil, &pasban.Error{Kind: pasban.Invalid, Msg: "the key ring is damaged", Where: filepath.Join(dir, ringFile), Err: err, Hint: "restore the keys directory from a backup"}
	}
	r.kek, r.index = &localKEK{key: kek}, &IndexKey{key: index}
	return r, nil
}

// KEK returns the key that wraps the citizens' keys.
func (r *Ring) KEK() KEK { return r.kek }

// IndexKey returns the key of the blind indexes.
func (r *Ring) IndexKey() *IndexKey { return r.index }

// LabelKey returns the key that the citizens' labels in the map of heads are made
// with. It comes from the key of the blind indexes and lives as long.
func (r *Ring) LabelKey() *vrf.Key { return vrf.NewKey(r.index.MAC("pasban/keys/labels/v1")) }

// LedgerSigner returns the signer of the ledger with this origin line and its
// verifier key (note.NewVerifier reads it). The key is made on first use; a
// ring that holds the key of another origin refuses, because a ledger cannot
// be renamed.
func (r *Ring) LedgerSigner(origin string) (note.Signer, string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, "", errClosed
	}
	if r.ledger == nil {
		s, err := r.openLedger(origin)
		if err != nil {
			return nil, "", err
		}
		r.ledger = s
	}
	if r.ledger.name != origin {
		return nil, "", &pasban.Error{
			Kind: pasban.Conflict, Msg: fmt.Sprintf("the key ring is of ledger %q, not %q", r.ledger.name, origin),
			Where: filepath.Join(r.dir, ledgerFile), Hint: "a ledger keeps its origin for life: set ledger.origin back",
		}
	}
	return r.ledger, r.ledger.vkey, nil
}

// WitnessSigner returns the signer that cosigns the ledgers of others under this
// name (C2SP tlog-cosignature, Ed25519), and its verifier key. first says that
// the witness has no memory yet: then, and only then, the key is made. A witness
// with a memory and no key, with a key and no memory, or of another name is
// refused, because its cosignatures would say what nobody remembers.
func (r *Ring) WitnessSigner(name string, first bool) (note.Signer, string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, "", errClosed
	}
	path := filepath.Join(r.dir, witnessFile)
	if first && exists(path) {
		return nil, "", &pasban.Error{Kind: pasban.Conflict, Where: path, Msg: "the witness's key is there, but its memory of what it cosigned is not", Hint: "bring its memory back, or move the key away and publish the new one"}
	}
	if r.witness == nil {
		c, err := r.openWitness(name, first)
		if err != nil {
			return nil, "", err
		}
		r.witness = c
	}
	if r.witness.name != name {
		return nil, "", &pasban.Error{Kind: pasban.Conflict, Where: path, Msg: fmt.Sprintf("the key ring is of witness %q, not %q", r.witness.name, name), Hint: "a witness keeps its name for life: set witness.name back"}
	}
	return r.witness, r.witness.vkey, nil
}

// openWitness reads the witness's key, or makes the first. The ring's lock is held.
func (r *Ring) openWitness(name string, first bool) (*cosigner, error) {
	if first {
		key, err := r.makeNamed()
		if err != nil {
			return nil, err
		}
		c, err := newCosigner(name, key)
		if err != nil {
			return nil, err
		}
		return c, r.writeNamed(witnessFile, witnessHeader, "name", name, key)
	}
	held, key, err := r.readNamed(witnessFile, witnessHeader, "name")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &pasban.Error{Kind: pasban.Invalid, Where: filepath.Join(r.dir, witnessFile), Msg: "the witness's key is not there", Hint: "restore the keys directory from a backup"}
	}
	if err != nil {
		return nil, err
	}
	c, err := newCosigner(held, key)
	if err != nil {
		return nil, r.damaged(witnessFile, err)
	}
	return c, nil
}

// Close wipes the keys. Whatever was obtained from the ring fails from then on.
func (r *Ring) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.kek.wipe()
	r.index.wipe()
	if r.ledger != nil {
		r.ledger.wipe()
	}
	if r.witness != nil {
		r.witness.wipe()
	}
	if r.pass != nil {
		r.pass.wipe()
	}
	return nil
}

// openIdentity reads the age identity, and makes it for a directory that has
// no ring yet.
func openIdentity(dir, file string) (*age.HybridIdentity, error) {
	path := file
	if path == "" {
		path = filepath.Join(dir, identityFile)
	}
	text, err := readPrivate(path)
	switch {
	case err == nil:
		defer clear(text)
		return parseIdentity(path, text)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case file != "" || exists(filepath.Join(dir, ringFile)) || exists(filepath.Join(dir, ledgerFile)):
		return nil, &pasban.Error{Kind: pasban.Invalid, Msg: "the age identity that opens the key ring is not there", Where: path, Err: err, Hint: "put the file back, or name it with keys.identity"}
	}
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return nil, fmt.Errorf("make an age identity: %w", err)
	}
	text = fmt.Appendf(nil, "# Opens the key ring of this Pasban node. Without it every sealed record is lost:\n# keep a copy away from this machine.\n%s\n", id)
	defer clear(text)
	if err := durable.WriteFile(path, text, 0o600); err != nil {
		return nil, fmt.Errorf("write the age identity: %w", err)
	}
	return id, nil
}

// parseIdentity reads the one post-quantum hybrid identity of an age identity file.
func parseIdentity(path string, text []byte) (*age.HybridIdentity, error) {
	bad := &pasban.Error{Kind: pasban.Invalid, Msg: "not an age identity file with one hybrid identity", Where: path, Hint: "age-keygen -pq makes one"}
	ids, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil || len(ids) != 1 {
		return nil, bad // the cause may quote the secret
	}
	id, ok := ids[0].(*age.HybridIdentity)
	if !ok {
		return nil, bad
	}
	return id, nil
}

// create draws the ring's keys and writes them; it returns their plain form.
func (r *Ring) create() ([]byte, error) {
	if exists(filepath.Join(r.dir, ledgerFile)) {
		return nil, &pasban.Error{Kind: pasban.Invalid, Msg: "the key ring lacks its main file", Where: filepath.Join(r.dir, ringFile), Hint: "restore the keys directory from a backup"}
	}
	var kek, index [32]byte
	rand.Read(kek[:])
	rand.Read(index[:])
	defer clear(kek[:])
	defer clear(index[:])
	plain := formatRing(kek, index)
	return plain, r.write(ringFile, plain)
}

// openLedger reads the ledger's key, or makes it. The ring's lock is held.
func (r *Ring) openLedger(origin string) (*signer, error) {
	name, key, err := r.readNamed(ledgerFile, ledgerHeader, "origin")
	if errors.Is(err, fs.ErrNotExist) {
		key, err = r.makeNamed()
		if err != nil {
			return nil, err
		}
		s, err := newSigner(origin, key)
		if err != nil {
			return nil, err
		}
		return s, r.writeNamed(ledgerFile, ledgerHeader, "origin", origin, key)
	}
	if err != nil {
		return nil, err
	}
	s, err := newSigner(name, key)
	if err != nil {
		return nil, r.damaged(ledgerFile, err)
	}
	return s, nil
}

func (r *Ring) makeNamed() (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	return key, nil
}

// readNamed reads a file of one named Ed25519 key.
func (r *Ring) readNamed(file, header, label string) (name string, key ed25519.PrivateKey, err error) {
	plain, err := r.read(file)
	if err != nil {
		return "", nil, err
	}
	defer clear(plain)
	name, seed, err := parseNamed(plain, header, label)
	if err != nil {
		return "", nil, r.damaged(file, err)
	}
	defer clear(seed)
	return name, ed25519.NewKeyFromSeed(seed), nil
}

func (r *Ring) writeNamed(file, header, label, name string, key ed25519.PrivateKey) error {
	seed := key.Seed()
	defer clear(seed)
	plain := formatNamed(header, label, name, seed)
	defer clear(plain)
	return r.write(file, plain)
}

func (r *Ring) damaged(file string, err error) error {
	return &pasban.Error{Kind: pasban.Invalid, Msg: "the key file is damaged", Where: filepath.Join(r.dir, file), Err: err, Hint: "restore the keys directory from a backup"}
}

// read decrypts one file of the ring.
func (r *Ring) read(name string) ([]byte, error) {
	path := filepath.Join(r.dir, name)
	sealed, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	damaged := func(err error) error {
		return &pasban.Error{Kind: pasban.Invalid, Msg: "cannot be opened with the ring's age identity", Where: path, Err: err, Hint: "is it the identity that this ring was made with?"}
	}
	d, err := age.Decrypt(bytes.NewReader(sealed), r.id)
	if err != nil {
		return nil, damaged(err)
	}
	plain, err := io.ReadAll(d)
	if err != nil {
		clear(plain)
		return nil, damaged(err)
	}
	return plain, nil
}

// write encrypts one file of the ring and returns when it is durable.
func (r *Ring) write(name string, plain []byte) error {
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, r.id.Recipient())
	if err != nil {
		return fmt.Errorf("encrypt %s: %w", name, err)
	}
	if _, err := w.Write(plain); err != nil {
		return fmt.Errorf("encrypt %s: %w", name, err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("encrypt %s: %w", name, err)
	}
	if err := durable.WriteFile(filepath.Join(r.dir, name), sealed.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// readPrivate reads a file that only its owner may be able to read.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := durable.CheckMode(path); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = &pasban.Error{Kind: pasban.Invalid, Msg: "too large for a key file", Where: path}
	}
	return data, err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
