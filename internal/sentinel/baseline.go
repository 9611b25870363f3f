package sentinel

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"pasban"
	"pasban/internal/durable"
	"pasban/internal/sentinel/rowtree"
	"pasban/internal/store"
)

const (
	// parts is into how many files the rows are sorted on their way into a base.
	parts = 64
	// pieceSize is how much is sealed at once.
	pieceSize = 256 << 10
	// chunkBlocks is how many blocks of the table (of 8 KiB) are read between
	// two points from which a baseline that broke off goes on.
	chunkBlocks = 32768
)

// Provenance says where a baseline's rows come from and who answers for them:
// what was in the table before the guard cannot be proven by it.
type Provenance struct {
	Origin    string   `json:"origin"`    // such as "register of 2025, checked against paper"
	Attests   string   `json:"attests"`   // the office that answers for the rows
	Contested []string `json:"contested"` // keys of rows that somebody contests, as COPY writes them
}

// progress is how far a baseline is, on stable storage after every chunk.
type progress struct {
	Layout  rowtree.Layout `json:"layout"`
	Slot    uint64         `json:"slot"`  // where the stream begins
	Next    int64          `json:"next"`  // first block that was not read
	Rows    int64          `json:"rows"`  //
	Lengths []int64        `json:"parts"` // of the part files
	Key     []byte         `json:"key"`   // of the files, sealed
	System  string         `json:"system"`
	Line    int32          `json:"timeline"`
}

// baseliner takes one baseline.
type baseliner struct {
	t     *table
	crypt *cryptor
	p     progress
	h     *rowtree.Hasher
	f     []*os.File
	buf   [][]byte
	say   func(string)
}

func (b *baseliner) file(name string) string {
	return filepath.Join(b.t.s.o.Dir, b.t.g.Name+".new."+name)
}

