package config

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/mail"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"pasban"
)

// checker finds what a type cannot say: semantic problems of a decoded file.
type checker struct {
	doc      *Document
	c        *Config
	dir      string
	problems Problems
}

func (k *checker) bad(path, hint, format string, args ...any) {
	k.problems = append(k.problems, k.doc.Problem(path, hint, format, args...))
}

var (
	nameForm   = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}$`)
	agencyForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	hostForm   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)
	originForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~/-]*$`)
	wildcard   = regexp.MustCompile(`\{([^}]*)\}`)
)

// check runs all checks. Values that did not decode are zero here and were
// reported already, so that zero values are passed over.
func (k *checker) check() {
	c := k.c
	if id := c.Agency.ID; id != "" && !agencyForm.MatchString(id) {
		k.bad("agency.id", "lower-case letters, digits and hyphens", "not an agency id: %q", id)
	}
	if o := c.Ledger.Origin; o != "" && !originForm.MatchString(o) {
		k.bad("ledger.origin", "such as land.example/ledger", "not a name for a ledger: %q", o)
	}
	k.listeners()
	k.tls()
	k.engines()
	k.people()
	k.budgets()
	k.proxying()
	if k.c.Limits.Rate.PerSecond <= 0 && k.doc.Has("limits.rate.per_second") {
		k.bad("limits.rate.per_second", "more than 0", "nobody would get through")
	}
	if k.c.Limits.Handshakes.PerSecond <= 0 && k.doc.Has("limits.handshakes.per_second") {
		k.bad("limits.handshakes.per_second", "more than 0", "nobody could connect")
	}
	k.lists()
	if dsn := k.c.SharedLimits(); dsn != "" && !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		k.bad("limits.shared", "auto, off, or postgres://user@host/database", "not a database that limits can be shared by")
	}
	hosts := map[string]bool{}
	for i := range c.Sites {
		s := &c.Sites[i]
		if hosts[s.Host] && s.Host != "" {
			k.bad(fmt.Sprintf("sites[%d].host", i), "put the routes into one site", "host %q has a site already", s.Host)
		}
		hosts[s.Host] = true
		k.site(fmt.Sprintf("sites[%d]", i), s)
	}
}

var countryForm = regexp.MustCompile(`^[A-Z]{2}$`)

// lists checks who is let in; what is in the files is the gateway's to read.
func (k *checker) lists() {
	l := &k.c.Limits
	for key, list := range map[string][]string{"allow": l.Allow, "block": l.Block} {
		for i, s := range list {
			_, err := netip.ParsePrefix(s)
			if a, aerr := netip.ParseAddr(s); err != nil && (aerr != nil || a.Zone() != "") {
				k.bad(fmt.Sprintf("limits.%s[%d]", key, i), "such as 192.0.2.1 or 2001:db8::/48", "not an address or CIDR: %q", s)
			}
		}
	}
	for i, f := range l.BlockFiles {
		k.file(fmt.Sprintf("limits.block_files[%d]", i), f)
	}
	n := len(l.Countries.Allow) + len(l.Countries.Block)
	if l.Countries.File != "" || n > 0 {
		k.file("limits.countries.file", l.Countries.File)
	}
	if l.Countries.File != "" && n == 0 {
		k.bad("limits.countries", "such as block: [XX]", "a file of countries, and none to allow or block")
	}
	for key, list := range map[string][]string{"allow": l.Countries.Allow, "block": l.Countries.Block} {
		for i, code := range list {
			if !countryForm.MatchString(code) {
				k.bad(fmt.Sprintf("limits.countries.%s[%d]", key, i), "ISO 3166-1 alpha-2, such as PK", "not a country: %q", code)
			}
		}
	}
}

func (k *checker) listeners() {
	k.address("listen", k.c.Listen)
	if host, _, ok := k.address("admin", k.c.Admin); ok {
		ip, err := netip.ParseAddr(host)
		if host == "" || err == nil && ip.IsUnspecified() {
			k.bad("admin", "give a host that only operators reach, such as 127.0.0.1:9443", "the admin address is never public")
		}
	}
	if k.c.Admin == k.c.Listen && !strings.HasSuffix(k.c.Listen, ":0") {
		k.bad("admin", "", "the same address as listen")
	}
}

