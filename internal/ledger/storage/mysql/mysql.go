// Package mysql keeps a log in a MySQL or MariaDB database, with Tessera's driver
// of that name.
//
// [New] names the database; [Log.Claim] makes the tables and takes the log with a
// named lock of the server, which ends with its connection. The driver has one
// row for a tile, of the leaves so far; a partial tile is its beginning.
//
// It guarantees that what was written is committed, and that the checkpoint is
// not replaced while the driver publishes one. It must never let the password
// into an error, and never believe that a claim is still held without asking.
package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/transparency-dev/tessera"
	tesseramysql "github.com/transparency-dev/tessera/storage/mysql"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/ledger/tiles"
)

// page is how many rows are listed at once.
const page = 10_000

// tables are those that Tessera's driver expects (its schema.sql, version 1), and
// one for the ledger's other files.
var tables = []string{
	"CREATE TABLE IF NOT EXISTS `Tessera` (`id` TINYINT UNSIGNED NOT NULL PRIMARY KEY, `compatibilityVersion` BIGINT UNSIGNED NOT NULL)",
	"INSERT IGNORE INTO `Tessera` (`id`, `compatibilityVersion`) VALUES (0, 1)",
	"CREATE TABLE IF NOT EXISTS `Checkpoint` (`id` TINYINT UNSIGNED NOT NULL PRIMARY KEY, `note` MEDIUMBLOB NOT NULL, `published_at` BIGINT NOT NULL)",
	"CREATE TABLE IF NOT EXISTS `TreeState` (`id` TINYINT UNSIGNED NOT NULL PRIMARY KEY, `size` BIGINT UNSIGNED NOT NULL, `root` TINYBLOB NOT NULL)",
	"CREATE TABLE IF NOT EXISTS `Subtree` (`level` TINYINT UNSIGNED NOT NULL, `index` BIGINT UNSIGNED NOT NULL, `nodes` MEDIUMBLOB NOT NULL, PRIMARY KEY (`level`, `index`))",
	"CREATE TABLE IF NOT EXISTS `TiledLeaves` (`tile_index` BIGINT UNSIGNED NOT NULL PRIMARY KEY, `size` SMALLINT UNSIGNED NOT NULL, `data` LONGBLOB NOT NULL)",
	"CREATE TABLE IF NOT EXISTS `PasbanFile` (`name` VARCHAR(64) NOT NULL PRIMARY KEY, `data` MEDIUMBLOB NOT NULL)",
}

// Log is a log in a database.
type Log struct {
	db    *sql.DB
	name  string
	claim *Claim
}

// New returns the log in a database. It does not connect yet.
func New(s Server) (*Log, error) {
	db, err := s.Open()
	if err != nil {
		return nil, err
	}
	return &Log{db: db, name: s.Name(), claim: NewClaim(db, s.Name(), "pasban-ledger "+s.Database)}, nil
}

// Name is the database's address without user and password.
func (l *Log) Name() string { return l.name }

// Interval is the shortest that the driver takes.
func (l *Log) Interval() time.Duration { return time.Second }

// Claim makes the tables and takes the log for this process.
func (l *Log) Claim(ctx context.Context) error {
	if err := l.claim.Take(ctx); err != nil {
		return err
	}
	for _, t := range tables {
		if _, err := l.db.ExecContext(ctx, t); err != nil {
			return l.unavailable("the ledger's tables cannot be made", err)
		}
	}
	return nil
}

// Ready asks whether the claim is still held.
func (l *Log) Ready(ctx context.Context) error { return l.claim.Held(ctx) }

// Driver returns Tessera's driver of MySQL.
func (l *Log) Driver(ctx context.Context) (tessera.Driver, error) {
	d, err := tesseramysql.New(ctx, l.db)
	if err != nil {
		return nil, l.unavailable("the database is not one of a ledger", err)
	}
	return d, nil
}

