package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/access"
	"pasban/internal/api"
	"pasban/internal/journal"
	"pasban/internal/keys"
	"pasban/internal/page"
	"pasban/internal/registry"
	"pasban/internal/store/storetest"
	"pasban/internal/vault"
)

const (
	origin     = "land.example/ledger"
	records    = "/api/v1/services/land-transfer/records"
	sellerCNIC = pasban.CNIC("61101-1234567-2") // synthetic
)

type healthy struct{}

func (healthy) Healthy() error { return nil }

// rig is an API on the real registry, with visitors by name instead of sessions.
type rig struct {
	http.Handler
	api      *api.API
	journal  *journal.Journal
	verifier note.Verifier
	visitors map[string]api.Visitor
	schema   map[string]*jsonschema.Schema
}

type visitorKey struct{}

func open(t testing.TB) *rig {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	st := storetest.SQLite(t)
	ring, err := keys.Open(t.Context(), filepath.Join(t.TempDir(), "keys"), keys.Options{})
	must(err)
	t.Cleanup(func() { ring.Close() })
	signer, vkey, err := ring.LedgerSigner(origin)
	must(err)
	verifier, err := note.NewVerifier(vkey)
	must(err)
	v, err := vault.Open(t.Context(), st, ring, verifier)
	must(err)
	j, err := journal.Open(t.Context(), st, journal.Options{Signer: signer, Sealer: v})
	must(err)
	files, err := filepath.Glob("../../examples/policies/*.cedar")
	must(err)
	policies, err := access.Load(files)
	must(err)
	budgets, err := access.NewBudgets(t.Context(), st, nil)
	must(err)
	guard, err := registry.NewGuard(registry.GuardOptions{Agency: "land-records", Journal: j, Ledger: healthy{}, Rules: registry.Rules{Policies: policies, Budgets: budgets}})
	must(err)
	services, err := registry.LoadServices([]string{"../../examples/services/land-transfer.yaml"})
	must(err)
	reg, err := registry.New(t.Context(), st, registry.Options{Guard: guard, Vault: v, Services: services})
	must(err)
	pages, err := page.New(page.Options{Agency: map[string]string{"en": "Board", "ur": "بورڈ"}})
	must(err)
	seller, err := v.Subject(t.Context(), sellerCNIC)
	must(err)
	r := &rig{journal: j, verifier: verifier, schema: map[string]*jsonschema.Schema{}, visitors: map[string]api.Visitor{
		"seller":  {Actor: pasban.Actor{ID: "citizen:1", Kind: pasban.ActorCitizen, Role: pasban.RoleCitizen, Subject: seller.ID}},
		"citizen": {Actor: pasban.Actor{ID: "citizen:2", Kind: pasban.ActorCitizen, Role: pasban.RoleCitizen, Subject: "ff"}},
		"officer": {Actor: pasban.Actor{ID: "officer:1", Kind: pasban.ActorPerson, Role: pasban.RoleOfficer}},
		"working": {Actor: pasban.Actor{ID: "officer:1", Kind: pasban.ActorPerson, Role: pasban.RoleOfficer}, Purpose: pasban.Purpose{Code: "mutation", Case: "S-1"}},
		"analyst": {Actor: pasban.Actor{ID: "analyst:1", Kind: pasban.ActorPerson, Role: pasban.RoleAnalyst}},
	}}
	r.api, err = api.New(api.Options{Registry: reg, Pages: pages, Agency: "Board", Visitor: func(ctx context.Context) (api.Visitor, bool) {
		name, _ := ctx.Value(visitorKey{}).(string)
		v, ok := r.visitors[name]
		return v, ok
	}})
	must(err)
	r.Handler = r.api.Handler()
	return r
}

// call sends a request as a visitor and returns the answer with its JSON.
func (r *rig) call(t testing.TB, as, method, path string, body any, headers ...string) (*httptest.ResponseRecorder, map[string]any) {
	t.Helper()
	var sent []byte
	switch b := body.(type) {
	case nil:
	case string:
		sent = []byte(b)
	default:
		var err error
		if sent, err = json.Marshal(b); err != nil {
			t.Fatal(err)
		}
	}
	req := httptest.NewRequestWithContext(context.WithValue(t.Context(), visitorKey{}, as), method, path, bytes.NewReader(sent))
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	var out map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatalf("%s %s: not JSON: %v\n%s", method, path, err, w.Body)
	}
	return w, out
}

