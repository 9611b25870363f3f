package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"

	"pasban/internal/config"
)

const (
	spanInternal = oteltrace.SpanKindInternal
	spanClient   = oteltrace.SpanKindClient
	exportTime   = 10 * time.Second // for one batch of spans
	closeTime    = 3 * time.Second  // for the last one
)

// tracer makes OpenTelemetry spans of requests and sends them to a collector.
// Spans carry the site, the route's pattern, method and status; no address, no
// query, no name: nothing in them is about a person.
type tracer struct {
	provider *sdktrace.TracerProvider
	oteltrace.Tracer
}

// newTracer makes a tracer for the collector that the config names. A proxy
// that is trusted decides whether its requests are traced; else the sample does.
func newTracer(c *config.Config) *tracer {
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(c.Traces.Sample))),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "pasban"), attribute.String("service.namespace", c.Agency.ID))),
		sdktrace.WithBatcher(&otlp{url: strings.TrimSuffix(c.Traces.OTLP, "/") + "/v1/traces",
			client: &http.Client{Timeout: exportTime, Transport: &http.Transport{ForceAttemptHTTP2: true, MaxIdleConns: 2}}}),
	)
	return &tracer{provider: provider, Tracer: provider.Tracer("pasban/gateway")}
}

// close sends what is left, for a few seconds at most. Requests that still end
// under a configuration that is gone are not traced.
func (t *tracer) close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	t.provider.Shutdown(ctx) // its error was logged by the exporter
}

// traced is the trace of one visit.
type traced struct {
	tracer *tracer
	root   oteltrace.Span
	visit  *visit
}

// trace begins the trace of a visit. Only trusted proxies may say what it is
// a part of.
func (v *visit) trace(ctx context.Context, t *tracer, r *http.Request) context.Context {
	if viaProxy(r) {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(r.Header))
	}
	for _, name := range []string{"Traceparent", "Tracestate", "Baggage"} {
		r.Header.Del(name)
	}
	ctx, root := t.Start(ctx, methodClass(r.Method), oteltrace.WithSpanKind(oteltrace.SpanKindServer), oteltrace.WithAttributes(
		attribute.String("http.request.method", methodClass(r.Method)), attribute.String("pasban.site", v.site)))
	v.traced = &traced{tracer: t, root: root, visit: v}
	return ctx
}

func (t *traced) end(status int) {
	if t == nil {
		return
	}
	t.root.SetAttributes(attribute.Int("http.response.status_code", status))
	if t.visit.route != "" {
		t.root.SetAttributes(attribute.String("http.route", t.visit.route))
	}
	if status >= 500 {
		t.root.SetStatus(codes.Error, "")
	}
	t.root.End()
}

// id is the trace's, "" if there is none or it is not kept.
func (t *traced) id() string {
	if t == nil || !t.root.SpanContext().IsSampled() {
		return ""
	}
	return t.root.SpanContext().TraceID().String()
}

// span is one step of a visit; nil, which every method takes, if it is not traced.
type span struct{ oteltrace.Span }

// span begins a step.
func (v *visit) span(ctx context.Context, name string, kind oteltrace.SpanKind) (context.Context, *span) {
	if v == nil || v.traced == nil {
		return ctx, nil
	}
	ctx, s := v.traced.tracer.Start(ctx, name, oteltrace.WithSpanKind(kind))
	return ctx, &span{s}
}

func (s *span) end() {
	if s != nil {
		s.End()
	}
}

func (s *span) failed() {
	if s != nil {
		s.SetStatus(codes.Error, "")
	}
}

func (s *span) status(code int) {
	if s != nil {
		s.SetAttributes(attribute.Int("http.response.status_code", code))
	}
}

// inject tells the upstream which trace its request belongs to.
func (s *span) inject(r *http.Request, upstream string) {
	if s == nil {
		return
	}
	s.SetAttributes(attribute.String("server.address", upstream))
	r.Header = r.Header.Clone()
	propagation.TraceContext{}.Inject(r.Context(), propagation.HeaderCarrier(r.Header))
}

type inspectionKey struct{}

// inspected and passed stand before and behind the firewall: what is between
// them is its inspection of the request, a step of the trace.
func inspected(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, span := visitOf(r.Context()).span(r.Context(), "waf", spanInternal)
		if span == nil {
			next.ServeHTTP(w, r)
			return
		}
		defer span.end() // a second end does nothing
		next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, inspectionKey{}, span)))
	})
}

