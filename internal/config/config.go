// Package config reads what operators write: pasban.yaml into one documented
// struct, and, with the same strict decoder, the service and rule files of
// other rooms.
//
// # Data flow
//
// [Load] parses the YAML with the positions of everything in it, decodes it
// strictly into [Config] (unknown keys are problems that name the nearest
// valid key), resolves secrets and relative paths, and checks what a type
// cannot say: that route patterns do not conflict, that a route which shows a
// citizen's data names that citizen, that a table which nobody watches is not
// listed as guarded. [Schema] gives the JSON Schema for editors, with the
// comments of this file as its descriptions.
//
// # Guarantees
//
// Every problem is reported, with file:line:col, not only the first. A value
// that this build cannot honour is refused; nothing is accepted and ignored.
// Decoding never panics on any input. A returned Config is complete: defaults
// are filled in, paths are absolute, secrets are resolved.
//
// # What this package must never do
//
// Open a listener or a database, change a file, or let a secret into an error,
// a log line or the schema's examples.
package config

import (
	"cmp"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pasban"
)

// Config is pasban.yaml. Load returns it complete: defaults filled in, paths
// absolute, secrets resolved.
type Config struct {
	// Agency says whose node this is.
	Agency Agency `yaml:"agency" required:"true"`
	// Data is the directory that holds everything the node keeps; it can be
	// stopped, copied and started elsewhere.
	Data string `yaml:"data" default:"./data"`
	// Listen is the public address, host:port; an empty host means every
	// address of the machine.
	Listen string `yaml:"listen" default:":8443"`
	// Admin is the address of /healthz, /readyz and /metrics. It is never
	// public: a host must be given.
	Admin string `yaml:"admin" default:"127.0.0.1:9443"`
	// TLS says where the public listener's certificate comes from.
	TLS TLS `yaml:"tls"`
	// HTTP3 has the node answer HTTP/3 too, on the UDP port of the same number
	// as listen, and tell browsers so (RFC 9114). Needs TLS.
	HTTP3 bool `yaml:"http3" default:"false"`
	// Proxies are the networks of the proxies and balancers in front of this node
	// that are trusted to say whom they ask for: CIDR prefixes or addresses.
	// Without this key nobody is, but for the balancer of tls.mode off, which is
	// any neighbour with a private address.
	Proxies []string `yaml:"proxies"`
	// ClientAddress is where trusted proxies write the visitor's address:
	// x-forwarded-for (the right-most address that is not a trusted proxy's),
	// forwarded (RFC 7239, likewise) or proxy-protocol (version 1 or 2, before
	// TLS). Only that one is read: proxies pass on what they do not know.
	ClientAddress string `yaml:"client_address" enum:"x-forwarded-for|forwarded|proxy-protocol" default:"x-forwarded-for"`
	// AccessLog is the form of data/log/access.log: combined (as Apache and nginx
	// write it, with the request's id and times added), json, or off.
	AccessLog string `yaml:"access_log" enum:"off|combined|json" default:"combined"`
	// Traces says where OpenTelemetry traces go.
	Traces Traces `yaml:"traces"`
	// Store is "sqlite" (a file under data) or a postgres:// address. Secret:
	// file:PATH and ${ENV} are allowed.
	Store Secret `yaml:"store" default:"sqlite"`
	// Relay says where the journal is fanned out to: "none".
	Relay Secret `yaml:"relay" default:"none"`
	// Events says where events are kept for hunting.
	Events Events `yaml:"events"`
	// Keys says where keys come from.
	Keys Keys `yaml:"keys"`
	// Ledger is the public log of accountable facts.
	Ledger Ledger `yaml:"ledger"`
	// Witness has this node watch the ledgers of others.
	Witness Witness `yaml:"witness"`
	// Identity says how people sign in.
	Identity Identity `yaml:"identity"`
	// Access bounds what policies allow.
	Access Access `yaml:"access"`
	// Limits bound what one client may ask of the public listener.
	Limits Limits `yaml:"limits"`
	// Sites are the existing services that Pasban stands in front of.
	Sites []Site `yaml:"sites"`
	// Guard lists tables of existing services for the sentinel to watch.
	Guard []GuardedTable `yaml:"guard"`
	// Logs says which logs of other machines are received.
	Logs Logs `yaml:"logs"`
	// Services are the files of declared services; patterns as of Go's
	// path/filepath.Match. Without this key: services/*.yaml, where there are any.
	Services []string `yaml:"services"`
	// Policies are the files of Cedar policies; patterns likewise. Without this
	// key: policies/*.cedar, where there are any. Without a policy everything
	// that is guarded is denied.
	Policies []string `yaml:"policies"`
	// Rules are the folders of Sigma rules. Without this key: rules, where it is.
	Rules []string `yaml:"rules"`

	// File is the absolute path of the file that this was read from.
	File string `yaml:"-"`
}