func (k *checker) address(field, addr string) (host string, port int, ok bool) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		k.bad(field, "such as 127.0.0.1:8443 or :8443", "not a host:port: %q", addr)
		return "", 0, false
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		k.bad(field, "a number from 0 to 65535", "not a port: %q", text)
		return "", 0, false
	}
	return host, port, true
}

func (k *checker) tls() {
	t := k.c.TLS
	switch t.Mode {
	case "files":
		k.file("tls.cert", t.Cert)
		k.file("tls.key", t.Key)
	default:
		for _, f := range []string{"tls.cert", "tls.key"} {
			if k.doc.Has(f) {
				k.bad(f, "set tls.mode to files", "not used with mode %s", t.Mode)
			}
		}
	}
	if t.Mode == "acme" {
		k.acme(t.ACME)
	} else if k.doc.Has("tls.acme") {
		k.bad("tls.acme", "set tls.mode to acme", "not used with mode %s", t.Mode)
	}
	if t.Mode == "off" && k.c.HTTP3 {
		k.bad("http3", "leave it to the balancer", "HTTP/3 needs TLS of its own, not mode off")
	}
	if !k.doc.Has("tls.http") {
		return
	}
	switch k.address("tls.http", t.HTTP); {
	case t.Mode == "off":
		k.bad("tls.http", "leave it to the balancer", "not used with mode off")
	case (t.HTTP == k.c.Listen || t.HTTP == k.c.Admin) && !strings.HasSuffix(t.HTTP, ":0"):
		k.bad("tls.http", "", "the same address as listen or admin")
	}
}

// acme checks what certificates are asked with, and for which names.
func (k *checker) acme(a ACME) {
	if u, err := url.Parse(a.Directory); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		k.bad("tls.acme.directory", "such as https://acme-v02.api.letsencrypt.org/directory", "not the address of an ACME directory")
	}
	if a.Email != "" {
		if m, err := mail.ParseAddress(a.Email); err != nil || m.Address != a.Email {
			k.bad("tls.acme.email", "such as webmaster@land.example", "not an address: %q", a.Email)
		}
	}
	if a.CAFile != "" {
		k.file("tls.acme.ca_file", a.CAFile)
	}
	if !a.Agree {
		k.bad("tls.acme.agree", "read the authority's terms of service, then set agree: true", "certificates are given only to those who agree")
	}
	if (a.EAB.KID == "") != (a.EAB.HMAC == "") {
		k.bad("tls.acme.eab", "as the authority gave them", "kid and hmac go together")
	}
	if key := strings.TrimRight(a.EAB.HMAC.Value(), "="); key != "" {
		if _, err := base64.RawURLEncoding.DecodeString(key); err != nil {
			k.bad("tls.acme.eab.hmac", "base64url, as the authority gave it", "not a key")
		}
	}
	if len(k.c.Sites) == 0 {
		k.bad("tls.mode", "list a site with a host", "there is no name to get a certificate for")
	}
	for i, s := range k.c.Sites {
		if s.Host == "*" {
			k.bad(fmt.Sprintf("sites[%d].host", i), "name every host", `no authority gives a certificate for "*" by ACME`)
		}
	}
}

func (k *checker) file(field, path string) {
	if path == "" {
		k.bad(field, "", "missing key %q", field[strings.LastIndexByte(field, '.')+1:])
		return
	}
	if info, err := os.Stat(path); err != nil || info.IsDir() {
		k.bad(field, "paths are relative to "+k.dir, "no such file: %s", path)
	}
}

// engines refuses every engine that this build does not have. Nothing that was
// asked for is left out silently.
func (k *checker) engines() {
	c := k.c
	if s := c.Store.Value(); s != "sqlite" {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Host == "" {
			k.bad("store", "sqlite, or postgres://user@host/database", "not a store that this build has")
		}
	}
	only := func(field string, value Secret, has string) {
		if value.Value() != has {
			k.bad(field, "use "+has, "this build has %s only", has)
		}
	}
	only("relay", c.Relay, "none")
	only("keys.kek", c.Keys.KEK, "age")
	k.witnesses()
	if _, err := c.LedgerStorage(); err != nil {
		k.bad("ledger.storage", err.Error(), "not a storage that this build has")
	}
	if a := c.Ledger.Audit; a < time.Second || a > 24*time.Hour {
		k.bad("ledger.audit", "1s to 24h", "%s is out of range", a)
	}
	if e := c.Ledger.Epoch; e < time.Second || e > 24*time.Hour {
		k.bad("ledger.epoch", "1s to 24h", "%s is out of range", e)
	}
	if len(c.Identity.OIDC) > 0 {
		k.bad("identity.oidc", "leave the list empty: people sign in with passkeys", "this build does not ask OpenID Connect providers")
	}
	k.guards()
	k.logs()
	k.events()
}

