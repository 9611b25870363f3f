package directory

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"pasban"
)

// labels are those of the lists that grew, for an epoch at a time: 8 bytes each,
// sorted, so that their order tells nothing. mu is held.
func (d *Directory) labels(epoch int64, at time.Time) []byte {
	all := make([]pasban.WatchLabel, 0, len(d.grown))
	for _, blind := range d.grown {
		all = append(all, pasban.NewWatchKey("", blind, at.UTC().Year()).Label(epoch))
	}
	slices.SortFunc(all, func(a, b pasban.WatchLabel) int { return bytes.Compare(a[:], b[:]) })
	out := make([]byte, 0, len(all)*len(pasban.WatchLabel{}))
	for _, l := range all {
		out = append(out, l[:]...)
	}
	return out
}

// Grown returns the labels of the lists that grew in an epoch, to which the
// epoch's leaf commits. They are for everyone and never change. It is of kind
// NotFound for an epoch that there is not, or that is older than labels are.
func (d *Directory) Grown(ctx context.Context, epoch int64) ([]byte, error) {
	var labels []byte
	err := d.st.QueryRow(ctx, `SELECT labels FROM directory_watch WHERE epoch = ?`, epoch).Scan(&labels)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, noEpoch(epoch)
	}
	if err != nil {
		return nil, storing(err)
	}
	return labels, nil
}

// EpochAt returns the receipt of an epoch. It is for everyone, like Epoch's, and
// of kind NotFound as Grown is.
func (d *Directory) EpochAt(ctx context.Context, epoch int64) (pasban.Receipt, error) {
	var fact string
	err := d.st.QueryRow(ctx, `SELECT fact FROM directory_watch WHERE epoch = ?`, epoch).Scan(&fact)
	if errors.Is(err, sql.ErrNoRows) {
		return pasban.Receipt{}, noEpoch(epoch)
	}
	if err != nil {
		return pasban.Receipt{}, storing(err)
	}
	e, err := d.o.Journal.ByID(ctx, fact)
	if err != nil {
		return pasban.Receipt{}, err
	}
	return d.o.Prover.Receipt(ctx, e)
}

func noEpoch(epoch int64) error {
	return &pasban.Error{Kind: pasban.NotFound, Where: "directory", Msg: fmt.Sprintf("there is no epoch %d, or it is older than labels are", epoch)}
}

// WatchKey returns what a citizen finds the epochs of the year with in which
// their list grew. It is for them alone. It is of kind Unavailable before an
// epoch has them.
func (d *Directory) WatchKey(ctx context.Context, id pasban.SubjectID) (pasban.WatchKey, error) {
	r := row{subject: id}
	ok, err := d.known(ctx, &r)
	if err != nil {
		return pasban.WatchKey{}, err
	}
	if !ok {
		return pasban.WatchKey{}, &pasban.Error{Kind: pasban.Unavailable, Where: "directory", Msg: "no epoch has this list yet", Hint: "try again in some minutes"}
	}
	return pasban.NewWatchKey(d.o.Verifier.Name(), r.blind, time.Now().UTC().Year()), nil
}