// Text is a text in both languages that citizens are served in.
type Text struct {
	// En is the text in English.
	En string `yaml:"en" required:"true" json:"en"`
	// Ur is the text in Urdu.
	Ur string `yaml:"ur" required:"true" json:"ur"`
}

// In returns the text in the given language, English unless it is "ur".
func (t Text) In(lang string) string {
	if lang == "ur" {
		return t.Ur
	}
	return t.En
}

// Agency is the body that is accountable for this node.
type Agency struct {
	// ID names the agency in every fact: lower-case letters, digits and hyphens.
	ID string `yaml:"id" required:"true"`
	// Name is what people read.
	Name Text `yaml:"name" required:"true"`
}

// TLS says where the public listener's certificate comes from.
type TLS struct {
	// Mode is local (a certificate authority of its own under data, for
	// development), acme (from an authority that speaks ACME, RFC 8555), files,
	// or off (plain HTTP, behind a terminating balancer).
	Mode string `yaml:"mode" enum:"local|acme|files|off" default:"local"`
	// Cert is the PEM file of the certificate chain, with mode files.
	Cert string `yaml:"cert"`
	// Key is the PEM file of the private key, with mode files.
	Key string `yaml:"key"`
	// ACME says from which authority certificates come, with mode acme.
	ACME ACME `yaml:"acme"`
	// HTTP is the address of a plain listener, host:port, such as ":80", that
	// sends visitors to https and, with mode acme, answers HTTP-01 challenges.
	// Without it there is none.
	HTTP string `yaml:"http"`
}

// ACME is an authority that gives certificates to whoever controls a name
// (RFC 8555): one for each host of the sites.
type ACME struct {
	// Directory is the address of the authority's directory.
	Directory string `yaml:"directory" default:"https://acme-v02.api.letsencrypt.org/directory"`
	// Email is where the authority may write to about the account.
	Email string `yaml:"email"`
	// CAFile is a PEM file of the roots to trust for the directory itself, for
	// an authority of the agency's own. Without it: those of the machine.
	CAFile string `yaml:"ca_file"`
	// EAB binds the account to one that the authority knows already (RFC 8555,
	// section 7.3.4), for authorities that ask for it.
	EAB EAB `yaml:"eab"`
	// Agree says that you have read the authority's terms of service and agree.
	Agree bool `yaml:"agree"`
}

// EAB is an external account binding.
type EAB struct {
	// KID is the key's identifier, as the authority gave it.
	KID string `yaml:"kid"`
	// HMAC is the key, base64url as the authority gave it. Secret: file:PATH
	// and ${ENV} are allowed.
	HMAC Secret `yaml:"hmac"`
}

// Keys says where keys come from.
type Keys struct {
	// KEK is the key-encryption key: "age", a file sealed with an age identity.
	// PKCS#11 and OpenBao are not in this build.
	KEK Secret `yaml:"kek" default:"age"`
	// Identity is the age identity file that opens data/keys. Without it the
	// node makes one there; keep it elsewhere so that a copy of data is not enough.
	Identity string `yaml:"identity"`
}

// Ledger is the public log of accountable facts.
type Ledger struct {
	// Origin names the log in every checkpoint and promise, for ever: a name
	// without scheme, such as land.example/ledger. Without it: the agency's id
	// followed by /ledger.
	Origin string `yaml:"origin"`
	// Storage is where the log's files are. posix: under data/ledger.
	// mysql://USER:PASSWORD@HOST/DATABASE: in a MySQL or MariaDB database.
	// s3://BUCKET/PREFIX?mysql=mysql://…: in an object store, with a database that
	// keeps the order of what is not yet there; region= and endpoint= before
	// mysql= say which store, where the environment does not. Secret: file:PATH and
	// ${ENV} are resolved. docs/OPERATING.md tells how to choose and how to move.
	Storage Secret `yaml:"storage" default:"posix"`
	// Audit is the pause between audits, which rehash every file of the log and
	// restore what was changed from the journal.
	Audit time.Duration `yaml:"audit" default:"1m"`
	// Epoch is how often the ends of all citizens' lists are committed to the
	// log, if any has changed, so that a list can be shown to be whole.
	Epoch time.Duration `yaml:"epoch" default:"1m"`
	// Witnesses cosign checkpoints.
	Witnesses Witnesses `yaml:"witnesses"`
}