func (k *checker) people() {
	if rp := k.c.Identity.RP; rp != "" && !hostForm.MatchString(rp) {
		k.bad("identity.rp", "such as land.example", "not a host name: %q", rp)
	}
	rp, _ := k.c.RelyingParty()
	for i, o := range k.c.Identity.Origins {
		field := fmt.Sprintf("identity.origins[%d]", i)
		u, err := url.Parse(o)
		if err != nil || u.Host == "" || u.Scheme+"://"+u.Host != o || u.Scheme != "https" && u.Hostname() != "localhost" {
			k.bad(field, "such as https://land.example", "not an origin that passkeys work on: %q", o)
			continue
		}
		if h := u.Hostname(); h != rp && !strings.HasSuffix(h, "."+rp) {
			k.bad(field, "passkeys are bound to identity.rp", "host %s is not %s or below it", h, rp)
		}
	}
}

func (k *checker) budgets() {
	seen := map[Budget]bool{}
	for i, b := range k.c.Access.Budgets {
		field := fmt.Sprintf("access.budgets[%d]", i)
		if b.Per != 0 && (b.Per < time.Minute || b.Per > 31*24*time.Hour) {
			k.bad(field+".per", "1m to 744h", "%s is out of range", b.Per)
		}
		key := Budget{Role: b.Role, Per: b.Per}
		if seen[key] {
			k.bad(field, "", "a second budget of role %s per %s", b.Role, b.Per)
		}
		seen[key] = true
	}
}

func (k *checker) site(path string, s *Site) {
	if s.Host != "" && s.Host != "*" && !hostForm.MatchString(s.Host) {
		k.bad(path+".host", `a name in lower case without port, or "*"`, "not a host: %q", s.Host)
	}
	if k.doc.Has(path+".upstream") && len(s.Upstream) == 0 {
		k.bad(path+".upstream", "", "want at least one address")
	}
	for i, raw := range s.Upstream {
		u, err := url.Parse(raw)
		if err != nil || !slices.Contains([]string{"http", "https", "h2c"}, u.Scheme) || u.Hostname() == "" ||
			u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
			k.bad(fmt.Sprintf("%s.upstream[%d]", path, i), "such as http://127.0.0.1:9000, without a path", "not the address of a service")
		}
	}
	k.upstreams(path, s)
	if s.Timeout <= 0 || s.Timeout > 10*time.Minute {
		k.bad(path+".timeout", "up to 10m", "%s is out of range", s.Timeout)
	}
	for i, f := range s.WAF.Custom {
		k.file(fmt.Sprintf("%s.waf.custom[%d]", path, i), f)
	}
	for i, f := range s.WAF.CustomAfter {
		k.file(fmt.Sprintf("%s.waf.custom_after[%d]", path, i), f)
	}
	k.exclusions(path+".waf.exclusions", s.WAF.Exclusions, s, false)
	if s.WAF.TestMarkers && !k.loopback() {
		k.bad(path+".waf.test_markers", "give listen a loopback address such as 127.0.0.1:8443, or remove it",
			"anyone who sends the header X-CRS-Test would get past the firewall")
	}
	k.attack(path+".attack", s.Attack)
	mux := http.NewServeMux()
	for i := range s.Routes {
		r := &s.Routes[i]
		k.queue(fmt.Sprintf("%s.routes[%d].queue", path, i), r)
		k.route(fmt.Sprintf("%s.routes[%d]", path, i), r, mux)
		k.exclusions(fmt.Sprintf("%s.routes[%d].waf.exclusions", path, i), r.WAF.Exclusions, s, true)
		if r.WAF.Mode != "" && s.WAF.Mode == "off" {
			k.bad(fmt.Sprintf("%s.routes[%d].waf.mode", path, i), "", "the site's firewall is off")
		}
	}
}

