package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/durable"
)

// acmeSettings are what a configuration says of certificates by ACME.
type acmeSettings struct {
	config.ACME
	roots *x509.CertPool // for the directory; nil: those of the machine
	hosts []string       // who needs a certificate, sorted
	main  string         // whose certificate clients get that name no host
}

// acmeSettingsOf reads them; nil if the mode is another.
func acmeSettingsOf(c *config.Config) (*acmeSettings, error) {
	if c.TLS.Mode != tlsACME {
		return nil, nil
	}
	s := &acmeSettings{ACME: c.TLS.ACME}
	for _, site := range c.Sites {
		s.hosts = append(s.hosts, site.Host)
	}
	if len(s.hosts) == 0 || slices.Contains(s.hosts, "*") {
		return nil, &pasban.Error{Kind: pasban.Invalid, Msg: "tls mode acme needs the name of every host", Hint: `name every site's host; "*" gets no certificate`}
	}
	s.main = s.hosts[0]
	slices.Sort(s.hosts)
	if s.CAFile == "" {
		return s, nil
	}
	text, err := os.ReadFile(s.CAFile)
	if err == nil {
		if s.roots = x509.NewCertPool(); !s.roots.AppendCertsFromPEM(text) {
			err = errors.New("no certificate in it")
		}
	}
	if err != nil {
		return nil, &pasban.Error{Kind: pasban.Invalid, Msg: "the roots for the ACME directory are not usable", Where: s.CAFile, Err: err,
			Hint: "tls.acme.ca_file is a PEM file of certificates"}
	}
	return s, nil
}

// acmeSource gets and renews certificates (RFC 8555). What it has lies under
// data/acme and is used at the next start, whether the authority answers or
// not. A host without certificate is tried again, at first after a minute, at
// last every six hours; handshakes for it fail until then.
type acmeSource struct {
	log     *zap.Logger
	storage certmagic.Storage
	cache   *certmagic.Cache
	config  atomic.Pointer[certmagic.Config] // nil until start
	issuer  atomic.Pointer[certmagic.ACMEIssuer]
	changed func(host string, err error) // a certificate was obtained (nil) or could not be

	mu       sync.Mutex // covers everything below
	ctx      context.Context
	cancel   context.CancelFunc // ends the orders under way
	host     string             // address of the public listener
	port     int
	plain    int // port of the plain listener, 0 for none
	hosts    []string
	failures map[string]error // last failure of the hosts whose last try failed
}

func newACME(dir string, changed func(host string, err error)) (*acmeSource, error) {
	if err := durable.MkdirAll(dir, durable.DirMode); err != nil {
		return nil, &pasban.Error{Kind: pasban.Unavailable, Msg: "the directory for certificates cannot be made", Where: dir, Err: err}
	}
	a := &acmeSource{log: zap.New(zapToSlog{}), storage: &certmagic.FileStorage{Path: dir}, changed: changed, failures: map[string]error{}}
	a.cache = certmagic.NewCache(certmagic.CacheOptions{Logger: a.log,
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return a.config.Load(), nil }})
	return a, nil
}

// start begins to answer for the settings' hosts. The listeners must be open:
// the authority will connect to them.
func (a *acmeSource) start(ctx context.Context, s *acmeSettings, public, plain net.Addr) {
	a.mu.Lock()
	a.ctx = ctx
	if addr, ok := public.(*net.TCPAddr); ok {
		a.port = addr.Port
		if !addr.IP.IsUnspecified() {
			a.host = addr.IP.String()
		}
	}
	if addr, ok := plain.(*net.TCPAddr); ok {
		a.plain = addr.Port
	}
	a.mu.Unlock()
	a.apply(s)
}