// Identity says how people sign in.
type Identity struct {
	// RP is the host that passkeys are bound to (WebAuthn's relying party id).
	// Without it: the host of the first site that has one, else localhost.
	// Changing it makes every passkey useless.
	RP string `yaml:"rp"`
	// Origins are the addresses from which people sign in, such as
	// https://land.example. Without it: https, that host and the port of listen.
	Origins []string `yaml:"origins"`
	// OIDC are national identity providers. Not in this build: must be empty.
	OIDC []OIDC `yaml:"oidc"`
}

// OIDC is one OpenID Connect provider.
type OIDC struct {
	// Name is what people read on the button.
	Name Text `yaml:"name" required:"true"`
	// Issuer is the provider's address.
	Issuer string `yaml:"issuer" required:"true"`
	// ClientID is the node's id at the provider.
	ClientID string `yaml:"client_id" required:"true"`
	// ClientSecret is the node's secret at the provider. Secret: file:PATH and
	// ${ENV} are allowed.
	ClientSecret Secret `yaml:"client_secret"`
}

// Access bounds what policies allow.
type Access struct {
	// Budgets bound how many different citizens one person may look at. Without
	// this key: 50 an hour for officers, 100 an hour for supervisors.
	Budgets []Budget `yaml:"budgets"`
}

// Budget bounds how many different citizens one person of a role may look at
// in a window of time. Looking at the same citizen again costs nothing.
type Budget struct {
	// Role is the role that the budget is for.
	Role pasban.Role `yaml:"role" required:"true" enum:"officer|supervisor|analyst|auditor|admin"`
	// Subjects is how many different citizens.
	Subjects int `yaml:"subjects" required:"true" min:"1" max:"1000000"`
	// Per is the length of the sliding window.
	Per time.Duration `yaml:"per" required:"true"`
}

// Limits bound what one client may ask of the public listener.
type Limits struct {
	// Rate bounds the requests of one client address (IPv6: a /64). A request
	// takes one token, and more after it was answered if it made much work: one
	// for each 16 KiB of body and each 50 ms in which the gateway was busy with
	// it. The networks that the client is in have buckets of their own: an IPv4
	// /24 has 32 times, an IPv6 /56 4 times and a /48 16 times as much.
	Rate Rate `yaml:"rate"`
	// Body is the largest request body, in bytes.
	Body int64 `yaml:"body" default:"1048576" min:"1024" max:"1073741824"`
	// Header is the largest request header, in bytes.
	Header int `yaml:"header" default:"32768" min:"4096" max:"1048576"`
	// Parameters is how many parameters query and form of a request may have
	// together. The firewall reads no more than 999.
	Parameters int `yaml:"parameters" default:"999" min:"1" max:"999"`
	// Depth is how deep JSON and XML in a request's body may be nested.
	Depth int `yaml:"depth" default:"64" min:"1" max:"500"`
	// Connections is how many connections are held open at once.
	Connections int `yaml:"connections" default:"4096" min:"1" max:"1000000"`
	// ConnectionsPerClient is how many of them one client address (IPv6: a /64)
	// may hold. The networks that it is in may hold more: an IPv4 /24 32 times, an
	// IPv6 /56 4 times and a /48 16 times as many, and half of all at most. Not
	// used for connections of proxies, and with tls: off and none named, where
	// all come from the balancer.
	ConnectionsPerClient int `yaml:"connections_per_client" default:"128" min:"1" max:"1000000"`
	// Handshakes bounds the new connections of one client address; its networks
	// may make 32, 4 and 16 times as many likewise. Not used for proxies either.
	Handshakes Handshakes `yaml:"handshakes"`
	// Allow are addresses and CIDRs that no limit and no list holds back, such as
	// other agencies' gateways. The firewall inspects them all the same.
	Allow []string `yaml:"allow"`
	// Block are addresses and CIDRs that are refused.
	Block []string `yaml:"block"`
	// BlockFiles are files of those, such as a threat feed: one a line, # and ;
	// begin a comment. They are read again when they change.
	BlockFiles []string `yaml:"block_files"`
	// Countries says which countries' addresses are let in.
	Countries Countries `yaml:"countries"`
	// Shared is the PostgreSQL database (a postgres:// address) through which the
	// gateways before the same services hold a client to one rate together and
	// tell each other who makes a flood. auto takes the store's database if that
	// is PostgreSQL, and otherwise shares nothing, as off does.
	Shared Secret `yaml:"shared" default:"auto"`
}

