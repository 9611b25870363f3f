package node

import (
	"path/filepath"

	"pasban/internal/config"
	"pasban/internal/ledger"
	"pasban/internal/ledger/storage/posix"
)

// ledgerStorage returns where the ledger is kept. Nothing is opened yet.
func ledgerStorage(cfg *config.Config) ledger.Storage {
	return posix.New(filepath.Join(cfg.Data, "ledger"))
}
