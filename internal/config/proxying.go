package config

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// Health asks each upstream of a site at intervals whether it can serve.
type Health struct {
	// Path is what is asked for, with GET.
	Path string `yaml:"path" required:"true"`
	// Interval is the pause between two questions to one upstream.
	Interval time.Duration `yaml:"interval" default:"10s"`
	// Timeout is how long the upstream may take to answer.
	Timeout time.Duration `yaml:"timeout" default:"2s"`
	// Status is the HTTP status of an upstream that can serve.
	Status int `yaml:"status" default:"200" min:"200" max:"599"`
	// Rise is how many good answers in a row bring an upstream back.
	Rise int `yaml:"rise" default:"2" min:"1" max:"100"`
	// Fall is how many bad answers in a row take it out.
	Fall int `yaml:"fall" default:"3" min:"1" max:"100"`
}

// UpstreamTLS says how https upstreams prove who they are.
type UpstreamTLS struct {
	// CA is a PEM file of the authorities that are trusted instead of the
	// machine's own.
	CA string `yaml:"ca"`
	// ServerName is the name that the certificate must be for. Without it: the
	// host of the upstream's address.
	ServerName string `yaml:"server_name"`
}

// Traces says where OpenTelemetry traces go.
type Traces struct {
	// OTLP is the address of a collector that takes OTLP over HTTP, such as
	// https://collector:4318; spans go to its /v1/traces as JSON. Without it
	// nothing is traced.
	OTLP string `yaml:"otlp"`
	// Sample is the part of requests that is traced, 0 to 1. A trusted proxy's
	// decision goes before it.
	Sample float64 `yaml:"sample" default:"0.01" min:"0" max:"1"`
}

// TrustedProxies returns the networks of proxies as prefixes.
func (c *Config) TrustedProxies() []netip.Prefix {
	var all []netip.Prefix
	for _, text := range c.Proxies {
		if p, err := network(text); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// network reads a CIDR prefix or a single address.
func network(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		p, err := netip.ParsePrefix(text)
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return a.Prefix(a.BitLen())
}

// proxying checks what concerns the way from the visitor and to collectors.
func (k *checker) proxying() {
	for i, text := range k.c.Proxies {
		field := fmt.Sprintf("proxies[%d]", i)
		p, err := network(text)
		switch {
		case err != nil || p.Addr().Is4In6() || p.Addr().Zone() != "":
			k.bad(field, "such as 10.0.0.0/24 or 10.0.0.5", "not a network: %q", text)
		case p.Bits() == 0:
			k.bad(field, "name the proxies' own addresses", "every visitor would be trusted to say who they are")
		}
	}
	if k.doc.Has("client_address") && len(k.c.Proxies) == 0 {
		k.bad("client_address", "name the proxies' addresses in proxies", "nobody is trusted to say it")
	}
	if k.c.Traces.OTLP == "" {
		if k.doc.Has("traces") {
			k.bad("traces", "such as otlp: https://collector:4318", "missing key %q", "otlp")
		}
		return
	}
	u, err := url.Parse(k.c.Traces.OTLP)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		k.bad("traces.otlp", "such as https://collector:4318", "not the address of a collector")
	}
}

// upstreams checks how a site's upstreams are asked.
func (k *checker) upstreams(path string, s *Site) {
	for i, raw := range s.Upstream {
		if slices.Contains(s.Upstream[:i], raw) {
			k.bad(fmt.Sprintf("%s.upstream[%d]", path, i), "", "the upstream is listed twice")
		}
	}
	if h := s.Health; h != nil {
		_, err := url.ParseRequestURI(h.Path)
		if h.Path != "" && (err != nil || !strings.HasPrefix(h.Path, "/") || strings.HasPrefix(h.Path, "//")) {
			k.bad(path+".health.path", "such as /healthz", "not a path: %q", h.Path)
		}
		if h.Interval < time.Second || h.Interval > time.Hour {
			k.bad(path+".health.interval", "1s to 1h", "%s is out of range", h.Interval)
		}
		if h.Timeout < 10*time.Millisecond || h.Timeout > h.Interval {
			k.bad(path+".health.timeout", "10ms up to the interval", "%s is out of range", h.Timeout)
		}
		if h.Status != 0 && http.StatusText(h.Status) == "" {
			k.bad(path+".health.status", "such as 200", "not an HTTP status: %d", h.Status)
		}
	}
	t := s.UpstreamTLS
	if t != (UpstreamTLS{}) && !slices.ContainsFunc(s.Upstream, func(raw string) bool { return strings.HasPrefix(raw, "https:") }) {
		k.bad(path+".upstream_tls", "begin the upstream's address with https://", "no upstream speaks TLS")
	}
	if t.ServerName != "" && !hostForm.MatchString(t.ServerName) {
		k.bad(path+".upstream_tls.server_name", "such as land.internal", "not a host name: %q", t.ServerName)
	}
	if t.CA == "" {
		return
	}
	k.file(path+".upstream_tls.ca", t.CA)
	if pem, err := os.ReadFile(t.CA); err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
		k.bad(path+".upstream_tls.ca", "want certificates in PEM", "no certificate in %s", t.CA)
	}
}
