package config_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/config"
)

const minimal = `
agency: {id: land-records, name: {en: Board of Revenue, ur: بورڈ آف ریونیو}}
`

// withSite is a config whose only site has the given routes, one per line.
func withSite(routes ...string) string {
	return minimal + "sites:\n  - host: land.example\n    upstream: [http://127.0.0.1:9000]\n    routes:\n      - " +
		strings.Join(routes, "\n      - ") + "\n"
}

func read(t *testing.T, text string) (*config.Config, config.Problems) {
	t.Helper()
	return config.Read(filepath.Join(t.TempDir(), "pasban.yaml"), []byte(text))
}

// TestContract reads the example that other nodes rely on: every key is known,
// and what this build cannot do is refused in words, not ignored.
func TestContract(t *testing.T) {
	text, err := os.ReadFile("testdata/contract.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"services/a.yaml", "policies/a.cedar", "rules/a.yml"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "pasban.yaml")
	c, problems := config.Read(file, text)
	if problems != nil {
		t.Fatal(problems)
	}
	if g := c.Guard[0]; g.Table != "public.parcel_owner" || g.Audit != time.Hour || len(g.Writers) != 1 || g.Writers[0].Role != "land_app" {
		t.Errorf("guard: %+v", g)
	}
	if r := c.Sites[0].Routes[0]; r.Subject != "cnic" || !slices.Equal(r.Purposes, []string{"mutation", "dispute"}) {
		t.Errorf("route: %+v", r)
	}
	if len(c.Services) != 1 || c.Services[0] != filepath.Join(dir, "services/a.yaml") || c.StoreDSN() != filepath.Join(dir, "data/store.db") {
		t.Errorf("paths: %v, %s", c.Services, c.StoreDSN())
	}
}

func TestDefaults(t *testing.T) {
	c, problems := read(t, withSite(`{match: "GET /", signin: none}`, `{match: "POST /x", signin: citizen}`))
	if problems != nil {
		t.Fatal(problems)
	}
	got := fmt.Sprint(c.Listen, c.Admin, c.TLS.Mode, c.Store.Value(), c.Relay.Value(), c.Events.Store.Value(), c.Keys.KEK.Value(),
		c.Ledger.Origin, c.Ledger.Storage.Value(), c.Sites[0].WAF.Paranoia, c.Sites[0].WAF.Mode, c.Sites[0].Timeout, c.Limits)
	want := ":8443 127.0.0.1:9443 local sqlite none embedded age land-records/ledger posix 1 block 30s {{20 60} 1048576 32768 999 64 4096 128 {50 200} [] [] [] { [] []} [secret]}"
	if strings.Join(strings.Fields(got), " ") != want {
		// Print puts no space between two strings.
		if strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if want := []config.Budget{{Role: "officer", Subjects: 50, Per: time.Hour}, {Role: "supervisor", Subjects: 100, Per: time.Hour}}; !slices.Equal(c.Access.Budgets, want) {
		t.Errorf("budgets: %v", c.Access.Budgets)
	}
	if a, b := c.Sites[0].Routes[0], c.Sites[0].Routes[1]; a.Action != "view" || b.Action != "change" || b.Kind() != pasban.KindChange {
		t.Errorf("actions: %+v, %+v", a, b)
	}
	if id, origins := c.RelyingParty(); id != "land.example" || !slices.Equal(origins, []string{"https://land.example:8443"}) {
		t.Errorf("relying party: %s %v", id, origins)
	}
	if c, problems = read(t, minimal+"tls: {mode: off}"); problems != nil || c.TLS.Mode != "off" { // no boolean, as in YAML 1.1
		t.Errorf("tls off: %v", problems)
	}
	if c, problems = read(t, withSite(`{match: "GET /", signin: none, rate: {per_second: 2}}`)); problems != nil || *c.Sites[0].Routes[0].Rate != (config.Rate{PerSecond: 2, Burst: 60}) {
		t.Errorf("a route's rate: %v", problems)
	}
	if c, problems = read(t, minimal+"access: {budgets: []}"); problems != nil || len(c.Access.Budgets) != 0 {
		t.Errorf("no budgets: %v, %v", c, problems)
	}
}

// TestProblems gives each mistake one row: the file and what is said about it.
func TestProblems(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"empty", "", "the file is empty"},
		{"syntax", "agency: {id: x", "pasban.yaml:1:9: "},
		{"not a mapping", "- a", "want keys and values, got a list"},
		{"two documents", minimal + "---\na: b\n", "a second document"},
		{"duplicate key", minimal + "data: a\ndata: b\n", `already defined`},
		{"unknown key", minimal + "lisen: x", `:3:1: lisen: unknown key "lisen" (did you mean "listen"?)`},
		{"unknown nested key", withSite(`{match: "GET /", signin: none, purpose: [a]}`), `:7:40: sites[0].routes[0].purpose: unknown key "purpose" (did you mean "purposes"?)`},
		{"no CIDR", minimal + "limits: {block: [192.0.2.0/33]}\n", "limits.block[0]: not an address or CIDR"},
		{"no list", minimal + "limits: {block_files: [nowhere.txt]}\n", "limits.block_files[0]: no such file"},
		{"countries without file", minimal + "limits: {countries: {block: [XX]}}\n", "limits.countries.file: missing key"},
		{"no country", minimal + "limits: {countries: {file: pasban.yaml, allow: [pk]}}\n", `limits.countries.allow[0]: not a country: "pk"`},
		{"nobody could connect", minimal + "limits: {handshakes: {per_second: -1}}\n", "limits.handshakes.per_second"},
		{"missing key", "data: x", `agency: missing key "agency"`},
		{"missing in list", withSite(`{match: "GET /"}`), `missing key "signin"`},
		{"wrong type", minimal + "sites: land", `sites: want a list, got "land"`},
		{"number for text", minimal + "data: 12", `data: want text, got 12 (put it in quotes)`},
		{"anchor", minimal + "data: &a x", "data: anchors are not supported"},
		{"alias", minimal + "data: &a x\nlisten: *a", "aliases are not supported"},
		{"tag", minimal + "data: !!str x", "tags are not supported"},
		{"duration", minimal + "access: {budgets: [{role: officer, subjects: 5, per: 1d}]}", `access.budgets[0].per: not a duration: "1d" (write it like 30s, 5m or 1h30m)`},
		{"enum", minimal + "tls: {mode: lokal}", `tls.mode: unknown value "lokal" (did you mean "local"?)`},
		{"range", withSite(`{match: "GET /", signin: none}`) + "    waf: {paranoia: 5}", "waf.paranoia: 5 is out of range (1 to 4)"},
		{"agency id", "agency: {id: Land Records, name: {en: a, ur: b}}", "not an agency id"},
		{"listen", minimal + "listen: 8443x", `listen: not a host:port: "8443x"`},
		{"port", minimal + `listen: ":99999"`, `not a port: "99999"`},
		{"admin public", minimal + `admin: ":9443"`, "the admin address is never public"},
		{"admin public v6", minimal + `admin: "[::]:9443"`, "the admin address is never public"},
		{"admin = listen", minimal + "admin: 127.0.0.1:1\nlisten: 127.0.0.1:1", "the same address as listen"},
		{"acme unread terms", minimal + "tls: {mode: acme}", "certificates are given only to those who agree"},
		{"acme for any host", strings.Replace(withSite(`{match: "GET /", signin: none}`), "host: land.example", `host: "*"`, 1) + "tls: {mode: acme, acme: {agree: true}}", `no authority gives a certificate for "*"`},
		{"acme in the clear", minimal + "tls: {mode: acme, acme: {agree: true, directory: \"http://ca.example/dir\"}}", "not the address of an ACME directory"},
		{"acme address", minimal + "tls: {mode: acme, acme: {agree: true, email: nobody}}", "not an address"},
		{"acme roots", minimal + "tls: {mode: acme, acme: {agree: true, ca_file: nowhere.pem}}", "no such file"},
		{"acme half bound", minimal + "tls: {mode: acme, acme: {agree: true, eab: {kid: a}}}", "kid and hmac go together"},
		{"acme key", minimal + "tls: {mode: acme, acme: {agree: true, eab: {kid: a, hmac: \"*\"}}}", "not a key"},
		{"acme, other mode", minimal + "tls: {acme: {agree: true}}", "not used with mode local"},
		{"plain listener", minimal + "tls: {http: \":8443\"}", "the same address as listen or admin"},
		{"plain listener twice", minimal + "tls: {mode: off, http: \":80\"}", "not used with mode off"},
		{"http3 without tls", minimal + "tls: {mode: off}\nhttp3: true", "HTTP/3 needs TLS of its own"},
		{"too many parameters", minimal + "limits: {parameters: 1000}", "999"},
		{"files", minimal + "tls: {mode: files, cert: nowhere.pem}", "no such file"},
		{"files without key", minimal + "tls: {mode: files}", `tls.key: missing key "key"`},
		{"cert unused", minimal + "tls: {cert: x.pem}", "not used with mode local"},
		{"store", minimal + "store: mysql://secretpassword@x", "not a store that this build has"},
		{"relay", minimal + "relay: nats://x", "relay: this build has none only"},
		{"events", minimal + "events: elastic://u:s3cret@x", "events.store: not an event store that this build has"},
		{"events retention", minimal + "events: {store: victorialogs://x, retention: 1h}", "events.retention: 1h0m0s is out of range"},
		{"kek", minimal + "keys: {kek: 'pkcs11:token=x'}", "keys.kek: this build has age only"},
		{"oidc", minimal + "identity: {oidc: [{name: {en: a, ur: b}, issuer: https://id, client_id: x}]}", "does not ask OpenID Connect"},
		{"origin", minimal + "ledger: {origin: 'a b'}", "not a name for a ledger"},
		{"web origin", minimal + "identity: {rp: a.example, origins: ['http://a.example']}", "not an origin that passkeys work on"},
		{"web origin elsewhere", minimal + "identity: {rp: a.example, origins: ['https://b.example']}", "host b.example is not a.example or below it"},
		{"env outside secrets", minimal + "data: ${HOME}/x", "${…} is for secrets only"},
		{"env behind a pointer", strings.Replace(withSite(`{match: "GET /", signin: none}`), "upstream:", "name: {en: '${HOME}', ur: x}\n    upstream:", 1), "sites[0].name.en: ${…} is for secrets only"},
		{"env missing", minimal + "store: postgres://x:${PASBAN_TEST_NOWHERE}@h/d", "the environment has no PASBAN_TEST_NOWHERE"},
		{"secret file missing", minimal + "store: file:nowhere", "the secret's file is not readable"},
		{"glob", minimal + "policies: [nowhere/*.cedar]", `no file matches "nowhere/*.cedar"`},
		{"budget window", minimal + "access: {budgets: [{role: officer, subjects: 5, per: 1s}]}", "per: 1s is out of range (1m to 744h)"},
		{"budget twice", minimal + "access: {budgets: [{role: officer, subjects: 5, per: 1h}, {role: officer, subjects: 6, per: 1h}]}", "a second budget of role officer"},
		{"budget role", minimal + "access: {budgets: [{role: oficer, subjects: 5, per: 1h}]}", `did you mean "officer"?`},
		{"rate", minimal + "limits: {rate: {per_second: 0}}", "nobody would get through"},
		{"host", strings.Replace(withSite(`{match: "GET /", signin: none}`), "land.example", "Land.example:80", 1), "not a host"},
		{"upstream", strings.Replace(withSite(`{match: "GET /", signin: none}`), "http://127.0.0.1:9000", "127.0.0.1:9000", 1), "not the address of a service"},
		{"upstream path", strings.Replace(withSite(`{match: "GET /", signin: none}`), ":9000", ":9000/app", 1), "not the address of a service"},
		{"method", withSite(`{match: "GTE /", signin: none}`), `unknown method "GTE" (did you mean "GET"?)`},
		{"pattern host", withSite(`{match: "GET a.example/", signin: none}`), "begins with /"},
		{"pattern", withSite(`{match: "GET /{a", signin: none}`), "bad wildcard segment"},
		{"pattern conflict", withSite(`{match: "GET /{a}/x", signin: none}`, `{match: "GET /x/{b}", signin: none}`), "sites[0].routes[1].match: conflicts with pattern"},
		{"pattern twice", withSite(`{match: "GET /a", signin: none}`, `{match: "GET /a", signin: none}`), "sites[0].routes[1].match: conflicts with pattern"},
		{"own path", withSite(`{match: "GET /desk", signin: none}`), "/desk is Pasban's own"},
		{"subject", withSite(`{match: "GET /r/{cnic}", signin: officer, subject: cinc, purposes: [a]}`), `"cinc" is not a wildcard of "GET /r/{cnic}" (did you mean "cnic"?)`},
		{"subject form", withSite(`{match: "GET /r", signin: officer, subject: form.cnic, purposes: [a]}`), "a form is sent with POST"},
		{"subject query", withSite(`{match: "GET /r", signin: officer, subject: query., purposes: [a]}`), "lacks a name"},
		{"open subject", withSite(`{match: "GET /r/{cnic}", signin: none, subject: cnic}`), "cannot be open to everybody"},
		{"no purposes", withSite(`{match: "GET /r/{cnic}", signin: officer, subject: cnic}`), "needs purposes to choose from"},
		{"purpose", withSite(`{match: "GET /r/{cnic}", signin: officer, subject: cnic, purposes: [Mutation]}`), `not a new purpose: "Mutation"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, problems := read(t, row.text)
			if problems == nil {
				t.Fatalf("accepted: %+v", c)
			}
			if !strings.Contains(problems.Error(), row.want) {
				t.Errorf("got\n%s\nwant … %s …", problems, row.want)
			}
			if strings.Contains(problems.Error(), "secretpassword") {
				t.Error("a secret is in the problem")
			}
			if pasban.KindOf(problems) != pasban.Invalid {
				t.Errorf("kind %s", pasban.KindOf(problems))
			}
		})
	}
}

// TestAllProblems: one pass reports everything, in the order of the file.
func TestAllProblems(t *testing.T) {
	_, problems := read(t, "lisen: x\nagency: {id: A, nam: x}\ntls: {mode: lokal}\nadmin: ':1'\n"+
		"sites:\n- {host: a.example, upstream: [x], routes: [{match: /a, signin: nobody}]}\n")
	var lines []int
	for _, p := range problems {
		lines = append(lines, p.Line)
	}
	if want := []int{1, 2, 2, 2, 3, 4, 6, 6}; !slices.Equal(lines, want) {
		t.Errorf("lines %v, want %v:\n%s", lines, want, problems)
	}
}

func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "dsn"), []byte("postgres://u:p@h/d\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PASBAN_TEST_PASSWORD", "tr3s")
	for text, want := range map[string]string{
		"store: file:dsn": "postgres://u:p@h/d",
		"store: postgres://u:${PASBAN_TEST_PASSWORD}@h/d": "postgres://u:tr3s@h/d",
	} {
		c, problems := config.Read(filepath.Join(dir, "pasban.yaml"), []byte(minimal+text))
		if problems != nil {
			t.Fatal(problems)
		}
		if got := c.StoreDSN(); got != want {
			t.Errorf("%s: %s", text, got)
		}
		var logged strings.Builder
		slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "config", c, "store", c.Store)
		shown := fmt.Sprintf("%v %+v %#v %s", c, c, c.Store, logged.String())
		if strings.Contains(shown, "tr3s") || strings.Contains(shown, "u:p@") {
			t.Errorf("shown: %s", shown)
		}
	}
}

func TestLoad(t *testing.T) {
	_, err := config.Load(filepath.Join(t.TempDir(), "nowhere.yaml"))
	if pasban.KindOf(err) != pasban.Invalid {
		t.Errorf("absent: %v", err)
	}
	file := filepath.Join(t.TempDir(), "pasban.yaml")
	if err := os.WriteFile(file, []byte(minimal+"x: 1\ny: 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = config.Load(file)
	if ps, ok := errors.AsType[config.Problems](err); !ok || len(ps) != 2 {
		t.Errorf("problems: %v", err)
	}
}

func TestRoute(t *testing.T) {
	for _, row := range []struct {
		subject string
		from    config.SubjectFrom
		name    string
	}{
		{"", config.FromNowhere, ""}, {"cnic", config.FromPath, "cnic"}, {"query.cnic", config.FromQuery, "cnic"},
		{"form.seller", config.FromForm, "seller"}, {"response", config.FromResponse, ""},
	} {
		if from, name := (config.Route{Subject: row.subject}).SubjectSource(); from != row.from || name != row.name {
			t.Errorf("%q: %s %s", row.subject, from, name)
		}
	}
	for _, row := range []struct {
		signin string
		roles  []pasban.Role // admitted, of all and ""
	}{
		{"none", append(pasban.Roles(), "")}, {"citizen", []pasban.Role{"citizen"}},
		{"officer", []pasban.Role{"officer", "supervisor"}}, {"supervisor", []pasban.Role{"supervisor"}}, {"", nil},
	} {
		for _, role := range append(pasban.Roles(), "") {
			if got := (config.Route{SignIn: row.signin}).Admits(role); got != slices.Contains(row.roles, role) {
				t.Errorf("signin %q admits %q: %v", row.signin, role, got)
			}
		}
	}
}

func TestOwns(t *testing.T) {
	for path, want := range map[string]bool{
		"/": false, "/en": false, "/en/": true, "/en/x": true, "/desk": true, "/desk/x": true, "/desks": false,
		"/api/v1/x": true, "/api/v2": false, "/ledger/checkpoint": true, "/.well-known/x": false,
	} {
		if config.Owns(path) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
}

func TestNearest(t *testing.T) {
	valid := []string{"listen", "admin", "sites", "purposes"}
	for name, want := range map[string]string{
		"lisen": "listen", "listne": "listen", "Admin": "admin", "site": "sites", "purpose": "purposes", "xyz": "", "": "",
		strings.Repeat("a", 10000): "",
	} {
		if got := config.Nearest(name, valid); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

// TestACME: what is needed for certificates by ACME, and what stands in for
// what is not given.
func TestACME(t *testing.T) {
	t.Setenv("PASBAN_TEST_EAB", "c2VjcmV0")
	c, problems := read(t, withSite(`{match: "GET /", signin: none}`)+
		`tls: {mode: acme, http: ":80", acme: {agree: true, email: webmaster@land.example, eab: {kid: a, hmac: "${PASBAN_TEST_EAB}"}}}`+"\nhttp3: true\n")
	if problems != nil {
		t.Fatal(problems)
	}
	a := c.TLS.ACME
	if a.Directory != "https://acme-v02.api.letsencrypt.org/directory" || a.EAB.HMAC.Value() != "c2VjcmV0" || !c.HTTP3 || c.TLS.HTTP != ":80" {
		t.Errorf("%+v", c.TLS)
	}
}
