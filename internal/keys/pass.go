package keys

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"pasban"
)

// PassLife is how long a pass key signs. What it has signed can be checked for
// at least as long again: a key is kept until its successor is succeeded.
const PassLife = 7 * 24 * time.Hour

const (
	passFile   = "pass.age"
	passHeader = "pasban/keys/pass/v1"
)

// PassKey signs what visitors carry between requests: passes, challenges,
// places in a queue. It holds two generations, of which the younger signs. It
// is safe for concurrent use.
type PassKey struct {
	hidden
	save func(plain []byte) error // nil keeps it in memory alone

	mu     sync.RWMutex // guards what follows
	gen    [2]passGen   // the younger first; the older may be zero
	closed bool
}

// passGen is one generation of the key. Its number is what tokens name it by.
type passGen struct {
	number uint64
	made   time.Time
	key    [32]byte
}

// NewPassKey draws a key that lives in memory alone, for a gateway without a
// ring: what it signed means nothing after a restart.
func NewPassKey() *PassKey {
	k := &PassKey{}
	k.gen[0] = newPassGen(1, time.Now())
	return k
}

func newPassGen(number uint64, now time.Time) passGen {
	g := passGen{number: number, made: now}
	rand.Read(g.key[:])
	return g
}

// PassKey returns the ring's pass key. It is made on first use.
func (r *Ring) PassKey() (*PassKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errClosed
	}
	if r.pass != nil {
		return r.pass, nil
	}
	k := &PassKey{save: func(plain []byte) error { return r.write(passFile, plain) }}
	plain, err := r.read(passFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k.gen[0] = newPassGen(1, time.Now())
		plain = formatPass(k.gen)
		err = k.save(plain)
	case err == nil:
		k.gen, err = parsePass(plain)
		if err != nil {
			err = &pasban.Error{Kind: pasban.Invalid, Msg: "the file of the pass key is damaged", Where: filepath.Join(r.dir, passFile), Err: err,
				Hint: "remove it: visitors then earn their passes anew"}
		}
	}
	clear(plain)
	if err != nil {
		k.wipe()
		return nil, err
	}
	r.pass = k
	return k, nil
}

// Sign returns HMAC-SHA-256 of a message for one use, and the number of the
// key's generation. label keeps one use from standing in for another. It fails
// once the ring is closed.
func (k *PassKey) Sign(label string, msg []byte) (number byte, mac [sha256.Size]byte, err error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.closed {
		return 0, mac, errClosed
	}
	return byte(k.gen[0].number), k.gen[0].mac(label, msg), nil
}

// Check reports in constant time whether mac begins what the generation of
// that number signs for this message. It compares len(mac) bytes, at least 16.
func (k *PassKey) Check(number byte, label string, msg, mac []byte) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.closed || len(mac) < 16 || len(mac) > sha256.Size {
		return false
	}
	for i := range k.gen {
		if g := &k.gen[i]; g.number != 0 && byte(g.number) == number {
			want := g.mac(label, msg)
			return hmac.Equal(want[:len(mac)], mac)
		}
	}
	return false
}

func (g *passGen) mac(label string, msg []byte) [sha256.Size]byte {
	h := hmac.New(sha256.New, g.key[:])
	var size [8]byte
	binary.BigEndian.PutUint64(size[:], uint64(len(label)))
	h.Write(size[:])
	h.Write([]byte(label))
	h.Write(msg)
	return [sha256.Size]byte(h.Sum(nil))
}

// Rotate draws a new generation if the younger is older than PassLife, and
// returns when it is durable. Call it now and then.
func (k *PassKey) Rotate(now time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return errClosed
	}
	if now.Sub(k.gen[0].made) < PassLife {
		return nil
	}
	next := [2]passGen{newPassGen(k.gen[0].number+1, now), k.gen[0]}
	if k.save != nil {
		plain := formatPass(next)
		defer clear(plain)
		if err := k.save(plain); err != nil {
			return err
		}
	}
	clear(k.gen[1].key[:])
	k.gen = next
	return nil
}

func (k *PassKey) wipe() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.gen {
		clear(k.gen[i].key[:])
	}
	k.closed = true
}

func formatPass(gen [2]passGen) []byte {
	b := []byte(passHeader + "\n")
	for _, g := range gen {
		if g.number == 0 {
			continue
		}
		b = fmt.Appendf(b, "%d %d ", g.number, g.made.Unix())
		b = base64.StdEncoding.AppendEncode(b, g.key[:])
		b = append(b, '\n')
	}
	return b
}

// parsePass reads exactly what formatPass wrote.
func parsePass(plain []byte) (gen [2]passGen, err error) {
	line := strings.Split(string(plain), "\n")
	if len(line) < 3 || len(line) > 4 || line[0] != passHeader || line[len(line)-1] != "" {
		return gen, errFormat
	}
	for i, text := range line[1 : len(line)-1] {
		var made int64
		var key string
		g := &gen[i]
		if n, err := fmt.Sscanf(text, "%d %d %s", &g.number, &made, &key); n != 3 || err != nil || g.number == 0 {
			return gen, errFormat // the cause may quote the secret
		}
		if g.key, err = parseKey(key, ""); err != nil {
			return gen, err
		}
		g.made = time.Unix(made, 0)
	}
	return gen, nil
}
