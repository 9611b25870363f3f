package ingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"pasban/internal/detect/logs"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	_ "google.golang.org/grpc/encoding/gzip" // senders may compress
)

const (
	// maxBody is the most bytes of one request, unpacked. Its entries are spooled
	// together or not at all.
	maxBody = 16 << 20
	// maxBodies is how many requests are read at a time; others wait.
	maxBodies = 16
	// firstRoom is the largest body that memory is set aside for before it has come.
	firstRoom = 1 << 20
)

// serveHTTP receives over HTTPS, with the source's token as bearer:
//
//	POST /          JSON objects, one a line or in a list; gzip allowed
//	POST /v1/logs   OpenTelemetry logs (OTLP/HTTP), protobuf or JSON
//	gRPC            opentelemetry.proto.collector.logs.v1.LogsService/Export
//
// An answer without error means that everything is on stable storage; 503 (gRPC:
// UNAVAILABLE) that the sender should try again later.
//
// The token is asked for before anything of a body is read; few bodies are in
// memory at a time.
func (s *source) serveHTTP(ctx context.Context, l net.Listener) {
	l = netutil.LimitListener(l, maxConns)
	room := make(chan struct{}, maxBodies)
	rpc := grpc.NewServer(grpc.MaxRecvMsgSize(maxBody))
	plogotlp.RegisterGRPCServer(rpc, &otlpServer{source: s})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) { s.post(w, r, s.takeJSON) })
	mux.HandleFunc("POST /v1/logs", func(w http.ResponseWriter, r *http.Request) { s.post(w, r, s.takeOTLP) })
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !s.admit(w, r) {
				return
			}
			select {
			case room <- struct{}{}:
				defer func() { <-room }()
			case <-r.Context().Done():
				return
			}
			if isGRPC(r) {
				rpc.ServeHTTP(w, r)
			} else {
				mux.ServeHTTP(w, r)
			}
		}),
		TLSConfig: s.tls, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10,
	}
	stop := context.AfterFunc(ctx, func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if server.Shutdown(closing) != nil {
			server.Close()
		}
	})
	defer stop()
	server.ServeTLS(l, "", "") // it ends with the shutdown
}

// httpError is an answer other than 200.
type httpError struct {
	status int
	msg    string
}

func (e *httpError) Error() string { return e.msg }

func isGRPC(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// admit reports whether a request bears the source's token, and answers it if
// not: gRPC with its own status, in a response that is a header alone.
func (s *source) admit(w http.ResponseWriter, r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if ok && s.allowed(token) {
		return true
	}
	s.refuse(logs.Refusal{Why: "no token, or not the source's, from " + r.RemoteAddr})
	const why = "the request needs the source's token"
	if isGRPC(r) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", strconv.Itoa(int(codes.Unauthenticated)))
		w.Header().Set("Grpc-Message", why)
		return false
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	http.Error(w, why, http.StatusUnauthorized)
	return false
}

// bodies are buffers that no request uses now.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// post reads the body and takes it. take does not hold on to it.
func (s *source) post(w http.ResponseWriter, r *http.Request, take func(r *http.Request, body []byte) ([]byte, error)) {
	body := bodies.Get().(*bytes.Buffer)
	defer func() {
		if body.Reset(); body.Cap() <= 2*firstRoom {
			bodies.Put(body)
		}
	}()
	err := readBody(r, body)
	var answer []byte
	if err == nil {
		answer, err = take(r, body.Bytes())
	}
	switch e, ok := errors.AsType[*httpError](err); {
	case err == nil:
		w.Header().Set("Content-Type", cmpType(r))
		w.Write(answer)
	case ok:
		s.refuse(logs.Refusal{Why: e.msg + " from " + r.RemoteAddr})
		http.Error(w, e.msg, e.status)
	default: // the spool: the sender has to keep it
		s.dropped.Add(1)
		w.Header().Set("Retry-After", "5")
		http.Error(w, "not kept, send it again: "+err.Error(), http.StatusServiceUnavailable)
	}
}

// cmpType is the type of the answer: the request's.
func cmpType(r *http.Request) string {
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-protobuf") {
		return "application/x-protobuf"
	}
	return "application/json"
}