// takeBaseline reads the table as it is and makes that the state. The stream
// begins before the first row is read, so that nothing is missed between.
func (t *table) takeBaseline(ctx context.Context, pr Provenance, by pasban.Actor, again bool, say func(string)) (Status, error) {
	rec, _, err := t.s.load(ctx, t.g.Name)
	if err != nil {
		return Status{}, err
	}
	if rec.Baseline != "" && !again {
		return Status{}, &pasban.Error{Kind: pasban.Conflict, Where: "guarded table " + t.g.Name, Msg: "the table has a baseline since " + rec.Taken,
			Hint: "a new one takes every row as it is now: say so with --again"}
	}
	t.pause(true)
	defer t.pause(false)
	t.guarding.Lock() // until the guard has let go
	defer t.guarding.Unlock()
	t.mu.Lock()
	t.closeState()
	t.mu.Unlock()
	conn, err := t.src.connect(ctx)
	if err != nil {
		return Status{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := t.src.check(ctx, conn); err != nil {
		return Status{}, err
	}
	if err := t.src.setup(ctx, conn); err != nil {
		return Status{}, err
	}
	b := &baseliner{t: t, say: say}
	if err := b.begin(ctx, conn); err != nil {
		return Status{}, err
	}
	defer b.closeFiles()
	if err := b.read(ctx, conn); err != nil {
		return Status{}, err
	}
	return b.finish(ctx, conn, pr, by, rec)
}

// pause stops the guard for a baseline, or lets it go on.
func (t *table) pause(on bool) {
	t.mu.Lock()
	t.paused = on
	t.mu.Unlock()
	select {
	case t.restart <- struct{}{}:
	default:
	}
}

// begin goes on with a baseline that broke off, or starts a new one.
func (b *baseliner) begin(ctx context.Context, conn *pgx.Conn) error {
	slot, err := b.t.src.slotState(ctx, conn)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(b.file("json"))
	if err == nil && json.Unmarshal(text, &b.p) == nil && b.p.Layout.Check() == nil && len(b.p.Lengths) == parts &&
		slot.Found && slot.Status != "lost" && uint64(slot.Confirmed) == b.p.Slot && b.sameTable() {
		var raw []byte
		if b.t.s.unseal(ctx, b.p.Key, "key "+b.t.g.Name, &raw) == nil {
			if b.crypt, err = newCryptor(raw); err == nil {
				b.say(fmt.Sprintf("going on after %d rows", b.p.Rows))
				return b.openFiles()
			}
		}
	}
	return b.start(ctx, conn)
}

func (b *baseliner) sameTable() bool {
	return b.p.Layout.Table == b.t.g.Table && fmt.Sprint(b.p.Layout.Key, b.p.Layout.Columns) == fmt.Sprint(b.t.g.Key, b.t.g.Columns)
}

func (b *baseliner) start(ctx context.Context, conn *pgx.Conn) error {
	sys, err := b.t.identify(ctx)
	if err != nil {
		return err
	}
	var rows int64
	if err := conn.QueryRow(ctx, `SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass($1)`, b.t.src.sqlTable()).Scan(&rows); err != nil {
		return b.t.src.fail("the catalog cannot be read", err)
	}
	if rows <= 0 {
		if err := conn.QueryRow(ctx, `SELECT count(*) FROM `+b.t.src.sqlTable()).Scan(&rows); err != nil {
			return b.t.src.fail("the table cannot be read", err)
		}
	}
	lsn, err := b.t.src.makeSlot(ctx, conn)
	if err != nil {
		return err
	}
	salt := make([]byte, 32)
	rand.Read(salt)
	b.p = progress{Slot: uint64(lsn), Lengths: make([]int64, parts), System: sys.SystemID, Line: sys.Timeline,
		Layout: rowtree.Layout{Table: b.t.g.Table, Key: b.t.g.Key, Columns: b.t.g.Columns, Salt: salt, Buckets: rowtree.BucketsFor(rows)}}
	if b.crypt, b.p.Key, err = b.t.s.newKey(ctx, b.t.g.Name); err != nil {
		return err
	}
	return b.openFiles()
}

func (t *table) identify(ctx context.Context) (pglogrepl.IdentifySystemResult, error) {
	repl, err := t.src.replication(ctx)
	if err != nil {
		return pglogrepl.IdentifySystemResult{}, err
	}
	defer repl.Close(context.WithoutCancel(ctx))
	sys, err := pglogrepl.IdentifySystem(ctx, repl)
	if err != nil {
		return sys, t.src.fail("the server does not say who it is", err)
	}
	return sys, nil
}

// openFiles opens the part files and cuts off what was not known to be there.
func (b *baseliner) openFiles() error {
	b.h, b.buf = rowtree.NewHasher(b.p.Layout), make([][]byte, parts)
	for i := range parts {
		f, err := os.OpenFile(b.file(fmt.Sprint("part", i)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		b.f = append(b.f, f)
		if err := f.Truncate(b.p.Lengths[i]); err != nil {
			return err
		}
		if _, err := f.Seek(b.p.Lengths[i], io.SeekStart); err != nil {
			return err
		}
	}
	return nil
}

func (b *baseliner) closeFiles() {
	for _, f := range b.f {
		f.Close()
	}
}

// Write implements io.Writer for COPY: rows go to the part of their bucket.
func (b *baseliner) Write(data []byte) (int, error) {
	for line := range bytes.Lines(data) {
		line = bytes.TrimSuffix(line, []byte{'\n'})
		i := b.h.Bucket(b.h.Key(line)) * parts / max(b.p.Layout.Buckets, parts)
		b.buf[i] = binary.AppendUvarint(b.buf[i], uint64(len(line)))
		b.buf[i] = append(b.buf[i], line...)
		b.p.Rows++
		if len(b.buf[i]) >= pieceSize {
			if err := b.spill(i); err != nil {
				return 0, err
			}
		}
	}
	return len(data), nil
}

// spill seals what has gathered for a part.
func (b *baseliner) spill(i int) error {
	if len(b.buf[i]) == 0 {
		return nil
	}
	sealed := b.crypt.seal(b.buf[i], partAAD(i, b.p.Lengths[i]))
	piece := append(binary.BigEndian.AppendUint32(nil, uint32(len(sealed))), sealed...)
	b.buf[i] = b.buf[i][:0]
	b.p.Lengths[i] += int64(len(piece))
	_, err := b.f[i].Write(piece)
	return err
}

func partAAD(part int, at int64) string { return fmt.Sprintf("part %d %d", part, at) }

// read copies the table, a range of blocks at a time.
func (b *baseliner) read(ctx context.Context, conn *pgx.Conn) error {
	for {
		var blocks int64
		err := conn.QueryRow(ctx, `SELECT pg_relation_size(to_regclass($1)) / current_setting('block_size')::bigint`, b.t.src.sqlTable()).Scan(&blocks)
		if err != nil {
			return b.t.src.fail("the table cannot be read", err)
		}
		last := b.p.Next+chunkBlocks >= blocks
		where := fmt.Sprintf(` WHERE ctid >= '(%d,0)'::tid`, b.p.Next)
		if !last {
			where += fmt.Sprintf(` AND ctid < '(%d,0)'::tid`, b.p.Next+chunkBlocks)
		} else if b.p.Next == 0 {
			where = ""
		}
		if err := b.chunk(ctx, where); err != nil {
			return err
		}
		b.p.Next += chunkBlocks
		b.say(fmt.Sprintf("%d rows, %d of %d blocks", b.p.Rows, min(b.p.Next, blocks), blocks))
		if last {
			return nil
		}
		if err := b.remember(); err != nil {
			return err
		}
	}
}

func (b *baseliner) chunk(ctx context.Context, where string) error {
	v, err := b.t.src.begin(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	if err := b.t.src.copy(ctx, v, where, b); err != nil {
		return err
	}
	for i := range parts {
		if err := b.spill(i); err != nil {
			return err
		}
	}
	return nil
}

// remember puts what was read so far on stable storage.
func (b *baseliner) remember() error {
	for _, f := range b.f {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	text, err := json.Marshal(b.p)
	if err != nil {
		return err
	}
	return durable.WriteFile(b.file("json"), text, 0o600)
}

// finish makes the base of the parts, and the leaf that commits to it.
func (b *baseliner) finish(ctx context.Context, conn *pgx.Conn, pr Provenance, by pasban.Actor, old record) (Status, error) {
	t := b.t
	gen := old.Gen + 1
	b.say(fmt.Sprintf("%d rows read, writing the state", b.p.Rows))
	w, err := newBaseWriter(stateFile(t.s.o.Dir, t.g.Name, gen, "base"), b.crypt, baseHeader{Layout: b.p.Layout, Chain: make([]byte, 32)})
	if err != nil {
		return Status{}, err
	}
	for i := range parts {
		if err := b.sortPart(i, w); err != nil {
			w.abandon()
			return Status{}, err
		}
	}
	if err := w.finish(); err != nil {
		return Status{}, err
	}
	os.Remove(stateFile(t.s.o.Dir, t.g.Name, gen, "log"))
	rec := record{Taken: time.Now().UTC().Format(time.RFC3339), Origin: pr.Origin, Attests: pr.Attests, Contested: pr.Contested,
		Gen: gen, Rows: w.head.Rows, Acked: b.p.Slot, System: b.p.System, Timeline: b.p.Line}
	if rec.Fingerprint, err = t.src.fingerprint(ctx, conn); err != nil {
		return Status{}, err
	}
	if rec.Filenode, _, err = t.src.filenode(ctx, conn); err != nil {
		return Status{}, err
	}
	f := pasban.NewFact(pasban.KindAdmin, t.s.o.Agency, by, time.Now())
	f.Body.Service, f.Body.Action, f.Body.Resource = Service, "table.baseline", t.g.Name
	f.Restricted.More = w.head.says()
	maps.Copy(f.Restricted.More, map[string]string{
		"origin": pr.Origin, "attests": pr.Attests, "contested": fmt.Sprint(len(pr.Contested)), "contested_sha256": fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(pr.Contested, "\n")))),
		"fingerprint": rec.Fingerprint.hash(), "replaces": old.Baseline,
	})
	rec.Baseline, rec.Anchor = f.Body.ID, f.Body.ID
	if err := b.commit(ctx, f, rec); err != nil {
		return Status{}, err
	}
	for i := range parts {
		os.Remove(b.file(fmt.Sprint("part", i)))
	}
	os.Remove(b.file("json"))
	t.mu.Lock()
	t.status = Status{Table: t.g.Name, Source: t.g.Table}
	t.rec = rec
	t.fill()
	st := t.status
	t.mu.Unlock()
	t.toldMu.Lock()
	clear(t.told)
	t.toldMu.Unlock()
	return st, nil
}

// commit makes the baseline the one in force, and asks for its attestation.
func (b *baseliner) commit(ctx context.Context, f pasban.Fact, rec record) error {
	t := b.t
	detail, err := t.s.seal(ctx, rec, "table "+t.g.Name)
	if err != nil {
		return err
	}
	ask := Request{Table: t.g.Name, Kind: KindAttest, By: f.Restricted.Actor, Reason: rec.Origin + " — " + rec.Attests, Target: rec.Baseline}
	status := fmt.Sprintf(`{"table":%q,"source":%q,"baseline":%q}`, t.g.Name, t.g.Table, rec.Baseline)
	_, err = t.s.o.Journal.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		_, err := tx.Exec(`INSERT INTO sentinel_table (name, key, detail, status) VALUES (?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET key = excluded.key, detail = excluded.detail, status = excluded.status`, t.g.Name, b.p.Key, detail, status)
		if err != nil {
			return nil, err
		}
		if _, err := tx.Exec(`UPDATE sentinel_difference SET state = 'accepted' WHERE tbl = ? AND state = 'open'`, t.g.Name); err != nil {
			return nil, err
		}
		if _, err := tx.Exec(`UPDATE sentinel_request SET state = 'refused' WHERE tbl = ? AND kind <> 'baseline' AND state = 'waiting'`, t.g.Name); err != nil {
			return nil, err
		}
		return []pasban.Fact{f}, t.s.insert(ctx, tx, &ask, waiting)
	})
	return unavailable("record the baseline", err)
}

// sortPart puts a part's rows into their buckets. A row that was moved while the
// table was read may be there twice; the stream tells of it too.
func (b *baseliner) sortPart(part int, w *baseWriter) error {
	per := max(b.p.Layout.Buckets, parts) / parts
	buckets := make([]map[string][]byte, per)
	if _, err := b.f[part].Seek(0, io.SeekStart); err != nil {
		return err
	}
	r := bufio.NewReaderSize(io.LimitReader(b.f[part], b.p.Lengths[part]), 1<<20)
	for at := int64(0); at < b.p.Lengths[part]; {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		sealed := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(r, sealed); err != nil {
			return err
		}
		plain, err := b.crypt.open(sealed, partAAD(part, at))
		if err != nil {
			return err
		}
		at += 4 + int64(len(sealed))
		lines, err := splitLines(plain)
		if err != nil {
			return err
		}
		for _, line := range lines {
			key := b.h.Key(line)
			i := b.h.Bucket(key) - part*per
			if b.p.Layout.Buckets < parts {
				i = 0
			}
			if buckets[i] == nil {
				buckets[i] = map[string][]byte{}
			}
			buckets[i][string(key)] = line
		}
	}
	if b.p.Layout.Buckets < parts && part >= b.p.Layout.Buckets {
		return nil
	}
	for _, rows := range buckets {
		if err := w.add(slices.Collect(maps.Values(rows))); err != nil {
			return err
		}
	}
	return nil
}

// layoutText is a layout as facts carry it.
func layoutText(l rowtree.Layout) string {
	text, err := json.Marshal(l)
	if err != nil {
		return ""
	}
	return string(text)
}
