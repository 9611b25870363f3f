package ledger

import (
	"context"
	"time"

	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/tlog"

	"pasban/internal/ledger/tiles"
)

// Storage is where one log is kept: its public files, by the names of C2SP
// tlog-tiles, and what the driver itself keeps beside them. The engines are in
// the folder storage, and storagetest.RunTests is what each of them passes.
//
// A file that is not there satisfies errors.Is(err, fs.ErrNotExist), one that
// cannot be any file of a ledger is Invalid; any other error means that it could
// not be told. Besides the public files there is the file vkey. A Storage is safe
// for concurrent use.
type Storage interface {
	tiles.Source
	tiles.Lister

	// Name says where it is, for people. It holds no secret.
	Name() string
	// Claim makes the storage on first use and takes it for this process until
	// Close. If another process has it, anywhere, that is a Conflict.
	Claim(ctx context.Context) error
	// Ready returns why leaves cannot be added now: the storage cannot be
	// written, or is not this process's any more. It is asked before each batch.
	Ready(ctx context.Context) error
	// Driver returns the driver that grows the log here. It is asked for once,
	// after Claim.
	Driver(ctx context.Context) (tessera.Driver, error)
	// Interval is the shortest time between two checkpoints.
	Interval() time.Duration

	// WriteFile replaces a file, and returns when that is durable.
	WriteFile(ctx context.Context, name string, data []byte) error
	// Remove removes a tile or bundle; one that is not there is no error.
	Remove(ctx context.Context, name string) error
	// ReplaceCheckpoint puts raw in the place of the checkpoint that is there,
	// and lets the driver go on counting from the moment when it wrote that one.
	// It asks still once, when the driver either waits to publish or cannot have
	// signed anything that it has not written, and writes only if that is true;
	// what still locks must be kept locked until the return.
	ReplaceCheckpoint(ctx context.Context, raw []byte, still func() bool) error
	// SetBack makes the driver believe that it published at now, if it believes
	// that this was after latest: it publishes nothing for an interval from then,
	// which would be a day for a clock that was a day ahead. It tells what it found.
	SetBack(ctx context.Context, latest, now time.Time) (was time.Time, moved bool, err error)
	// Restore lets f put the files right while the driver changes none of them,
	// and then makes the driver's own state that of the tree that f returns: what
	// it has taken beyond that is forgotten. It tells what of that was wrong.
	Restore(ctx context.Context, f func(context.Context) (tlog.Tree, error)) ([]tiles.Finding, error)

	// Close gives the storage up.
	Close() error
}