// apply takes other settings; before start it does nothing. Certificates of
// hosts that are no longer there are forgotten, but stay on disk.
func (a *acmeSource) apply(s *acmeSettings) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ctx == nil {
		return
	}
	if a.cancel != nil {
		a.cancel()
	}
	var ctx context.Context
	ctx, a.cancel = context.WithCancel(a.ctx)
	conf := certmagic.New(a.cache, certmagic.Config{Storage: a.storage, Logger: a.log, DefaultServerName: s.main, OnEvent: a.event})
	issuer := certmagic.ACMEIssuer{
		CA: s.Directory, Email: s.Email, Agreed: s.Agree, TrustedRoots: s.roots, Logger: a.log,
		ListenHost: a.host, AltTLSALPNPort: a.port, AltHTTPPort: a.plain, DisableHTTPChallenge: a.plain == 0,
	}
	if s.EAB.KID != "" {
		issuer.ExternalAccount = &acme.EAB{KeyID: s.EAB.KID, MACKey: s.EAB.HMAC.Value()}
	}
	iss := certmagic.NewACMEIssuer(conf, issuer)
	conf.Issuers = []certmagic.Issuer{iss}
	a.config.Store(conf)
	a.issuer.Store(iss)
	for _, host := range a.hosts {
		if !slices.Contains(s.hosts, host) {
			delete(a.failures, host)
			a.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: host}})
		}
	}
	a.hosts = s.hosts
	conf.ManageAsync(ctx, s.hosts) // its errors come as events
}

// close ends orders and renewals.
func (a *acmeSource) close() {
	a.mu.Lock()
	if a.cancel != nil {
		a.cancel()
	}
	a.mu.Unlock()
	a.cache.Stop()
}

// event notes what became of an order.
func (a *acmeSource) event(_ context.Context, name string, data map[string]any) error {
	host, _ := data["identifier"].(string)
	switch name {
	case "cert_failed":
		err, _ := data["error"].(error)
		if err == nil {
			err = errors.New("the authority gave no reason")
		}
		if errors.Is(err, context.Canceled) {
			return nil
		}
		a.mu.Lock()
		a.failures[host] = err
		a.mu.Unlock()
		a.changed(host, err)
	case "cert_obtained":
		a.mu.Lock()
		delete(a.failures, host)
		a.mu.Unlock()
		a.changed(host, nil)
	}
	return nil
}

// certificate is the one for the host that a client asks for, or the proof
// for the authority that asks for one (TLS-ALPN-01, RFC 8737).
func (a *acmeSource) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	conf := a.config.Load()
	if conf == nil {
		return nil, errors.New("not serving yet")
	}
	return conf.GetCertificate(hello)
}

// leaf is the certificate that a host is served with, nil without one, and
// why the last try to get one failed.
func (a *acmeSource) leaf(host string) (*x509.Certificate, error) {
	a.mu.Lock()
	err := a.failures[host]
	a.mu.Unlock()
	var best *x509.Certificate
	for _, c := range a.cache.AllMatchingCertificates(host) {
		if best == nil || c.Leaf.NotAfter.After(best.NotAfter) {
			best = c.Leaf
		}
	}
	return best, err
}

// challenge answers HTTP-01 challenges (RFC 8555, section 8.3) and passes on
// the rest.
func (a *acmeSource) challenge(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if iss := a.issuer.Load(); iss != nil && iss.HandleHTTPChallenge(w, r) {
			return
		}
		next.ServeHTTP(w, r)
	})
}

// acmeProtocol is the protocol that an authority's challenge is made in.
const acmeProtocol = acmez.ACMETLS1Protocol

// zapToSlog writes certmagic's log lines where all others go.
type zapToSlog struct{ attrs []slog.Attr }

var _ zapcore.Core = zapToSlog{}

func level(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	case l == zapcore.InfoLevel:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// Enabled implements zapcore.LevelEnabler.
func (c zapToSlog) Enabled(l zapcore.Level) bool {
	return slog.Default().Enabled(context.Background(), level(l))
}

// With implements zapcore.Core.
func (c zapToSlog) With(fields []zapcore.Field) zapcore.Core {
	return zapToSlog{append(slices.Clip(c.attrs), attrsOf(fields)...)}
}

// Check implements zapcore.Core.
func (c zapToSlog) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c zapToSlog) Write(e zapcore.Entry, fields []zapcore.Field) error {
	slog.LogAttrs(context.Background(), level(e.Level), "certificates: "+e.Message, append(slices.Clip(c.attrs), attrsOf(fields)...)...)
	return nil
}

// Sync implements zapcore.Core.
func (zapToSlog) Sync() error { return nil }

func attrsOf(fields []zapcore.Field) []slog.Attr {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	var attrs []slog.Attr
	for k, v := range enc.Fields {
		attrs = append(attrs, slog.Any(k, v))
	}
	slices.SortFunc(attrs, func(a, b slog.Attr) int { return strings.Compare(a.Key, b.Key) })
	return attrs
}