func readBody(r *http.Request, body *bytes.Buffer) error {
	in := io.Reader(r.Body)
	switch r.Header.Get("Content-Encoding") {
	case "", "identity":
	case "gzip":
		zr, err := gzip.NewReader(r.Body)
		if err != nil {
			return &httpError{http.StatusBadRequest, "the body is not gzip"}
		}
		in = zr
	default:
		return &httpError{http.StatusUnsupportedMediaType, "only gzip is understood"}
	}
	if said := r.ContentLength; said > 0 && said <= firstRoom { // what is said is not yet sent: it gets no more room than that
		body.Grow(int(said) + bytes.MinRead)
	}
	if _, err := body.ReadFrom(io.LimitReader(in, maxBody+1)); err != nil {
		return &httpError{http.StatusBadRequest, "the body ends early or is damaged"}
	}
	if body.Len() > maxBody {
		return &httpError{http.StatusRequestEntityTooLarge, "the body is over 16 MiB: send less at once"}
	}
	return nil
}

// takeJSON takes objects as they are; those that are none are refused when they
// are read from the spool, each for itself.
func (s *source) takeJSON(_ *http.Request, body []byte) ([]byte, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return []byte("{}\n"), nil
	}
	return []byte("{}\n"), s.take(body)
}

func (s *source) takeOTLP(r *http.Request, body []byte) ([]byte, error) {
	req := plogotlp.NewExportRequest()
	proto := cmpType(r) == "application/x-protobuf"
	var err error
	if proto {
		err = req.UnmarshalProto(body)
	} else {
		err = req.UnmarshalJSON(body)
	}
	if err != nil {
		return nil, &httpError{http.StatusBadRequest, "not an OTLP request for logs"}
	}
	if err := s.takeLogs(req.Logs()); err != nil {
		return nil, err
	}
	if proto {
		return plogotlp.NewExportResponse().MarshalProto()
	}
	return plogotlp.NewExportResponse().MarshalJSON()
}

// otlpServer is the gRPC service.
type otlpServer struct {
	plogotlp.UnimplementedGRPCServer
	source *source
}

// Export implements plogotlp.GRPCServer. Whoever gets here has shown the token.
func (o *otlpServer) Export(_ context.Context, req plogotlp.ExportRequest) (plogotlp.ExportResponse, error) {
	if err := o.source.takeLogs(req.Logs()); err != nil {
		o.source.dropped.Add(1)
		return plogotlp.NewExportResponse(), status.Error(codes.Unavailable, "not kept, send it again: "+err.Error())
	}
	return plogotlp.NewExportResponse(), nil
}

// takeLogs spools OpenTelemetry's records as JSON, one a line.
func (s *source) takeLogs(in plog.Logs) error {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	for _, rl := range in.ResourceLogs().All() {
		resource := rl.Resource().Attributes().AsRaw()
		for _, sl := range rl.ScopeLogs().All() {
			for _, rec := range sl.LogRecords().All() {
				if err := enc.Encode(record(rec, resource)); err != nil {
					return err
				}
			}
		}
	}
	if out.Len() == 0 {
		return nil
	}
	return s.take(out.Bytes())
}

// record is one record of OpenTelemetry as an event: a body that is an object is
// the event, one that is text is its message, or the event if the text is JSON;
// attributes are fields, those of the resource under "resource".
func record(rec plog.LogRecord, resource map[string]any) map[string]any {
	ev := map[string]any{}
	switch body := rec.Body().AsRaw().(type) {
	case map[string]any:
		ev = body
	case string:
		if !strings.HasPrefix(body, "{") || json.Unmarshal([]byte(body), &ev) != nil {
			ev = map[string]any{"message": body}
		}
	case nil:
	default:
		ev["message"] = body
	}
	put := func(name string, v any) {
		if _, has := ev[name]; !has {
			ev[name] = v
		}
	}
	for name, v := range rec.Attributes().AsRaw() {
		put(name, v)
	}
	if len(resource) > 0 {
		put("resource", resource)
	}
	if rec.SeverityText() != "" {
		put("severity", rec.SeverityText())
	}
	if rec.EventName() != "" {
		put("event_name", rec.EventName())
	}
	at := rec.Timestamp()
	if at == 0 {
		at = rec.ObservedTimestamp()
	}
	if at != 0 {
		put("@timestamp", at.AsTime().UTC().Format(time.RFC3339Nano))
	}
	return ev
}