// Countries says which countries' addresses are let in. Where an address is
// can only be guessed: people travel, and attackers rent servers anywhere.
type Countries struct {
	// File is a MaxMind DB (.mmdb) with country.iso_code. It is read again when
	// it changes.
	File string `yaml:"file"`
	// Allow are the only countries that are let in (ISO 3166-1 alpha-2, such as
	// PK). Public addresses that the file does not know are not.
	Allow []string `yaml:"allow"`
	// Block are countries that are refused.
	Block []string `yaml:"block"`
}

// Handshakes is a token bucket of new connections.
type Handshakes struct {
	// PerSecond is how many new connections a second are let through for long.
	PerSecond float64 `yaml:"per_second" default:"50" min:"0"`
	// Burst is how many are let through at once.
	Burst int `yaml:"burst" default:"200" min:"1"`
}

// Rate is a token bucket.
type Rate struct {
	// PerSecond is how many requests a second are let through for long.
	PerSecond float64 `yaml:"per_second" default:"20" min:"0"`
	// Burst is how many are let through at once.
	Burst int `yaml:"burst" default:"60" min:"1"`
}

// Site is one existing service that Pasban stands in front of.
type Site struct {
	// Host is the host name that the site is asked for by, without port; "*" is
	// the site for any other host.
	Host string `yaml:"host" required:"true"`
	// Name is what people call the service. Without it: the host, or the
	// agency's name for "*".
	Name *Text `yaml:"name"`
	// Upstream are the addresses of the service: http, https, or h2c (HTTP/2
	// without TLS, as gRPC services speak it).
	Upstream []string `yaml:"upstream" required:"true"`
	// Balance says which upstream a request goes to: round_robin (in turn),
	// least_requests (fewest under way), random_two (the less busy one of two
	// drawn at random) or client (the same one for the same client address).
	Balance string `yaml:"balance" default:"round_robin" enum:"round_robin|least_requests|random_two|client"`
	// Health asks the upstreams at intervals whether they can serve. Without it
	// only requests tell.
	Health *Health `yaml:"health"`
	// UpstreamTLS says how https upstreams prove who they are.
	UpstreamTLS UpstreamTLS `yaml:"upstream_tls"`
	// Timeout is how long the service may take to begin its answer.
	Timeout time.Duration `yaml:"timeout" default:"30s"`
	// Concurrency is how many requests the service is asked at once at most.
	// Below that the gateway finds by itself what the service can do.
	Concurrency int `yaml:"concurrency" default:"1000" min:"1" max:"100000"`
	// ConcurrencyFloor is how many requests the service is asked at once whatever
	// was measured: for a service that holds requests on purpose, as long polling does.
	ConcurrencyFloor int `yaml:"concurrency_floor" default:"4" min:"1" max:"100000"`
	// WAF is the firewall in front of the site.
	WAF WAF `yaml:"waf"`
	// Attack says what happens while the site is flooded.
	Attack Attack `yaml:"attack"`
	// Routes are the requests that are let through; every other is refused.
	Routes []Route `yaml:"routes" required:"true"`
}

// WAF is the web application firewall in front of a site: the OWASP Core Rule Set.
type WAF struct {
	// Paranoia is the Core Rule Set's paranoia level.
	Paranoia int `yaml:"paranoia" default:"1" min:"1" max:"4"`
	// Mode is block, detect (every rule runs, nothing is blocked) or off.
	Mode string `yaml:"mode" default:"block" enum:"block|detect|off"`
	// Custom are files of own rules, read before the Core Rule Set.
	Custom []string `yaml:"custom"`
	// CustomAfter are files of own rules, read after the Core Rule Set.
	CustomAfter []string `yaml:"custom_after"`
	// Letters are the scripts, besides Latin, whose letters the firewall takes
	// for letters: [Arab] (ISO 15924), which Urdu is written in. Without this
	// key: [Arab]. With [] the Core Rule Set reads an alef as an apostrophe, and
	// honest Urdu as SQL.
	Letters []string `yaml:"letters" enum:"Arab"`
	// Exclusions are the false alarms that the firewall is told to leave alone,
	// each with a reason and an end.
	Exclusions []Exclusion `yaml:"exclusions"`
	// TestMarkers has requests with the header X-CRS-Test pass unseen and leave
	// a line in the log, as the Core Rule Set's own test tool wants it. Anyone
	// who sends the header gets past the rules: only with a loopback address in
	// listen.
	TestMarkers bool `yaml:"test_markers"`
}

