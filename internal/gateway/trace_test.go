package gateway

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"pasban/internal/config"
)

// collector takes traces as an OpenTelemetry collector does.
type collector struct {
	mu    sync.Mutex // covers both
	spans []otlpSpan
	text  string
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var in struct {
		ResourceSpans []otlpResource `json:"resourceSpans"`
	}
	if err := json.Unmarshal(body, &in); err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/json" {
		http.Error(w, "not OTLP", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text += string(body)
	for _, rs := range in.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			c.spans = append(c.spans, ss.Spans...)
		}
	}
}

func (c *collector) named(name string) (found []otlpSpan) {
	for _, s := range c.spans {
		if s.Name == name {
			found = append(found, s)
		}
	}
	return found
}

const (
	theirTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	theirParent = "00f067aa0ba902b7"
)

// TestTraces follows a guarded request through the firewall, the guard and two
// upstreams, of which the first fails.
func TestTraces(t *testing.T) {
	for _, trusted := range []bool{true, false} {
		c := &collector{}
		srv := httptest.NewServer(c)
		got := make(chan http.Header, 1)
		var seen trace
		site := siteOf(upstreamOf(t, cutOff(&seen)), recordRoutes()...)
		site.Upstream = append(site.Upstream, upstreamOf(t, func(w http.ResponseWriter, r *http.Request) { got <- r.Header }))
		site.WAF.Mode = "block"
		g, p := newGateway(t, func(conf *config.Config) {
			conf.Traces = config.Traces{OTLP: srv.URL + "/", Sample: 1}
			if conf.Proxies = []string{"203.0.113.1"}; trusted {
				conf.Proxies = []string{"192.0.2.1"}
			}
		}, site)
		p.officer()
		w := get(g, "GET", "/records/"+first, "User-Agent", "synthetic", "Traceparent", "00-"+theirTrace+"-"+theirParent+"-01", "Baggage", "who=me")
		if w.Code != http.StatusOK {
			t.Fatalf("answered %d", w.Code)
		}
		h := <-got
		g.Close()
		srv.Close()

		root := c.named("GET")
		if len(root) != 1 || len(c.named("waf")) != 1 || len(c.named("guard")) != 1 || len(c.named("upstream")) != 2 {
			t.Fatalf("spans %+v", c.spans)
		}
		if theirs := root[0].TraceID == theirTrace && root[0].ParentSpanID == theirParent; theirs != trusted {
			t.Errorf("trusted %t: the trace is %s under %q", trusted, root[0].TraceID, root[0].ParentSpanID)
		}
		for _, s := range c.spans {
			if s.TraceID != root[0].TraceID || s.Name != "GET" && s.ParentSpanID != root[0].SpanID {
				t.Errorf("%s is not in the trace: %+v", s.Name, s)
			}
		}
		last := c.named("upstream")[1]
		if want := "00-" + last.TraceID + "-" + last.SpanID + "-01"; h.Get("Traceparent") != want || h.Get("Baggage") != "" {
			t.Errorf("the service is told %q, want %q", h.Get("Traceparent"), want)
		}
		if c.named("upstream")[0].Status.Code != 2 || last.Status.Code != 0 {
			t.Error("the failure is not the first try's")
		}
		if strings.Contains(c.text, first) || strings.Contains(c.text, "SYN-001") || strings.Contains(c.text, "192.0.2.1") {
			t.Errorf("personal data: %s", c.text)
		}
		if !slices.ContainsFunc(root[0].Attributes, func(a otlpAttribute) bool { return a.Key == "http.route" }) {
			t.Error("the route is not in the span")
		}
	}
}

// TestTracesOff: without a collector there are no spans, and what a visitor
// sends passes as any header does.
func TestTracesOff(t *testing.T) {
	got := make(chan http.Header, 1)
	g, _ := newGateway(t, nil, siteOf(upstreamOf(t, func(w http.ResponseWriter, r *http.Request) { got <- r.Header }),
		config.Route{Match: "/", SignIn: "none"}))
	get(g, "GET", "/", "Traceparent", "00-"+theirTrace+"-"+theirParent+"-01")
	if h := <-got; !strings.Contains(h.Get("Traceparent"), theirTrace) || g.state.Load().tracer != nil {
		t.Errorf("%q", h.Get("Traceparent"))
	}
}

// TestCollectorDown: a collector that does not answer costs requests nothing.
func TestCollectorDown(t *testing.T) {
	dead := httptest.NewServer(nil)
	dead.Close()
	g, _ := newGateway(t, func(c *config.Config) { c.Traces = config.Traces{OTLP: dead.URL, Sample: 1} },
		siteOf(upstreamOf(t, fixedPage), config.Route{Match: "/", SignIn: "none"}))
	for range 20 {
		if w := get(g, "GET", "/"); w.Code != http.StatusOK {
			t.Fatal(w.Code)
		}
	}
}
