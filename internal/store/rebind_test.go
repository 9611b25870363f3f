package store

import "testing"

func TestRebind(t *testing.T) {
	for q, want := range map[string]string{
		``:                                   ``,
		`SELECT 1`:                           `SELECT 1`,
		`?`:                                  `$1`,
		`a = ? AND b IN (?,?)`:               `a = $1 AND b IN ($2,$3)`,
		`'?' || ? || 'it''s ?' || ?`:         `'?' || $1 || 'it''s ?' || $2`,
		`"a?" = ? -- really?` + "\n" + `= ?`: `"a?" = $1 -- really?` + "\n" + `= $2`,
		`? /* ? */ ?`:                        `$1 /* ? */ $2`,
		`? -- ?`:                             `$1 -- ?`,
		`? '?`:                               `$1 '?`,
		`? /* ?`:                             `$1 /* ?`,
		`'' ? '' ?`:                          `'' $1 '' $2`,
		`- ? / ? *`:                          `- $1 / $2 *`,
		`نام = ?`:                            `نام = $1`,
	} {
		if got := rebind(q); got != want {
			t.Errorf("rebind(%q) = %q, want %q", q, got, want)
		}
	}
}