// ReadFile reads a tile, a bundle, the checkpoint or another file.
func (l *Log) ReadFile(ctx context.Context, name string) ([]byte, error) {
	if name == tiles.Checkpoint {
		data, _, err := l.row(ctx, name, "SELECT `note`, 0 FROM `Checkpoint` WHERE `id` = 0")
		return data, err
	}
	t, err := tiles.ParsePath(name)
	if err != nil {
		data, _, err := l.row(ctx, name, "SELECT `data`, 0 FROM `PasbanFile` WHERE `name` = ?", name)
		return data, err
	}
	query, args := "SELECT `nodes`, LENGTH(`nodes`) DIV 32 FROM `Subtree` WHERE `level` = ? AND `index` = ? AND LENGTH(`nodes`) DIV 32 >= ?", []any{t.L, t.N, t.W}
	if t.L == tiles.Entries {
		query, args = "SELECT `data`, `size` FROM `TiledLeaves` WHERE `tile_index` = ? AND `size` >= ?", []any{t.N, t.W}
	}
	data, width, err := l.row(ctx, name, query, args...)
	switch {
	case err != nil || width == t.W || width > tiles.Width: // what stands behind it is seen by whoever checks it
		return data, err
	case t.L == tiles.Entries:
		return firstEntries(data, t.W), nil
	}
	return data[:t.W*tlog.HashSize], nil
}

// firstEntries returns the bundle of the first n leaves of a larger one. What is
// no bundle is returned as it is, for whoever checks it.
func firstEntries(bundle []byte, n int) []byte {
	leaves, err := tiles.ParseBundle(bundle)
	if err != nil || len(leaves) < n {
		return bundle
	}
	size := 0
	for _, leaf := range leaves[:n] {
		size += 2 + len(leaf)
	}
	return bundle[:size]
}

// row returns a file, and of how many leaves or hashes it is.
func (l *Log) row(ctx context.Context, name, query string, args ...any) (data []byte, width int, err error) {
	err = l.db.QueryRowContext(ctx, query, args...).Scan(&data, &width)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, 0, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, 0, l.unavailable("read "+name, err)
	}
	return data, width, nil
}

// List names each tile and bundle by the leaves that it has now.
func (l *Log) List(ctx context.Context, each func(name string) error) error {
	err := l.list(ctx, each, "SELECT `level`, `index`, LENGTH(`nodes`) DIV 32 FROM `Subtree` WHERE `level` > ? OR `level` = ? AND `index` > ? ORDER BY `level`, `index` LIMIT ?",
		func(last tlog.Tile) []any { return []any{last.L, last.L, last.N} })
	if err != nil {
		return err
	}
	return l.list(ctx, each, "SELECT -1, `tile_index`, `size` FROM `TiledLeaves` WHERE `tile_index` > ? ORDER BY `tile_index` LIMIT ?",
		func(last tlog.Tile) []any { return []any{last.N} })
}

// list names the rows that query gives, page by page: after the last of one come
// those of the next.
func (l *Log) list(ctx context.Context, each func(name string) error, query string, after func(last tlog.Tile) []any) error {
	for last := (tlog.Tile{N: -1}); ; {
		rows, err := l.named(ctx, query, append(after(last), page)...)
		if err != nil {
			return err
		}
		for _, t := range rows {
			if t.W < 1 || t.W > tiles.Width || t.L > 7 {
				continue // no tile: nobody asks for it
			}
			if err := each(tiles.Path(t)); err != nil {
				return err
			}
		}
		if len(rows) < page {
			return nil
		}
		last = rows[page-1]
	}
}

func (l *Log) named(ctx context.Context, query string, args ...any) ([]tlog.Tile, error) {
	rows, err := l.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, l.unavailable("list the ledger's rows", err)
	}
	defer rows.Close()
	var out []tlog.Tile
	for rows.Next() {
		t := tlog.Tile{H: tiles.Height}
		if err := rows.Scan(&t.L, &t.N, &t.W); err != nil {
			return nil, l.unavailable("list the ledger's rows", err)
		}
		out = append(out, t)
	}
	if err := rows.Err(); err != nil {
		return nil, l.unavailable("list the ledger's rows", err)
	}
	return out, nil
}