func passed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s, ok := r.Context().Value(inspectionKey{}).(*span); ok {
			s.end()
			// What follows is not a part of the inspection.
			r = r.WithContext(oteltrace.ContextWithSpan(r.Context(), visitOf(r.Context()).traced.root))
		}
		next.ServeHTTP(w, r)
	})
}

// otlp sends spans to a collector: OTLP over HTTP in its JSON encoding. The
// SDK's own exporter would bring gRPC and its gateway into the binary.
type otlp struct {
	url    string
	client *http.Client
	broken bool // the last batch was lost; the SDK exports one after another
}

// ExportSpans sends one batch. Spans that the collector does not take are lost,
// which is said once until it takes them again; requests never wait for it.
func (o *otlp) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if len(spans) == 0 {
		return nil
	}
	err := o.send(ctx, spans)
	if err != nil && !o.broken {
		slog.Warn("traces are lost", "collector", o.url, "err", err)
	}
	o.broken = err != nil
	return nil
}

func (o *otlp) send(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	scope := otlpScope{Spans: make([]otlpSpan, len(spans))}
	scope.Scope.Name = spans[0].InstrumentationScope().Name
	for i, s := range spans {
		scope.Spans[i] = otlpOf(s)
	}
	batch := otlpResource{ScopeSpans: []otlpScope{scope}}
	batch.Resource.Attributes = otlpAttributes(spans[0].Resource().Attributes())
	body, err := json.Marshal(map[string]any{"resourceSpans": []otlpResource{batch}})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := o.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("the collector of traces answered %s", res.Status)
	}
	return nil
}

// Shutdown gives up connections that nobody uses.
func (o *otlp) Shutdown(context.Context) error {
	o.client.CloseIdleConnections()
	return nil
}

// The messages of opentelemetry/proto/trace/v1 in JSON: ids in hexadecimal,
// 64-bit numbers as strings, enumerations as numbers.
type (
	otlpResource struct {
		Resource struct {
			Attributes []otlpAttribute `json:"attributes"`
		} `json:"resource"`
		ScopeSpans []otlpScope `json:"scopeSpans"`
	}
	otlpScope struct {
		Scope struct {
			Name string `json:"name"`
		} `json:"scope"`
		Spans []otlpSpan `json:"spans"`
	}
	otlpSpan struct {
		TraceID      string          `json:"traceId"`
		SpanID       string          `json:"spanId"`
		TraceState   string          `json:"traceState,omitempty"`
		ParentSpanID string          `json:"parentSpanId,omitempty"`
		Name         string          `json:"name"`
		Kind         int             `json:"kind"`
		Start        string          `json:"startTimeUnixNano"`
		End          string          `json:"endTimeUnixNano"`
		Attributes   []otlpAttribute `json:"attributes,omitempty"`
		Status       struct {
			Code int `json:"code,omitempty"`
		} `json:"status"`
	}
	otlpAttribute struct {
		Key   string         `json:"key"`
		Value map[string]any `json:"value"`
	}
)

func otlpOf(s sdktrace.ReadOnlySpan) otlpSpan {
	out := otlpSpan{
		TraceID: s.SpanContext().TraceID().String(), SpanID: s.SpanContext().SpanID().String(),
		TraceState: s.SpanContext().TraceState().String(), Name: s.Name(),
		Kind:  int(s.SpanKind()), // 1 internal, 2 server, 3 client: the same numbers
		Start: strconv.FormatInt(s.StartTime().UnixNano(), 10), End: strconv.FormatInt(s.EndTime().UnixNano(), 10),
		Attributes: otlpAttributes(s.Attributes()),
	}
	if s.Parent().SpanID().IsValid() {
		out.ParentSpanID = s.Parent().SpanID().String()
	}
	if s.Status().Code == codes.Error {
		out.Status.Code = 2
	}
	return out
}

func otlpAttributes(all []attribute.KeyValue) []otlpAttribute {
	var out []otlpAttribute
	for _, a := range all {
		value := map[string]any{"stringValue": a.Value.String()}
		if a.Value.Type() == attribute.INT64 {
			value = map[string]any{"intValue": a.Value.String()}
		}
		out = append(out, otlpAttribute{Key: string(a.Key), Value: value})
	}
	return out
}