// valid checks an answer against a schema of the description.
func (r *rig) valid(t testing.TB, name string, answer any) {
	t.Helper()
	if r.schema[name] == nil {
		text, err := json.Marshal(r.api.OpenAPI())
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		c := jsonschema.NewCompiler()
		if err := c.AddResource("openapi.json", doc); err != nil {
			t.Fatal(err)
		}
		if r.schema[name], err = c.Compile("openapi.json#/components/schemas/" + name); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.schema[name].Validate(answer); err != nil {
		t.Errorf("the answer is not a %s: %v", name, err)
	}
}

// answers are those of a synthetic application.
func answers() map[string]string {
	return map[string]string{
		"district": "rawalpindi", "tehsil": "Gujar Khan", "mouza": "Adiala", "khasra": "123/4", "area_kanal": "12", "transfer": "sale",
		"seller_cnic": string(sellerCNIC), "seller_name": "Synthetic Seller", "seller_father": "Synthetic Father",
		"seller_mobile": "0300-1234567", "seller_address": "House 1, Synthetic Street", "seller_needs": "synthetic note",
		"buyer_cnic": "35202-7654321-1", "buyer_name": "Synthetic Buyer", "buyer_father": "Synthetic Elder",
		"buyer_mobile": "0333-7654321", "buyer_address": "House 2, Synthetic Street", "consideration_pkr": "4500000", "agreed_on": "2026-11-01",
	}
}

// TestWholeWay takes an application through the API, and checks every answer
// against the description and every promise against the ledger's key.
func TestWholeWay(t *testing.T) {
	r := open(t)
	promised := func(w *httptest.ResponseRecorder, n int) {
		t.Helper()
		lines := w.Header().Values(pasban.PromiseHeader)
		if len(lines) != n {
			t.Errorf("%d promises, want %d", len(lines), n)
		}
		for _, line := range lines {
			p, err := pasban.ParsePromise(origin, line)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Verify(r.verifier); err != nil {
				t.Error(err)
			}
		}
	}
	w, out := r.call(t, "seller", "POST", records, map[string]any{"values": answers()})
	if w.Code != http.StatusCreated || w.Header().Get("Location") != records+"/"+out["id"].(string) {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	promised(w, 2)
	r.valid(t, "Summary", out)
	one := w.Header().Get("Location")

	w, out = r.call(t, "officer", "GET", one, nil, "Pasban-Purpose", "mutation", "Pasban-Case", "RWP-1")
	if w.Code != http.StatusOK || out["values"].(map[string]any)["seller_name"] != "Synthetic Seller" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if cc := w.Header().Get("Cache-Control"); cc != "no-store" {
		t.Errorf("Cache-Control %q", cc)
	}
	promised(w, 2)
	r.valid(t, "LandTransferRecord", out)
	if e, err := r.journal.ByIndex(t.Context(), 2); err != nil || e.Fact.Body.Case != "RWP-1" || e.Fact.Restricted.Method != "GET" || e.Fact.Restricted.IP != "192.0.2.1" {
		t.Errorf("fact %+v %v", e.Fact, err)
	}

	if w, out = r.call(t, "working", "GET", one+"?fields=seller_needs", nil); w.Code != http.StatusOK || out["values"].(map[string]any)["seller_needs"] != "synthetic note" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w, out = r.call(t, "working", "POST", one+"/steps", map[string]string{"step": "verify"}); w.Code != http.StatusOK || out["state"].(map[string]any)["id"] != "verified" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	promised(w, 2)
	r.valid(t, "Summary", out)
	if w, out = r.call(t, "working", "POST", "/api/v1/services/land-transfer/search", map[string]string{"field": "seller_cnic", "value": string(sellerCNIC)}); w.Code != http.StatusOK || len(out["records"].([]any)) != 1 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	promised(w, 2)
	r.valid(t, "Records", out)
	for _, as := range []string{"officer", "seller"} {
		if w, out = r.call(t, as, "GET", records, nil); w.Code != http.StatusOK || len(out["records"].([]any)) != 1 || strings.Contains(w.Body.String(), "Synthetic Seller") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		r.valid(t, "Records", out)
	}
	if w, out = r.call(t, "", "GET", "/api/v1/services", nil); w.Code != http.StatusOK {
		t.Errorf("%d", w.Code)
	}
	r.valid(t, "Services", out)
	if w, out = r.call(t, "", "GET", "/api/v1/services/land-transfer", nil); w.Code != http.StatusOK {
		t.Errorf("%d", w.Code)
	}
	r.valid(t, "Service", out)
}

func TestPages(t *testing.T) {
	r := open(t)
	for range 3 {
		r.call(t, "seller", "POST", records, map[string]any{"values": answers()})
	}
	seen, after := map[string]bool{}, ""
	for range 3 {
		_, out := r.call(t, "officer", "GET", records+"?limit=1"+after, nil)
		list := out["records"].([]any)
		if len(list) != 1 {
			t.Fatalf("%v", out)
		}
		seen[list[0].(map[string]any)["id"].(string)] = true
		after = "&after=" + out["next"].(string)
	}
	if _, out := r.call(t, "officer", "GET", records+"?limit=1"+after, nil); len(out["records"].([]any)) != 0 || len(seen) != 3 {
		t.Errorf("%v after all of %v", out, seen)
	}
}

// TestProblems: every refusal is a problem document of the right status.
func TestProblems(t *testing.T) {
	r := open(t)
	_, made := r.call(t, "seller", "POST", records, map[string]any{"values": answers()})
	one := records + "/" + made["id"].(string)
	short := answers()
	delete(short, "mouza")
	short["seller_mobile"] = "1"
	for _, row := range []struct {
		name, as, method, path string
		body                   any
		headers                []string
		status                 int
		say                    string
	}{
		{"nobody opens", "", "GET", one, nil, nil, 401, "sign in first"},
		{"nobody lists", "", "GET", records, nil, nil, 401, "sign in first"},
		{"nobody applies", "", "POST", records, map[string]any{"values": answers()}, nil, 401, "sign in first"},
		{"officer without a case", "officer", "GET", one, nil, nil, 403, "no purpose was given"},
		{"officer, wrong purpose", "officer", "GET", one, nil, []string{"Pasban-Purpose", "gossip", "Pasban-Case", "1"}, 403, "not one of"},
		{"analyst", "analyst", "GET", one, nil, []string{"Pasban-Purpose", "mutation", "Pasban-Case", "1"}, 403, "do not see"},
		{"another citizen", "citizen", "GET", one, nil, nil, 404, "no such application"},
		{"unknown record", "working", "GET", records + "/LT-2026-00000-00000", nil, nil, 404, "no such application"},
		{"unknown service", "working", "GET", "/api/v1/services/x/records", nil, nil, 404, "no such service"},
		{"unknown service named", "", "GET", "/api/v1/services/x", nil, nil, 404, "no such service"},
		{"unknown address", "working", "GET", "/api/v1/x", nil, nil, 404, "nothing at this address"},
		{"method", "working", "DELETE", one, nil, nil, 405, "GET only"},
		{"step not there", "working", "POST", one + "/steps", map[string]string{"step": "x"}, nil, 404, "no such step"},
		{"step of another role", "working", "POST", one + "/steps", map[string]string{"step": "attest"}, nil, 403, "not for your role"},
		{"state", "working", "GET", records + "?state=x", nil, nil, 400, "no such state"},
		{"limit", "working", "GET", records + "?limit=0", nil, nil, 400, "1 to 200"},
		{"after", "working", "GET", records + "?after=x", nil, nil, 400, "next of the list"},
		{"fields", "working", "GET", one + "?fields=x", nil, nil, 400, "does not have"},
		{"form", "seller", "POST", records, map[string]any{"values": short}, nil, 400, `"field":"mouza"`},
		{"form, second field", "seller", "POST", records, map[string]any{"values": short}, nil, 400, `"field":"seller_mobile"`},
		{"not JSON", "seller", "POST", records, "{", nil, 400, "not the JSON"},
		{"unknown member", "seller", "POST", records, `{"values":{},"state":"attested"}`, nil, 400, "not the JSON"},
		{"two values", "seller", "POST", records, `{"values":{}}{}`, nil, 400, "not the JSON"},
		{"number for text", "seller", "POST", records, `{"values":{"khasra":1}}`, nil, 400, "not the JSON"},
		{"a form", "seller", "POST", records, "values=1", []string{"Content-Type", "application/x-www-form-urlencoded"}, 400, "not said to be JSON"},
		{"too large", "seller", "POST", records, `{"values":{"mouza":"` + strings.Repeat("x", 300<<10) + `"}}`, nil, 429, "too large"},
		{"another site", "seller", "POST", records, map[string]any{"values": answers()}, []string{"Sec-Fetch-Site", "cross-site"}, 403, "did not come from this site"},
		{"cookie without origin", "seller", "POST", records, map[string]any{"values": answers()}, []string{"Cookie", page.SessionCookie + "=x"}, 403, "did not come from this site"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w, out := r.call(t, row.as, row.method, row.path, row.body, row.headers...)
			if w.Code != row.status || !strings.Contains(w.Body.String(), row.say) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if ct := w.Header().Get("Content-Type"); ct != "application/problem+json" {
				t.Errorf("Content-Type %q", ct)
			}
			r.valid(t, "Problem", out)
			if len(w.Header().Values(pasban.PromiseHeader)) > 0 || out["values"] != nil {
				t.Error("a refusal shows something")
			}
			if (row.status == 403 && row.headers == nil || row.name == "another citizen") && !strings.HasPrefix(out["instance"].(string), "urn:pasban:incident:") {
				t.Errorf("no incident id: %s", w.Body)
			}
		})
	}
	if w, _ := r.call(t, "seller", "POST", records, map[string]any{"values": answers()}, "Cookie", page.SessionCookie+"=x", "Sec-Fetch-Site", "same-origin"); w.Code != http.StatusCreated {
		t.Errorf("a page of this site: %d %s", w.Code, w.Body)
	}
}

// TestOpenAPI: the description is OpenAPI 3.1, refers to nothing that is not
// there, and every path that it lists is served.
func TestOpenAPI(t *testing.T) {
	r := open(t)
	w, doc := r.call(t, "", "GET", "/api/openapi.json", nil)
	if w.Code != http.StatusOK || doc["openapi"] != "3.1.0" {
		t.Fatalf("%d %v", w.Code, doc["openapi"])
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if target, ok := v["$ref"].(string); ok {
				at := any(doc)
				for part := range strings.SplitSeq(strings.TrimPrefix(target, "#/"), "/") {
					m, _ := at.(map[string]any)
					at = m[part]
				}
				if at == nil {
					t.Errorf("%s is not there", target)
				}
			}
			for _, item := range v {
				walk(item)
			}
		case []any:
			for _, item := range v {
				walk(item)
			}
		}
	}
	walk(doc)
	ids := map[string]bool{}
	for path, methods := range doc["paths"].(map[string]any) {
		for method, op := range methods.(map[string]any) {
			id := op.(map[string]any)["operationId"].(string)
			if ids[id] {
				t.Errorf("operation %s is there twice", id)
			}
			ids[id] = true
			where := strings.NewReplacer("{service}", "land-transfer", "{id}", "LT-2026-00000-00000").Replace(path)
			w, out := r.call(t, "working", strings.ToUpper(method), where, "{}")
			if w.Code == http.StatusMethodNotAllowed || w.Code == http.StatusNotFound && strings.Contains(out["detail"].(string), "nothing at this address") {
				t.Errorf("%s %s is not served: %d", method, path, w.Code)
			}
		}
	}
	if len(ids) != 7 {
		t.Errorf("%d operations: %v", len(ids), ids)
	}
	// The answers of a real application are what the description asks for.
	r.valid(t, "LandTransferValues", func() any {
		out := map[string]any{}
		for k, v := range answers() {
			out[k] = v
		}
		return out
	}())
}

// FuzzBody: no body makes the API panic or answer anything but a problem, an
// application or a list.
func FuzzBody(f *testing.F) {
	r := open(f)
	f.Add(`{"values":{"mouza":"x"}}`)
	f.Add(`{"values":null}`)
	f.Add(`[[[[`)
	f.Fuzz(func(t *testing.T, body string) {
		for _, path := range []string{records, records + "/LT-2026-00000-00000/steps", "/api/v1/services/land-transfer/search"} {
			if w, _ := r.call(t, "seller", "POST", path, body); w.Code < 400 || w.Code >= 500 {
				t.Errorf("%s: %d %s", path, w.Code, w.Body)
			}
		}
	})
}
