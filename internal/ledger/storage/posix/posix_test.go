package posix_test

import (
	"testing"

	"pasban/internal/ledger"
	"pasban/internal/ledger/storage/posix"
	"pasban/internal/ledger/storage/storagetest"
)

var _ ledger.Storage = (*posix.Dir)(nil)

func TestContract(t *testing.T) {
	storagetest.RunTests(t, func(t *testing.T) storagetest.Engine {
		dir := t.TempDir()
		return storagetest.Engine{Open: func(testing.TB) ledger.Storage { return posix.New(dir) }}
	})
}
