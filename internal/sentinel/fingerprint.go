package sentinel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// fingerprintSQL tells everything about the table that decides what its rows
// mean and whether the sentinel sees them change, a line for each thing. The
// xmin of a trigger, its function and the publication changes even if something
// was altered and put back within one transaction.
const fingerprintSQL = `
WITH t AS (SELECT c.* FROM pg_class c WHERE c.oid = to_regclass($1)), w AS (SELECT r.* FROM pg_roles r WHERE r.rolname = ANY ($3))
SELECT format('table oid=%s kind=%s persistence=%s owner=%s grants=%s identity=%s rls=%s/%s', t.oid, t.relkind, t.relpersistence,
	pg_get_userbyid(t.relowner), coalesce(t.relacl::text, ''), t.relreplident, t.relrowsecurity, t.relforcerowsecurity) FROM t
UNION ALL SELECT format('column %s %s %s notnull=%s default=%s generated=%s grants=%s', a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
	coalesce(pg_get_expr(d.adbin, d.adrelid), ''), a.attgenerated, coalesce(a.attacl::text, ''))
	FROM t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
UNION ALL SELECT format('trigger %s enabled=%s function=%s version=%s/%s body=%s %s', g.tgname, g.tgenabled, p.oid::regprocedure, g.xmin, p.xmin, md5(p.prosrc), pg_get_triggerdef(g.oid))
	FROM t JOIN pg_trigger g ON g.tgrelid = t.oid AND NOT g.tgisinternal JOIN pg_proc p ON p.oid = g.tgfoid
UNION ALL SELECT format('foreign-key trigger of %s enabled=%s', g.tgconstraint, g.tgenabled) FROM t JOIN pg_trigger g ON g.tgrelid = t.oid AND g.tgisinternal AND g.tgenabled <> 'O'
UNION ALL SELECT format('rule %s enabled=%s %s', r.rulename, r.ev_enabled, pg_get_ruledef(r.oid)) FROM t JOIN pg_rewrite r ON r.ev_class = t.oid
UNION ALL SELECT format('policy %s %s', p.polname, md5(p::text)) FROM t JOIN pg_policy p ON p.polrelid = t.oid
UNION ALL SELECT format('constraint %s valid=%s %s', c.conname, c.convalidated, pg_get_constraintdef(c.oid)) FROM t JOIN pg_constraint c ON c.conrelid = t.oid
UNION ALL SELECT format('inherits %s from %s', i.inhrelid::regclass, i.inhparent::regclass) FROM t JOIN pg_inherits i ON t.oid IN (i.inhrelid, i.inhparent)
UNION ALL SELECT format('publication %s all=%s publish=%s%s%s%s version=%s', p.pubname, p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.xmin)
	FROM pg_publication p WHERE p.pubname = $2
UNION ALL SELECT format('published by %s version=%s where=%s columns=%s', p.pubname, r.xmin, coalesce(pg_get_expr(r.prqual, r.prrelid), ''), coalesce(r.prattrs::text, ''))
	FROM t JOIN pg_publication_rel r ON r.prrelid = t.oid JOIN pg_publication p ON p.oid = r.prpubid AND p.pubname = $2
UNION ALL SELECT format('writer %s superuser=%s bypassrls=%s replication=%s createrole=%s', w.rolname, w.rolsuper, w.rolbypassrls, w.rolreplication, w.rolcreaterole) FROM w
UNION ALL SELECT format('writer %s may be taken by %s', w.rolname, pg_get_userbyid(m.member)) FROM w JOIN pg_auth_members m ON m.roleid = w.oid
UNION ALL SELECT format('setting wal_level=%s', current_setting('wal_level'))`

// fingerprint is how the table was defined at one moment.
type fingerprint []string

func (s *source) fingerprint(ctx context.Context, conn *pgx.Conn) (fingerprint, error) {
	roles := []string{}
	for _, w := range s.g.Writers {
		roles = append(roles, w.Role)
	}
	rows, err := conn.Query(ctx, fingerprintSQL, s.sqlTable(), s.publish, roles)
	if err != nil {
		return nil, s.fail("the catalog cannot be read", err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, s.fail("the catalog cannot be read", err)
	}
	slices.Sort(lines)
	return lines, nil
}

func (f fingerprint) hash() string {
	sum := sha256.Sum256([]byte(strings.Join(f, "\x00")))
	return hex.EncodeToString(sum[:])
}

// differ lists what is gone (with a minus) and what is new (with a plus).
func differ(before, now fingerprint) []string {
	var out []string
	for _, l := range before {
		if !slices.Contains(now, l) {
			out = append(out, "- "+l)
		}
	}
	for _, l := range now {
		if !slices.Contains(before, l) {
			out = append(out, "+ "+l)
		}
	}
	return out
}

// filenode changes when the whole table is written anew: TRUNCATE, VACUUM FULL,
// CLUSTER, SET UNLOGGED. That is no event by itself, but a reason to audit now.
func (s *source) filenode(ctx context.Context, conn *pgx.Conn) (node uint32, xmin uint64, err error) {
	err = conn.QueryRow(ctx, `SELECT coalesce(pg_relation_filenode(to_regclass($1)), 0), pg_snapshot_xmin(pg_current_snapshot())::text::bigint`, s.sqlTable()).Scan(&node, &xmin)
	if err != nil {
		return 0, 0, s.fail("the catalog cannot be read", err)
	}
	return node, xmin, nil
}
