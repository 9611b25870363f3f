package store_test

import (
	"testing"

	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

func TestSmoke(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		err := st.Write(t.Context(), func(tx *store.Tx) error {
			if _, err := tx.Exec(`CREATE TABLE a (x TEXT)`); err != nil {
				return err
			}
			_, err := tx.Exec(`INSERT INTO a VALUES (?)`, "hi")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var s string
		if err := st.QueryRow(t.Context(), `SELECT x FROM a WHERE x = ?`, "hi").Scan(&s); err != nil || s != "hi" {
			t.Fatal(s, err)
		}
		if _, err := st.Query(t.Context(), `DELETE FROM a WHERE x = ? RETURNING x`, "hi"); err == nil {
			t.Fatal("a reader wrote")
		}
	})
}
