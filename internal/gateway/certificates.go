package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pasban"
)

// How certificates are watched.
const (
	certEvery = time.Hour           // how often
	certSoon  = 14 * 24 * time.Hour // what ends sooner is an alarm; of short-lived ones, the last quarter
	certAgain = 24 * time.Hour      // the same alarm is not raised more often
)

// Certificate says how one host is served.
type Certificate struct {
	Host     string    `json:"host"`               // as the config names it
	Issuer   string    `json:"issuer,omitempty"`   // common name, "" without a certificate
	NotAfter time.Time `json:"not_after,omitzero"` // zero without a certificate
	Problem  string    `json:"problem,omitempty"`  // why visitors cannot be served with it
	Warning  string    `json:"warning,omitempty"`  // what will become a problem
}

// Certificates says how each site's host is served; nothing with tls: off.
func (g *Gateway) Certificates() []Certificate {
	st := g.state.Load()
	if st.certificate == nil {
		return nil
	}
	var all []Certificate
	for _, s := range st.config.Sites {
		leaf, err := g.leaf(st, s.Host)
		all = append(all, describe(s.Host, leaf, err, time.Now()))
	}
	return all
}

// leaf is the certificate for a host.
func (g *Gateway) leaf(st *state, host string) (*x509.Certificate, error) {
	if g.acme != nil {
		return g.acme.leaf(host)
	}
	c, err := st.certificate(&tls.ClientHelloInfo{ServerName: host})
	if err != nil {
		return nil, err
	}
	return c.Leaf, nil
}

// describe judges a certificate; failed is why the last try to get another
// one failed.
func describe(host string, leaf *x509.Certificate, failed error, now time.Time) Certificate {
	c := Certificate{Host: host}
	if failed != nil {
		c.Warning = "no new certificate: " + clean(failed.Error(), 512)
	}
	if leaf == nil {
		c.Problem, c.Warning = "there is no certificate yet", ""
		if failed != nil {
			c.Problem = "there is no certificate: " + clean(failed.Error(), 512)
		}
		return c
	}
	c.Issuer, c.NotAfter = leaf.Issuer.CommonName, leaf.NotAfter.UTC()
	switch left := leaf.NotAfter.Sub(now); {
	case left <= 0:
		c.Problem = "the certificate has expired"
	case now.Before(leaf.NotBefore):
		c.Problem = "the certificate is not valid yet"
	case host != "*" && leaf.VerifyHostname(host) != nil:
		c.Problem = "the certificate is not for this host"
	case left < min(certSoon, leaf.NotAfter.Sub(leaf.NotBefore)/4):
		c.Warning = "the certificate ends on " + leaf.NotAfter.UTC().Format(time.DateOnly)
		if failed != nil {
			c.Warning += "; no new one: " + clean(failed.Error(), 512)
		}
	}
	return c
}

// watchCertificates raises alarms about certificates that are missing, wrong
// or about to end, until ctx does.
func (g *Gateway) watchCertificates(ctx context.Context) {
	told := map[string]time.Time{} // last alarm, by host
	tick := time.NewTicker(certEvery)
	defer tick.Stop()
	for {
		now := time.Now()
		for _, c := range g.Certificates() {
			why := c.Problem
			if why == "" && c.NotAfter.Sub(now) < certSoon {
				why = c.Warning
			}
			// A host that waits for its first certificate is told of by its order.
			if why == "" || c.NotAfter.IsZero() || now.Sub(told[c.Host]) < certAgain {
				continue
			}
			told[c.Host] = now
			g.certificateAlarm(c.Host, "expiry", why)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// certificateChanged notes an order's end: a certificate for host, or err.
func (g *Gateway) certificateChanged(host string, err error) {
	if err == nil {
		g.metrics.orders.WithLabelValues("obtained").Inc()
		return
	}
	g.metrics.orders.WithLabelValues("failed").Inc()
	g.certificateAlarm(host, "order", clean(err.Error(), 512))
}

// certificateAlarm is for the detection rule "certificate-trouble".
func (g *Gateway) certificateAlarm(host, what, why string) {
	f := pasban.NewFact(pasban.KindAlarm, g.agency(), pasban.Actor{Kind: pasban.ActorSystem}, time.Now())
	f.Body.Service, f.Body.Action, f.Body.Outcome = host, "certificate", pasban.Denied
	f.Restricted.Reasons = []string{why}
	f.Restricted.More = map[string]string{"engine": "tls", "what": what}
	g.record(g.ctx, f)
}

var certDesc = prometheus.NewDesc("pasban_certificate_not_after_seconds",
	"When the host's certificate ends, in seconds since 1970; 0 without one.", []string{"host"}, nil)

func (g *Gateway) collectCertificates(to chan<- prometheus.Metric) {
	for _, c := range g.Certificates() {
		end := 0.0
		if !c.NotAfter.IsZero() {
			end = float64(c.NotAfter.Unix())
		}
		to <- prometheus.MustNewConstMetric(certDesc, prometheus.GaugeValue, end, c.Host)
	}
}

// plainServer sends visitors of the plain listener to https, and answers an
// ACME authority's challenges there. Only names that are ours are sent on: the
// address that is answered must not be the client's choice. What carries a body
// is refused: it was readable on its way, and must not seem to work.
func (g *Gateway) plainServer() *http.Server {
	var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		if r.Method != http.MethodGet && r.Method != http.MethodHead || !strings.HasPrefix(r.URL.Path, "/") {
			http.Error(w, "use https", http.StatusForbidden)
			return
		}
		st := g.state.Load()
		_, origins := st.config.RelyingParty()
		to, err := url.Parse(origins[0])
		if err != nil {
			http.Error(w, "use https", http.StatusForbidden)
			return
		}
		if _, ok := st.sites[hostOf(r)]; ok && to.Port() != "" {
			to.Host = net.JoinHostPort(hostOf(r), to.Port())
		} else if ok {
			to.Host = hostOf(r)
		}
		to.Path, to.RawPath, to.RawQuery = r.URL.Path, r.URL.RawPath, r.URL.RawQuery
		http.Redirect(w, r, to.String(), http.StatusPermanentRedirect)
	})
	if g.acme != nil {
		h = g.acme.challenge(h)
	}
	return &http.Server{Handler: h, ReadHeaderTimeout: headerTime, ReadTimeout: headerTime, WriteTimeout: headerTime,
		IdleTimeout: headerTime, MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug)}
}
