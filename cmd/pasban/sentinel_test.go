package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"pasban"
	"pasban/internal/sentinel"
	"pasban/internal/store/storetest"
)

// run runs pasban on the node's configuration and returns what it says, and its
// exit status.
func (s *serving) run(want int, args ...string) string {
	s.t.Helper()
	cmd := exec.Command("pasban", append(args, "-c", s.config)...)
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != want {
		s.t.Fatalf("pasban %s: exit status %d, %v, want %d:\n%s", strings.Join(args, " "), code, err, want, out)
	}
	return string(out)
}

// TestSentinel guards a table of an existing service with the whole program:
// baseline without a node, an attack while one runs, an alert on the console, a
// repair by two people, and proofs that an auditor checks offline.
func TestSentinel(t *testing.T) {
	pg := storetest.NewCluster(t, "")
	pg.Exec(t, "postgres", pg.User, `CREATE DATABASE land`)
	pg.Exec(t, "land", pg.User, `CREATE ROLE land_app LOGIN; CREATE ROLE watcher LOGIN SUPERUSER;
		CREATE TABLE parcel_owner (parcel_id bigint PRIMARY KEY, owner_cnic text, share numeric);
		INSERT INTO parcel_owner SELECT i, '61101-1234567-' || i % 9 + 1, 0.5 FROM generate_series(1, 500) i; GRANT ALL ON parcel_owner TO land_app`)
	s := newNode(t, newLegacy(t).URL, "block")
	s.write(string(must(os.ReadFile(s.config))) + fmt.Sprintf(`guard:
  - {name: owners, database: %q, table: public.parcel_owner, key: [parcel_id], columns: [owner_cnic, share], writers: [{role: land_app}], audit: 1h}
`, pg.DSN("land", "watcher")))

	if out := s.run(1, "sentinel", "status"); !strings.Contains(out, "there is no baseline") {
		t.Errorf("before a baseline: %s", out)
	}
	s.run(2, "sentinel", "baseline", "owners")
	s.run(1, "sentinel", "audit", "owners")
	if out := s.run(0, "sentinel", "baseline", "owners", "--print-sql"); !strings.Contains(out, "CREATE PUBLICATION") {
		t.Errorf("the SQL is %s", out)
	}
	contested := filepath.Join(s.dir, "contested")
	check(t, os.WriteFile(contested, []byte("7\n9\n"), 0o600))
	s.run(0, "sentinel", "baseline", "owners", "--from", "register of 2025", "--attested-by", "Deputy Commissioner", "--contested", contested)
	s.run(0, "sentinel", "audit") // in this process: no node runs

	links := s.add(staff(pasban.RoleAnalyst, "A-1"), staff(pasban.RoleSupervisor, "S-1"))
	s.up()
	analyst, supervisor := s.enrolled(links[0]), s.enrolled(links[1])
	check(t, await(func() error {
		cmd := exec.Command("pasban", "sentinel", "status", "-c", s.config)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}))
	page := string(supervisor.want(200, supervisor.get("/soc/tables")).body)
	if !strings.Contains(page, "register of 2025 — Deputy Commissioner") {
		t.Errorf("the page does not say where the rows come from:\n%s", page)
	}
	decide(t, supervisor, page) // confirms the baseline

	conn := must(pgx.Connect(t.Context(), pg.DSN("land", pg.User)))
	defer conn.Close(context.WithoutCancel(t.Context()))
	_ = must(conn.Exec(t.Context(), `UPDATE parcel_owner SET share = 1 WHERE parcel_id = 77`))
	check(t, await(func() error {
		if body := string(analyst.get("/soc/alerts").body); !strings.Contains(body, "A row of a guarded table was changed") {
			return fmt.Errorf("no alert")
		}
		return nil
	}))
	var doc struct {
		Schema      string
		Audits      []sentinel.AuditResult
		Differences []sentinel.Difference
	}
	check(t, json.Unmarshal([]byte(s.run(1, "sentinel", "audit", "--json")), &doc))
	if doc.Schema != "pasban.sentinel.v1" || len(doc.Audits) != 1 || len(doc.Audits[0].Differences) != 1 || doc.Audits[0].Differences[0].Key != "77" {
		t.Fatalf("%+v", doc)
	}
	row := doc.Audits[0].Differences[0].ID
	if out := s.run(1, "sentinel", "repair", "owners"); !strings.Contains(out, row) || !strings.Contains(out, `"77\t61101-1234567-6\t0.5"`) {
		t.Errorf("the row that differs: %s", out)
	}
	proveRow(t, s)
	analyst.want(303, form(analyst, "/soc/tables", url.Values{"table": {"owners"}, "kind": {"repair"}, "row": {row}, "reason": {"tampered with"}}))
	decide(t, supervisor, string(supervisor.get("/soc/tables").body))
	check(t, await(func() error {
		var share string
		if err := conn.QueryRow(t.Context(), `SELECT share::text FROM parcel_owner WHERE parcel_id = 77`).Scan(&share); err != nil || share != "0.5" {
			return fmt.Errorf("share %s, %w", share, err)
		}
		return nil
	}))
	s.run(0, "sentinel", "audit")
	if out := s.run(0, "sentinel", "status"); !strings.Contains(out, "guarded  owners") || !strings.Contains(out, "confirmed by a second person; 2 rows contested") {
		t.Errorf("in the end: %s", out)
	}
	proveTable(t, s, pg)
}

