package flood

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"pasban"
)

// countryFile writes a small MaxMind DB.
func countryFile(t testing.TB, countries map[string]string) string {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Synthetic-Country", IncludeReservedNetworks: true})
	if err != nil {
		t.Fatal(err)
	}
	for cidr, code := range countries {
		_, network, err := net.ParseCIDR(cidr)
		if err != nil {
			t.Fatal(err)
		}
		record := mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(code)}}
		if err := tree.Insert(network, record); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "country.mmdb"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := tree.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func TestLists(t *testing.T) {
	feed := filepath.Join(t.TempDir(), "feed.txt")
	os.WriteFile(feed, []byte("# synthetic\n198.51.100.0/24 ; SBL1\n\n2001:db8:bad::/48\r\n"), 0o600)
	o := ListOptions{Allow: []string{"198.51.100.7"}, Block: []string{"192.0.2.0/25"}, BlockFiles: []string{feed},
		Country: countryFile(t, map[string]string{"203.0.113.0/25": "AA", "203.0.113.128/25": "BB", "2001:db8:aa::/48": "AA"}), BlockCountries: []string{"BB"}}
	l, err := LoadLists(o)
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]verdict{
		"192.0.2.1": {blocked: "the list of blocked addresses"}, "192.0.2.200": {}, "198.51.100.8": {blocked: "feed.txt"},
		"198.51.100.7": {allowed: true}, "2001:db8:bad::1": {blocked: "feed.txt"}, "203.0.113.1": {}, "203.0.113.200": {blocked: "country BB"},
		"8.8.8.8": {}, "2001:db8:aa::1": {},
	} {
		if got := l.of(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %+v, want %+v", addr, got, want)
		}
	}
	o.BlockCountries, o.AllowCountries = nil, []string{"AA"}
	if l, err = LoadLists(o); err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{"203.0.113.1": "", "203.0.113.200": "country BB", "8.8.8.8": "country unknown", "10.1.2.3": "", "127.0.0.1": ""} {
		if got := l.of(netip.MustParseAddr(addr)).blocked; got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
	var none *Lists
	if v := none.of(netip.MustParseAddr("192.0.2.1")); v != (verdict{}) {
		t.Errorf("without lists: %+v", v)
	}
}

func TestBadLists(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		f := filepath.Join(dir, name)
		os.WriteFile(f, []byte(text), 0o600)
		return f
	}
	for name, c := range map[string]struct {
		o    ListOptions
		want string
	}{
		"no address":  {ListOptions{BlockFiles: []string{file("a", "192.0.2.1\nnonsense\n")}}, "a:2"},
		"everybody":   {ListOptions{BlockFiles: []string{file("b", "0.0.0.0/0")}}, "b:1"},
		"half of all": {ListOptions{Block: []string{"2000::/3"}}, "limits.block"},
		"mapped":      {ListOptions{Allow: []string{"::ffff:0.0.0.0/96"}}, "limits.allow"},
		"no file":     {ListOptions{BlockFiles: []string{filepath.Join(dir, "none")}}, "none"},
		"no mmdb":     {ListOptions{Country: file("c", "nonsense")}, "c"},
	} {
		_, err := LoadLists(c.o)
		if pasban.KindOf(err) != pasban.Invalid || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseBlock(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "192.0.2.0/24", "::ffff:192.0.2.0/120", "fe80::1%eth0", "0.0.0.0/0", "1.2.3.4/99"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseBlock(s)
		if err == nil && (p != p.Masked() || p.Bits() < 8 || p.Addr().Is4In6() && p.Bits() >= 96) {
			t.Errorf("%q is %v", s, p)
		}
	})
}

// TestListed refuses a listed client, first with an answer, then at the door,
// and reads the list again when it changes.
func TestListed(t *testing.T) {
	feed := filepath.Join(t.TempDir(), "feed.txt")
	os.WriteFile(feed, []byte("127.1.5.0/24\n"), 0o600)
	lists, err := LoadLists(ListOptions{BlockFiles: []string{feed}, Allow: []string{"127.1.6.1"}})
	if err != nil {
		t.Fatal(err)
	}
	var got reports
	l := New(Limits{Rate: 0.001, Burst: 1, ConnsPerClient: 1, Conns: 1000}, got.add)
	l.SetLists(lists)
	h := l.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), nil, func(w http.ResponseWriter, r *http.Request, ref Refusal) {
		if ref.Listed != "feed.txt" {
			t.Errorf("refused for %q", ref.Listed)
		}
		w.WriteHeader(403)
	})
	to := server(t, l, h)
	ask := func(ip string) int {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = ip + ":1"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	if !answers(dialFrom(t, "127.1.5.9", to)) {
		t.Error("a listed client gets no answer")
	}
	for range doorAfter + 1 {
		if ask("127.1.5.1") != 403 {
			t.Error("a listed client was let in")
		}
	}
	if answers(dialFrom(t, "127.1.5.1", to)) {
		t.Error("who has been told often enough gets an answer")
	}
	for range 3 { // beyond its rate and its connections
		if ask("127.1.6.1") != 200 || !answers(dialFrom(t, "127.1.6.1", to)) {
			t.Error("an allowed client was held back")
		}
	}
	if rep := got.take(); len(rep) != 2 || rep[1].What != ListPrefix+"feed.txt" || rep[1].Client.String() != "127.1.5.1/32" {
		t.Errorf("reports: %+v", rep)
	}
	if changed, err := l.Refresh(); changed || err != nil {
		t.Errorf("nothing changed: %v, %v", changed, err)
	}
	later := time.Now().Add(time.Minute)
	os.WriteFile(feed, []byte("nonsense"), 0o600)
	os.Chtimes(feed, later, later)
	if _, err := l.Refresh(); err == nil || ask("127.1.5.1") != 403 {
		t.Errorf("a broken list: %v", err)
	}
	os.WriteFile(feed, []byte("127.1.7.1"), 0o600)
	os.Chtimes(feed, later, later)
	if changed, err := l.Refresh(); !changed || err != nil || ask("127.1.5.2") != 200 {
		t.Errorf("a new list: %v, %v", changed, err)
	}
}