// RouteWAF is what is different about the firewall on one route.
type RouteWAF struct {
	// Mode is detect (every rule runs, nothing is blocked), or empty for what
	// the site has.
	Mode string `yaml:"mode" enum:"detect"`
	// Exclusions are those of this route alone.
	Exclusions []Exclusion `yaml:"exclusions"`
}

// Exclusion tells the firewall of a false alarm: certain rules do not look at
// a part of certain requests, or not at all, until a day.
type Exclusion struct {
	// Rules are ids, or ranges of ids within one thousand, such as 942100-942199.
	Rules []RuleRange `yaml:"rules"`
	// Tag stands for every rule that has it, such as attack-sqli. Rules or a
	// tag: one of them.
	Tag string `yaml:"tag"`
	// Target is the part of the request that the rules do not look at, such as
	// ARGS:note (a parameter, however it is sent), REQUEST_HEADERS:Referer,
	// REQUEST_COOKIES:lang or REQUEST_BODY. Letter case of the name after the
	// colon does not matter. Without it the rules do not run.
	Target string `yaml:"target"`
	// Route is the match of one of the site's routes, letter by letter. Without
	// it: every request to the site's host, Pasban's own pages included.
	Route string `yaml:"route"`
	// Method is the request's method, where the route takes several.
	Method string `yaml:"method"`
	// Reason says why it is a false alarm.
	Reason string `yaml:"reason" required:"true"`
	// Expires is the day (UTC) at whose beginning the exclusion stops working by
	// itself. Warned about from fourteen days before.
	Expires string `yaml:"expires" required:"true"`
}

// Attack says what happens while a site is flooded: under attack mode only
// visitors who hold an earned pass, who are signed in or who bear a token get
// through; the others are asked to do a small work, or to wait.
type Attack struct {
	// Start is auto (the mode starts by itself when most requests must be turned
	// away, and analysts can start it) or hand (only analysts start it).
	Start string `yaml:"start" enum:"auto|hand" default:"auto"`
	// Tokens let programs through: whoever sends one in the header Pasban-Token is
	// asked for no work and does not wait. At least 20 characters each. Secret:
	// file:PATH and ${ENV} are allowed.
	Tokens []Secret `yaml:"tokens"`
}

// Queue is a waiting room in front of a route, for honest surges: visitors
// come in in the order in which they came.
type Queue struct {
	// Admit is how many visitors a second come in; 0.5 is one every two seconds.
	Admit float64 `yaml:"admit" required:"true"`
	// Stay is how long someone who came in may be away from the route before they
	// wait again.
	Stay time.Duration `yaml:"stay" default:"10m"`
}

// Route is a kind of request that a site lets through, and how it is accounted for.
type Route struct {
	// Match is a pattern of Go's http.ServeMux without a host, such as
	// "GET /records/{cnic}". The most specific pattern wins.
	Match string `yaml:"match" required:"true"`
	// SignIn says who may come here at all: none (everybody), citizen, officer
	// (supervisors too), supervisor, analyst, auditor or admin. Policies decide
	// the rest.
	SignIn string `yaml:"signin" required:"true" enum:"none|citizen|officer|supervisor|analyst|auditor|admin"`
	// Subject says where the citizen is named whose data the route shows: a
	// wildcard of match, query.NAME, form.NAME, or response (every CNIC in the
	// answer is one). Without it the route shows nobody's data.
	Subject string `yaml:"subject"`
	// Action is what is done to the citizen's data. Without it: view for GET and
	// HEAD, change otherwise.
	Action string `yaml:"action" enum:"view|list|create|change|approve"`
	// Essential says that the route goes on when there is not room for all: a
	// signed-in citizen or a visitor with an earned pass goes first there, and a
	// stranger goes before strangers elsewhere.
	Essential bool `yaml:"essential"`
	// Rate bounds the requests of one client address for this route, besides
	// limits.rate: for what is costly, or what sends messages.
	Rate *Rate `yaml:"rate"`
	// Purposes are the reasons of which an officer must give one, with a case.
	Purposes []string `yaml:"purposes"`
	// Basis is the law that allows it, as the citizen is told it.
	Basis string `yaml:"basis"`
	// Fields are the names of what the page shows of the citizen, as the citizen
	// is told them.
	Fields []string `yaml:"fields"`
	// WAF is what is different about the firewall on this route.
	WAF RouteWAF `yaml:"waf"`
	// Queue puts a waiting room in front of the route.
	Queue *Queue `yaml:"queue"`
}

