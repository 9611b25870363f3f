package ledger

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"pasban"
	"pasban/internal/ledger/tiles"
	"pasban/internal/store"
)

// auditShare bounds what audits cost: after one that took a second the next
// comes in fifty at the earliest.
const auditShare = 50

// audits audits until ctx is done. What an audit finds is an alarm in the
// journal first; then it is repaired, and the damaged files are kept as
// evidence.
func (l *Ledger) audits(ctx context.Context) {
	for {
		l.mu.Lock()
		pause := max(l.o.AuditEvery, auditShare*l.health.took)
		l.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		if err := l.Audit(ctx); err != nil && ctx.Err() == nil {
			slog.ErrorContext(ctx, "ledger: audit", "storage", l.storage.Name(), "err", err)
			l.mend(ctx)
		}
	}
}

// mend repairs after an audit that did not hold.
func (l *Ledger) mend(ctx context.Context) {
	repaired, err := l.Repair(ctx)
	if err != nil && ctx.Err() == nil {
		slog.ErrorContext(ctx, "ledger: repair", "storage", l.storage.Name(), "err", err)
	}
	for _, f := range repaired {
		slog.WarnContext(ctx, "ledger: repaired from the journal", "file", f.Path, "problem", f.Problem)
	}
}

// Audit rehashes every leaf and tile in the storage against the newest
// checkpoint, as an outsider would, and every older partial tile that is still
// there. Its error names the first file that does not hold and how many there
// are; each is recorded in the journal once, as a fact of kind alarm.
func (l *Ledger) Audit(ctx context.Context) error {
	l.auditMu.Lock()
	defer l.auditMu.Unlock()
	cp := l.published.Load()
	if cp == nil {
		return nil
	}
	start := time.Now()
	report, err := tiles.Audit(ctx, l.storage, cp.Tree, nil)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	l.mu.Lock()
	h := &l.health
	h.audited, h.took, h.auditErr = time.Now(), time.Since(start), err
	if err == nil {
		h.findings = report.Findings
	}
	l.mu.Unlock()
	if err != nil {
		return unavailable("the audit could not read everything", err)
	}
	if err := l.alarm(ctx, report.Findings, false); err != nil {
		return err
	}
	if len(report.Findings) == 0 {
		return l.forgetAlarms(ctx)
	}
	first := report.Findings[0]
	return &pasban.Error{
		Kind: pasban.Unavailable, Where: first.Path,
		Msg:  fmt.Sprintf("the file %s (%d files of the ledger do not hold)", first.Problem, len(report.Findings)),
		Hint: "keep a copy as evidence; the ledger's repair restores it from the journal",
	}
}

// alarm records each damaged file as a fact, once until it holds again. A
// repaired one may be damaged, and recorded, again.
func (l *Ledger) alarm(ctx context.Context, findings []tiles.Finding, repaired bool) error {
	if len(findings) == 0 {
		return nil
	}
	now := time.Now().UTC()
	_, err := l.j.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		var facts []pasban.Fact
		for _, f := range findings {
			res, err := tx.Exec(`INSERT INTO ledger_alarms (path, time) VALUES (?, ?) ON CONFLICT (path) DO NOTHING`, f.Path, now.Format(pasban.TimeFormat))
			if err != nil {
				return nil, err
			}
			n, err := res.RowsAffected()
			if err != nil {
				return nil, err
			}
			if repaired {
				if _, err := tx.Exec(`DELETE FROM ledger_alarms WHERE path = ?`, f.Path); err != nil {
					return nil, err
				}
			}
			if n == 1 {
				fact := l.alarmFact(f.Path, "audit", f.Path+" "+f.Problem)
				fact.Restricted.More["problem"], fact.Restricted.More["repaired"] = f.Problem, fmt.Sprint(repaired)
				facts = append(facts, fact)
			}
		}
		return facts, nil
	})
	if err != nil {
		return fmt.Errorf("record a damaged file: %w", err)
	}
	return nil
}

// alarmFact is an alarm of the ledger's: about what, found by what, and why.
func (l *Ledger) alarmFact(resource, action, reason string) pasban.Fact {
	fact := pasban.NewFact(pasban.KindAlarm, l.o.Agency, pasban.Actor{ID: "ledger", Kind: pasban.ActorSystem}, time.Now())
	fact.Body.Service, fact.Body.Resource, fact.Body.Action = "ledger", resource, action
	fact.Body.Mode = pasban.ModeAutomatic
	fact.Restricted.Reasons = []string{reason}
	fact.Restricted.More = map[string]string{"origin": l.verifier.Name()}
	return fact
}

// forgetAlarms lets files that hold again be reported again.
func (l *Ledger) forgetAlarms(ctx context.Context) error {
	var n int
	if err := l.st.QueryRow(ctx, `SELECT COUNT(*) FROM ledger_alarms`).Scan(&n); err != nil || n == 0 {
		return err
	}
	return l.st.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM ledger_alarms`)
		return err
	})
}
