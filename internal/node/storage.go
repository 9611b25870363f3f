package node

import (
	"path/filepath"

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