// loopback reports whether only this machine reaches the public listener.
func (k *checker) loopback() bool {
	host, _, err := net.SplitHostPort(k.c.Listen)
	ip, perr := netip.ParseAddr(host)
	return err == nil && perr == nil && ip.IsLoopback()
}

func (k *checker) route(path string, r *Route, mux *http.ServeMux) {
	if !k.pattern(path+".match", r, mux) {
		return
	}
	if r.Rate != nil && r.Rate.PerSecond <= 0 {
		k.bad(path+".rate.per_second", "more than 0", "nobody would get through")
	}
	from, name := r.SubjectSource()
	switch from {
	case FromPath:
		var wild []string
		for _, m := range wildcard.FindAllStringSubmatch(r.Match, -1) {
			if n := strings.TrimSuffix(m[1], "..."); n != "" && n != "$" {
				wild = append(wild, n)
			}
		}
		if !slices.Contains(wild, name) {
			k.bad(path+".subject", didYouMean(name, append(wild, "query.NAME", "form.NAME", "response")),
				"%q is not a wildcard of %q", name, r.Match)
		}
	case FromForm:
		if m := r.Method(); !slices.Contains([]string{"POST", "PUT", "PATCH"}, m) {
			k.bad(path+".subject", "begin match with POST", "a form is sent with POST, PUT or PATCH only")
		}
	}
	if (from == FromForm || from == FromQuery) && name == "" {
		k.bad(path+".subject", "", "%s lacks a name", r.Subject)
	}
	if from != FromNowhere && r.SignIn == "none" {
		k.bad(path+".signin", "citizen, officer, …", "the route shows a citizen's data: it cannot be open to everybody")
	}
	staff := r.SignIn != "none" && r.SignIn != string(pasban.RoleCitizen) && r.SignIn != ""
	if from != FromNowhere && staff && len(r.Purposes) == 0 {
		k.bad(path+".purposes", "such as purposes: [mutation]", "a route on which staff see a citizen's data needs purposes to choose from")
	}
	for i, p := range r.Purposes {
		if !nameForm.MatchString(p) || slices.Contains(r.Purposes[:i], p) {
			k.bad(fmt.Sprintf("%s.purposes[%d]", path, i), "lower-case letters, digits, - and _, each once", "not a new purpose: %q", p)
		}
	}
}

// pattern checks the route's pattern alone and beside those before it, as the
// gateway's own multiplexer will.
func (k *checker) pattern(field string, r *Route, mux *http.ServeMux) (ok bool) {
	if r.Match == "" {
		return false // reported as missing
	}
	method, path, found := strings.Cut(r.Match, " ")
	if !found {
		method, path = "", r.Match
	}
	if methods := knownMethods(); method != "" && !slices.Contains(methods, method) {
		k.bad(field, didYouMean(method, methods), "unknown method %q", method)
		return false
	}
	path = strings.TrimLeft(path, " \t")
	if !strings.HasPrefix(path, "/") {
		k.bad(field, "the site has the host", "the path of a pattern begins with /, got %q", path)
		return false
	}
	if Owns(path) {
		k.bad(field, "the application cannot be reached there; see docs/decisions/0008", "%s is Pasban's own", path)
		return false
	}
	defer func() {
		if p := recover(); p != nil { // how ServeMux reports a bad pattern
			k.bad(field, "", "%s", muxMessage(p))
			ok = false
		}
	}()
	mux.HandleFunc(r.Match, func(http.ResponseWriter, *http.Request) {})
	return true
}

func knownMethods() []string {
	return []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
}

var registeredAt = regexp.MustCompile(` \(registered at [^)]*\)`)

// muxMessage shortens ServeMux's panic to what an operator can use.
func muxMessage(p any) string {
	text := registeredAt.ReplaceAllString(fmt.Sprint(p), "")
	if i := strings.Index(text, "conflicts with pattern"); i >= 0 {
		text = text[i:]
		text, why, _ := strings.Cut(text, ":\n")
		return text + ": " + strings.Join(strings.Fields(why), " ")
	}
	return text
}