// SubjectFrom says where a route's citizen is named.
type SubjectFrom string

const (
	FromNowhere  SubjectFrom = ""         // the route shows nobody's data
	FromPath     SubjectFrom = "path"     // a wildcard of the pattern
	FromQuery    SubjectFrom = "query"    // a parameter of the query
	FromForm     SubjectFrom = "form"     // a field of the form that is sent
	FromResponse SubjectFrom = "response" // every CNIC in the answer
)

// SubjectSource returns where the route's citizen is named, and the name of
// the wildcard, parameter or field there.
func (r Route) SubjectSource() (from SubjectFrom, name string) {
	switch {
	case r.Subject == "":
		return FromNowhere, ""
	case r.Subject == string(FromResponse):
		return FromResponse, ""
	}
	if name, ok := strings.CutPrefix(r.Subject, "query."); ok {
		return FromQuery, name
	}
	if name, ok := strings.CutPrefix(r.Subject, "form."); ok {
		return FromForm, name
	}
	return FromPath, r.Subject
}

// Admits reports whether someone signed in with the role may come to the route
// at all; role "" is a visitor who is not signed in. Supervisors may come
// where officers may.
func (r Route) Admits(role pasban.Role) bool {
	switch r.SignIn {
	case "none":
		return true
	case string(pasban.RoleOfficer):
		return role == pasban.RoleOfficer || role == pasban.RoleSupervisor
	}
	return r.SignIn != "" && r.SignIn == string(role)
}

// Method returns the method that the pattern names, "" if it takes any.
func (r Route) Method() string {
	method, _, ok := strings.Cut(r.Match, " ")
	if !ok {
		return ""
	}
	return method
}

// Does returns the route's action, by its method if none is written.
func (r Route) Does() string {
	if r.Action != "" {
		return r.Action
	}
	if m := r.Method(); m == http.MethodGet || m == http.MethodHead {
		return "view"
	}
	return "change"
}

// Kind returns the kind of fact that the route's requests are.
func (r Route) Kind() pasban.Kind {
	if a := r.Does(); a == "view" || a == "list" {
		return pasban.KindLook
	}
	return pasban.KindChange
}

// OwnPaths are the paths that are Pasban's on every host. Those that end in a
// slash stand for everything below them too.
func OwnPaths() []string {
	return []string{
		"/en/", "/ur/", "/desk", "/desk/", "/soc", "/soc/", "/trust", "/trust/", "/ledger/", "/pasban/",
		"/api/openapi.json", "/api/v1/", "/taxii2/", "/.well-known/security.txt", "/.well-known/pasban.json",
	}
}

// Owns reports whether a request's path is Pasban's own on every host.
func Owns(path string) bool {
	return slices.ContainsFunc(OwnPaths(), func(own string) bool {
		return path == own || strings.HasSuffix(own, "/") && strings.HasPrefix(path, own)
	})
}

// StoreDSN returns what the store is opened with: a file under data, or a
// postgres:// address, which may hold a password.
func (c *Config) StoreDSN() string {
	if c.Store == "sqlite" {
		return filepath.Join(c.Data, "store.db")
	}
	return c.Store.Value()
}

// SharedLimits returns the address of the database of limits.shared, "" if
// nothing is shared. It may hold a password.
func (c *Config) SharedLimits() string {
	switch c.Limits.Shared {
	case "", "off":
		return ""
	case "auto":
		if c.Store == "sqlite" {
			return ""
		}
		return c.Store.Value()
	}
	return c.Limits.Shared.Value()
}

// RelyingParty returns the host that passkeys are bound to and the origins
// from which people sign in.
func (c *Config) RelyingParty() (id string, origins []string) {
	id = c.Identity.RP
	for _, s := range c.Sites {
		if id == "" && s.Host != "*" {
			id = s.Host
		}
	}
	id = cmp.Or(id, "localhost")
	if len(c.Identity.Origins) > 0 {
		return id, c.Identity.Origins
	}
	u := url.URL{Scheme: "https", Host: id}
	if _, port, err := net.SplitHostPort(c.Listen); err == nil && port != "443" && port != "0" {
		u.Host = net.JoinHostPort(id, port)
	}
	return id, []string{u.String()}
}
