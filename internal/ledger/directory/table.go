package directory

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"log/slog"

	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/store"
)

// row is a row of the table of heads.
type row struct {
	subject pasban.SubjectID
	label   pasban.Label
	blind   [32]byte
	number  int64
	leaf    tlog.Hash
}

func (r row) node() *node { return leaf(r.label, pasban.HeadValue(r.blind, r.number, r.leaf)) }

// known reads the label of the row's subject.
func (d *Directory) known(ctx context.Context, r *row) (bool, error) {
	var label, blind []byte
	err := d.st.QueryRow(ctx, `SELECT label, blind FROM directory_heads WHERE subject = ?`, string(r.subject)).Scan(&label, &blind)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, storing(err)
	}
	if len(label) != len(r.label) || len(blind) != len(r.blind) {
		return false, damaged(r.subject)
	}
	r.label, r.blind = pasban.Label(label), [32]byte(blind)
	return true, nil
}

// keep makes rows durable.
func (d *Directory) keep(ctx context.Context, rows []row) error {
	err := d.st.Write(ctx, func(tx *store.Tx) error {
		for _, r := range rows {
			if _, err := tx.Exec(`INSERT INTO directory_heads (subject, label, blind, number, leaf) VALUES (?, ?, ?, ?, ?)
				ON CONFLICT (subject) DO UPDATE SET label = excluded.label, blind = excluded.blind, number = excluded.number, leaf = excluded.leaf`,
				string(r.subject), r.label[:], r.blind[:], r.number, r.leaf[:]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return storing(err)
	}
	return nil
}

// load reads the last epoch and the map. If the table is not that epoch's map (a
// crash between the two, another node, a hand in the database), it is made again
// from the journal. mu is held, or nobody else knows d yet.
func (d *Directory) load(ctx context.Context) error {
	var number int64
	var fact string
	if err := d.st.QueryRow(ctx, `SELECT epoch, fact FROM directory_epoch WHERE id = 1`).Scan(&number, &fact); err != nil {
		return storing(err)
	}
	d.now.Store(nil)
	d.before.Store(nil)
	d.work, d.read = nil, 0
	clear(d.grown)
	if number == 0 {
		return nil
	}
	e, err := d.o.Journal.ByID(ctx, fact)
	if err != nil {
		return err
	}
	last := &epoch{heads: e.Fact.Body.Heads, entry: e}
	if d.work, err = d.table(ctx); err != nil {
		return err
	}
	if !d.is(last.heads) {
		slog.WarnContext(ctx, "directory: the table of heads is not the map of the last epoch: it is made again from the journal", "epoch", number)
		d.work, d.anew = nil, true
		_, err := d.follow(ctx, uint64(last.heads.Size))
		d.anew = false
		if err != nil {
			return err
		}
	}
	d.read = uint64(last.heads.Size)
	clear(d.grown) // what the table was made again from is older than the epoch
	if last.root = d.work; !d.is(last.heads) {
		slog.ErrorContext(ctx, "directory: the journal does not give the map of the last epoch: no statement of it can be given, a new epoch is committed", "epoch", number)
		last.root = nil
	}
	d.now.Store(last)
	return nil
}

// is reports whether the map in hand is the one that was committed.
func (d *Directory) is(h pasban.Heads) bool {
	root := d.work.sum()
	return base64.RawURLEncoding.EncodeToString(root[:]) == h.Root
}

// table reads the map from the table.
func (d *Directory) table(ctx context.Context) (*node, error) {
	rows, err := d.st.Query(ctx, `SELECT subject, label, blind, number, leaf FROM directory_heads`)
	if err != nil {
		return nil, storing(err)
	}
	defer rows.Close()
	var leaves []*node
	for rows.Next() {
		var r row
		var label, blind, last []byte
		if err := rows.Scan(&r.subject, &label, &blind, &r.number, &last); err != nil {
			return nil, storing(err)
		}
		if len(label) != len(r.label) || len(blind) != len(r.blind) || len(last) != len(r.leaf) {
			return nil, damaged(r.subject)
		}
		r.label, r.blind, r.leaf = pasban.Label(label), [32]byte(blind), tlog.Hash(last)
		leaves = append(leaves, r.node())
	}
	if err := rows.Err(); err != nil {
		return nil, storing(err)
	}
	return (*node)(nil).update(leaves), nil
}

func storing(err error) error {
	return &pasban.Error{Kind: pasban.Unavailable, Where: "directory", Msg: "the heads of the citizens' lists cannot be reached", Err: err}
}

func damaged(id pasban.SubjectID) error {
	return &pasban.Error{Kind: pasban.Unavailable, Where: "directory_heads " + string(id), Msg: "the row does not hold a head",
		Hint: "it was changed behind Pasban's back: empty the table directory_heads and start again; it is made anew from the journal"}
}
