package access

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/store"
)

//go:embed migrations
var migrations embed.FS

// Budgets bound how many different citizens one person may look at in a
// sliding window of time. It is immutable and safe for concurrent use.
type Budgets struct {
	byRole map[pasban.Role][]config.Budget
}

// NewBudgets makes the table if need be and returns the budgets of the config.
func NewBudgets(ctx context.Context, st *store.Store, limits []config.Budget) (*Budgets, error) {
	if err := st.Migrate(ctx, "access", migrations); err != nil {
		return nil, fmt.Errorf("tables of budgets: %w", err)
	}
	return WithLimits(limits), nil
}

// WithLimits returns other budgets over the table that NewBudgets has made,
// for a reload of the config: what was spent stays spent.
func WithLimits(limits []config.Budget) *Budgets {
	b := &Budgets{byRole: map[pasban.Role][]config.Budget{}}
	for _, l := range limits {
		b.byRole[l.Role] = append(b.byRole[l.Role], l)
	}
	return b
}

// Bounds reports whether someone of the role has a budget at all.
func (b *Budgets) Bounds(role pasban.Role) bool { return len(b.byRole[role]) > 0 }

// Spend counts a look at a citizen against the actor's budgets, inside the
// transaction tx that records the look: if that is rolled back, nothing was
// spent. A citizen who was counted within the shortest window costs nothing. It
// returns false, and the reason in words, if a budget is used up; the caller
// must then fail the transaction.
//
// Whoever would have to be counted has the actor's row locked first, so that on
// PostgreSQL the looks of one person through several nodes wait for each other;
// the count and the insert are one statement.
func (b *Budgets) Spend(tx *store.Tx, actor pasban.Actor, subject pasban.SubjectID, now time.Time) (ok bool, reason string, err error) {
	limits := b.byRole[actor.Role]
	if len(limits) == 0 || subject == "" {
		return true, "", nil
	}
	shortest, longest := limits[0].Per, limits[0].Per
	for _, l := range limits {
		shortest, longest = min(shortest, l.Per), max(longest, l.Per)
	}
	var one int
	err = tx.QueryRow(`SELECT 1 FROM access_spent WHERE actor = ? AND subject = ? AND spent_at > ?`,
		actor.ID, string(subject), now.Add(-shortest).UnixMilli()).Scan(&one)
	if err == nil {
		return true, "", nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return false, "", fmt.Errorf("look for an earlier look: %w", err)
	}
	if _, err := tx.Exec(`INSERT INTO access_actor (actor, looks) VALUES (?, 1)
		ON CONFLICT (actor) DO UPDATE SET looks = access_actor.looks + 1`, actor.ID); err != nil {
		return false, "", fmt.Errorf("lock the budget of an actor: %w", err)
	}
	done, err := b.insert(tx, limits, actor.ID, subject, now)
	if err != nil {
		return false, "", err
	}
	if !done {
		return false, b.exhausted(limits), nil
	}
	if _, err := tx.Exec(`DELETE FROM access_spent WHERE actor = ? AND spent_at <= ?`,
		actor.ID, now.Add(-longest).UnixMilli()); err != nil {
		return false, "", fmt.Errorf("forget old looks: %w", err)
	}
	return true, "", nil
}

// insert counts and inserts in one statement: the row is there only if every
// budget had room for one more citizen.
func (b *Budgets) insert(tx *store.Tx, limits []config.Budget, actor string, subject pasban.SubjectID, now time.Time) (bool, error) {
	room := make([]string, len(limits))
	args := []any{actor, string(subject), now.UnixMilli()}
	for i, l := range limits {
		room[i] = `(SELECT COUNT(*) FROM access_spent WHERE actor = ? AND subject <> ? AND spent_at > ?) < ?`
		args = append(args, actor, string(subject), now.Add(-l.Per).UnixMilli(), l.Subjects)
	}
	result, err := tx.Exec(`INSERT INTO access_spent (actor, subject, spent_at)
		SELECT CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT) WHERE `+strings.Join(room, " AND ")+`
		ON CONFLICT (actor, subject) DO UPDATE SET spent_at = excluded.spent_at`, args...)
	if err != nil {
		return false, fmt.Errorf("spend of a budget: %w", err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("spend of a budget: %w", err)
	}
	return n == 1, nil
}

func (b *Budgets) exhausted(limits []config.Budget) string {
	words := make([]string, len(limits))
	for i, l := range limits {
		words[i] = fmt.Sprintf("%d citizens per %s", l.Subjects, strings.TrimSuffix(strings.TrimSuffix(l.Per.String(), "0s"), "0m"))
	}
	return fmt.Sprintf("the budget is used up: at most %s for role %s", strings.Join(words, " and "), limits[0].Role)
}
