package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"

	"github.com/pressly/goose/v3"
)

var roomName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// Migrate brings the tables of one room up to date. fsys holds the room's
// migrations, sqlite/*.sql and postgres/*.sql (or both folders inside one
// named migrations), in goose's form; which of them
// have run is kept in the table goose_<room>. Each runs in a transaction. On
// PostgreSQL, nodes that start together migrate one after the other. A
// database that is ahead of the program is refused: an older program would
// write rows that the newer one does not expect.
func (s *Store) Migrate(ctx context.Context, room string, fsys fs.FS) error {
	if !roomName.MatchString(room) {
		return fmt.Errorf("migrate: %q is not a room's name", room)
	}
	if err := s.migrate(ctx, room, fsys); err != nil {
		return fmt.Errorf("migrate the tables of %s: %w", room, err)
	}
	return nil
}

func (s *Store) migrate(ctx context.Context, room string, fsys fs.FS) (err error) {
	if _, err := fs.Stat(fsys, "migrations"); err == nil { // as go:embed gives it
		if fsys, err = fs.Sub(fsys, "migrations"); err != nil {
			return err
		}
	}
	dir, err := fs.Sub(fsys, s.eng.dialect)
	if err != nil {
		return err
	}
	dialect := goose.DialectSQLite3
	if s.eng.dialect == Postgres {
		dialect = goose.DialectPostgres
	}
	write, read, err := s.eng.open() // own connections: goose takes as many as it likes
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, write.Close(), read.Close()) }()
	conn, err := write.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	unlock, err := s.eng.lock(ctx, conn)
	if err != nil {
		return err
	}
	defer unlock()
	p, err := goose.NewProvider(dialect, write, dir, goose.WithTableName("goose_"+room), goose.WithSlog(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	have, want, err := p.GetVersions(ctx)
	if err != nil {
		return err
	}
	if have > want {
		return fmt.Errorf("the database is at version %d, this program knows %d: run the newer program", have, want)
	}
	_, err = p.Up(ctx)
	return err
}