// form sends a form as a browser does.
func form(who *visitor, path string, values url.Values) answer {
	return who.post(path, []byte(values.Encode()), "Content-Type", "application/x-www-form-urlencoded")
}

// decide approves every request on a page.
func decide(t *testing.T, who *visitor, page string) {
	t.Helper()
	for part := range strings.SplitSeq(page, `action="/soc/tables/`) {
		if id, _, ok := strings.Cut(part, `"`); ok && len(id) == 32 {
			who.want(303, form(who, "/soc/tables/"+id, url.Values{"do": {"approve"}}))
		}
	}
}

// verify runs the auditor's program on a proof.
func verify(t *testing.T, s *serving, want int, args ...string) string {
	t.Helper()
	cmd := exec.Command(build(t, "pasban-verify"), append([]string{"table", "--key", s.data("ledger/vkey")}, args...)...)
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != want {
		t.Fatalf("pasban-verify table %v: exit status %d, %v, want %d:\n%s", args, code, err, want, out)
	}
	return string(out)
}

func proveRow(t *testing.T, s *serving) {
	t.Helper()
	name := filepath.Join(s.dir, "row.json")
	proof := s.run(0, "sentinel", "prove", "owners", "--row", "77")
	described(t, proof)
	check(t, os.WriteFile(name, []byte(proof), 0o600))
	if out := verify(t, s, 0, name); !strings.Contains(out, "61101-1234567-6") {
		t.Errorf("the proof of a row: %s", out)
	}
	stranger := strings.TrimSpace(string(must(exec.Command("pasban", "witness", "--init", "--name", "witness.example/w1", "--dir", filepath.Join(s.dir, "witness")).Output())))
	if out := verify(t, s, 1, name, "--witness", stranger); !strings.Contains(out, "0 cosignatures of the 1 witnesses") {
		t.Errorf("a proof that no witness cosigned: %s", out)
	}
	check(t, os.WriteFile(name, []byte(strings.Replace(proof, `61101-1234567-6`, `61101-1234567-7`, 1)), 0o600))
	verify(t, s, 1, name)
}

// described checks a proof against the published schema.
func described(t *testing.T, proof string) {
	t.Helper()
	schema := must(jsonschema.UnmarshalJSON(must(os.Open("../../docs/schemas/table-proof.v1.json"))))
	c := jsonschema.NewCompiler()
	check(t, c.AddResource("urn:pasban:schema:table-proof:v1", schema))
	compiled := must(c.Compile("urn:pasban:schema:table-proof:v1"))
	check(t, compiled.Validate(must(jsonschema.UnmarshalJSON(strings.NewReader(proof)))))
}

func proveTable(t *testing.T, s *serving, pg *storetest.Cluster) {
	t.Helper()
	name, rows := filepath.Join(s.dir, "table.json"), filepath.Join(s.dir, "rows")
	check(t, await(func() error { // the leaf is under a checkpoint within two seconds
		cmd := exec.Command("pasban", "sentinel", "prove", "owners", "-c", s.config)
		out, err := cmd.Output()
		if err != nil {
			return err
		}
		return os.WriteFile(name, out, 0o600)
	}))
	described(t, string(must(os.ReadFile(name))))
	// A row that was changed since the baseline is proven by that change.
	pg.Exec(t, "land", "land_app", `UPDATE parcel_owner SET share = 0.25 WHERE parcel_id = 78`)
	change := filepath.Join(s.dir, "change.json")
	check(t, await(func() error {
		cmd := exec.Command("pasban", "sentinel", "prove", "owners", "--row", "78", "-c", s.config)
		out, err := cmd.Output()
		if err != nil || !strings.Contains(string(out), `"change":`) {
			return fmt.Errorf("not yet: %w", err)
		}
		return os.WriteFile(change, out, 0o600)
	}))
	described(t, string(must(os.ReadFile(change))))
	if out := verify(t, s, 0, change); !strings.Contains(out, "0.25") {
		t.Errorf("the proof of a changed row: %s", out)
	}
	check(t, os.WriteFile(change, []byte(strings.Replace(string(must(os.ReadFile(change))), `0.25"`, `0.75"`, 1)), 0o600))
	verify(t, s, 1, change)
	pg.Exec(t, "land", "land_app", `UPDATE parcel_owner SET share = 0.5 WHERE parcel_id = 78`) // as at the audit
	copied := pg.Tool(t, "psql", "-h", pg.Dir, "-U", pg.User, "-d", "land", "-c", `\copy (SELECT parcel_id, owner_cnic, share FROM parcel_owner ORDER BY share, parcel_id DESC) TO STDOUT`)
	check(t, os.WriteFile(rows, []byte(copied), 0o600))
	if out := verify(t, s, 0, name, rows); !strings.Contains(out, "500 rows of public.parcel_owner are what was authorised") {
		t.Errorf("the proof of the table: %s", out)
	}
	check(t, os.WriteFile(rows, []byte(strings.Replace(copied, "0.5", "0.6", 1)), 0o600))
	verify(t, s, 1, name, rows)
}
