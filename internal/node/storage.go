package node

import (
	"path/filepath"
	"time"

	"pasban/internal/config"
	"pasban/internal/ledger"
	"pasban/internal/ledger/storage/mysql"
	"pasban/internal/ledger/storage/posix"
	"pasban/internal/ledger/storage/s3"
)

// ledgerStorage returns where the ledger is kept. Nothing is connected yet.
func ledgerStorage(cfg *config.Config) (ledger.Storage, error) {
	at, err := cfg.LedgerStorage()
	if err != nil {
		return nil, err
	}
	database := mysql.Server(at.MySQL)
	switch at.Kind {
	case "mysql":
		return mysql.New(database)
	case "s3":
		return s3.New(s3.Bucket(at.S3), database)
	}
	return posix.New(filepath.Join(cfg.Data, "ledger")), nil
}

// LedgerStorage is how the place where the ledger is kept answers.
type LedgerStorage struct {
	Where         string  `json:"where"`          // without secrets
	AnswerSeconds float64 `json:"answer_seconds"` // to read the checkpoint, the last time
	SilentSeconds float64 `json:"silent_seconds"` // since then; 0 before the first answer
	Problem       string  `json:"problem,omitempty"`
}

func storageFigures(s ledger.Status, now time.Time) LedgerStorage {
	f := LedgerStorage{Where: s.Storage, AnswerSeconds: s.Answers.Seconds()}
	if !s.StorageAt.IsZero() {
		f.SilentSeconds = max(0, now.Sub(s.StorageAt).Seconds())
	}
	if s.StorageErr != nil {
		f.Problem = s.StorageErr.Error()
	}
	return f
}