// WriteFile replaces a file. Of a partial tile that is the beginning of a larger
// one it replaces that beginning; whatever else stands behind it goes.
func (l *Log) WriteFile(ctx context.Context, name string, data []byte) error {
	t, err := tiles.ParsePath(name)
	switch {
	case name == tiles.Checkpoint:
		return l.exec(ctx, name, "INSERT INTO `Checkpoint` (`id`, `note`, `published_at`) VALUES (0, ?, 0) ON DUPLICATE KEY UPDATE `note` = VALUES(`note`)", data)
	case err != nil:
		return l.exec(ctx, name, "REPLACE INTO `PasbanFile` (`name`, `data`) VALUES (?, ?)", name, data)
	case t.L == tiles.Entries:
		return l.exec(ctx, name, "INSERT INTO `TiledLeaves` (`tile_index`, `size`, `data`) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE "+
			"`data` = IF(`size` > VALUES(`size`) AND `size` <= 256, CONCAT(VALUES(`data`), SUBSTRING(`data`, 1 + LENGTH(VALUES(`data`)))), VALUES(`data`)), "+
			"`size` = IF(`size` <= 256, GREATEST(`size`, VALUES(`size`)), VALUES(`size`))", t.N, t.W, data)
	}
	return l.exec(ctx, name, "INSERT INTO `Subtree` (`level`, `index`, `nodes`) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE "+
		"`nodes` = IF(LENGTH(`nodes`) DIV 32 > ? AND LENGTH(`nodes`) <= 256 * 32, CONCAT(VALUES(`nodes`), SUBSTRING(`nodes`, 1 + LENGTH(VALUES(`nodes`)))), VALUES(`nodes`))", t.L, t.N, data, t.W)
}

// Remove removes the row of a tile or bundle.
func (l *Log) Remove(ctx context.Context, name string) error {
	t, err := tiles.ParsePath(name)
	switch {
	case err != nil:
		return err
	case t.L == tiles.Entries:
		return l.exec(ctx, name, "DELETE FROM `TiledLeaves` WHERE `tile_index` = ? AND `size` = ?", t.N, t.W)
	}
	return l.exec(ctx, name, "DELETE FROM `Subtree` WHERE `level` = ? AND `index` = ? AND LENGTH(`nodes`) DIV 32 = ?", t.L, t.N, t.W)
}

func (l *Log) exec(ctx context.Context, name, query string, args ...any) error {
	if _, err := l.db.ExecContext(ctx, query, args...); err != nil {
		return l.unavailable("write "+name, err)
	}
	return nil
}

// ReplaceCheckpoint replaces the checkpoint in the row that the driver locks while
// it signs and publishes.
func (l *Log) ReplaceCheckpoint(ctx context.Context, raw []byte, still func() bool) error {
	return Locked(ctx, l.db, l.name, "SELECT `published_at` FROM `Checkpoint` WHERE `id` = 0 FOR UPDATE", func(tx *sql.Tx) error {
		if !still() {
			return nil
		}
		_, err := tx.ExecContext(ctx, "UPDATE `Checkpoint` SET `note` = ? WHERE `id` = 0", raw)
		return err
	})
}

// SetBack sets the driver's time of publication.
func (l *Log) SetBack(ctx context.Context, latest, now time.Time) (time.Time, bool, error) {
	var at int64
	err := l.db.QueryRowContext(ctx, "SELECT `published_at` FROM `Checkpoint` WHERE `id` = 0").Scan(&at)
	was := time.UnixMilli(at)
	if errors.Is(err, sql.ErrNoRows) {
		return was, false, nil // nothing was published
	}
	if err != nil || !was.After(latest) {
		return was, false, err
	}
	return was, true, l.exec(ctx, "the time of publication", "UPDATE `Checkpoint` SET `published_at` = ? WHERE `id` = 0 AND `published_at` > ?", now.UnixMilli(), latest.UnixMilli())
}

// Restore runs f while the driver waits for its tree's row.
func (l *Log) Restore(ctx context.Context, f func(context.Context) (tlog.Tree, error)) (found []tiles.Finding, err error) {
	err = Locked(ctx, l.db, l.name, "SELECT `size` FROM `TreeState` WHERE `id` = 0 FOR UPDATE", func(tx *sql.Tx) error {
		tree, err := f(ctx)
		if err != nil {
			return err
		}
		found, err = SetTree(ctx, tx, "TreeState", "size", "root", tree)
		return err
	})
	return found, err
}

// Close gives the log up.
func (l *Log) Close() error { return errors.Join(l.claim.Close(), l.db.Close()) }

func (l *Log) unavailable(msg string, err error) error { return unavailable(l.name, msg, err) }

func unavailable(where, msg string, err error) error {
	e := &pasban.Error{Kind: pasban.Unavailable, Where: where, Msg: msg, Err: err}
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) {
		e.Hint = "is the database server running, and reachable from here?"
	}
	return e
}
