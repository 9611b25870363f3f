package mysql_test

import (
	"testing"

	"pasban/internal/ledger"
	"pasban/internal/ledger/storage/mysql"
	"pasban/internal/ledger/storage/storagetest"
)

var _ ledger.Storage = (*mysql.Log)(nil)

func TestContract(t *testing.T) {
	storagetest.RunTests(t, func(t *testing.T) storagetest.Engine {
		at, gate := storagetest.MySQL(t)
		return storagetest.Engine{Gate: gate, Open: func(t testing.TB) ledger.Storage {
			l, err := mysql.New(at)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}}
	})
}
