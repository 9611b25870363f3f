package screen

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"

	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"
)

// sample is a request as any browser sends it, and an answer.
type sample struct {
	method, uri, kind, body string
}

func samples() []sample {
	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	parts.WriteField("name", "value")
	if file, err := parts.CreateFormFile("scan", "page.png"); err == nil {
		io.WriteString(file, "picture")
	}
	parts.Close()
	return []sample{
		{"GET", "/", "", ""},
		{"GET", "/records/search?district=north&page=2", "", ""},
		{"GET", "/static/app.js?v=1.2.3", "", ""},
		{"POST", "/apply", "application/x-www-form-urlencoded", "name=value&note=a+short+note"},
		{"POST", "/api/returns", "application/json", `{"name":"value","list":[{"amount":1},{"amount":2}]}`},
		{"POST", "/upload", parts.FormDataContentType(), form.String()},
	}
}

// near finds the rules that ordinary requests cannot be proven not to match.
// It is a matter of speed alone: whatever it finds, verdicts are the same.
func (s *Screen) near() (map[*rule]bool, error) {
	found := map[*rule]bool{}
	note := func(r *rule, may bool) {
		if may {
			found[r] = true
		}
	}
	for _, sm := range samples() {
		tx := s.Light.NewTransaction()
		state, ok := tx.(plugintypes.TransactionState)
		if !ok {
			return nil, fmt.Errorf("this Coraza does not show the state of transactions")
		}
		for p := types.PhaseRequestHeaders; p <= types.PhaseResponseBody; p++ {
			if err := sm.phase(tx, p); err != nil {
				return nil, err
			}
			s.may(state, p, note)
		}
		if err := tx.Close(); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// phase leads the sample through one phase.
func (sm sample) phase(tx types.Transaction, p types.RulePhase) (err error) {
	switch p {
	case types.PhaseRequestHeaders:
		tx.ProcessConnection("192.0.2.7", 40000, "", 0)
		tx.ProcessURI(sm.uri, sm.method, "HTTP/1.1")
		for _, h := range [][2]string{
			{"Host", "service.example"}, {"User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"},
			{"Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, {"Accept-Language", "en-US,en;q=0.5"},
			{"Accept-Encoding", "gzip, deflate, br"}, {"Connection", "keep-alive"}, {"Cookie", "session=0123456789abcdef; lang=ur"},
			{"Referer", "https://service.example/records/search?district=north"}, {"Cache-Control", "max-age=0"}, {"Upgrade-Insecure-Requests", "1"},
			{"Sec-Fetch-Site", "same-origin"}, {"Sec-Fetch-Mode", "navigate"}, {"Sec-Fetch-User", "?1"}, {"Sec-Ch-Ua-Mobile", "?0"},
			{"Origin", "https://service.example"},
		} {
			tx.AddRequestHeader(h[0], h[1])
		}
		if sm.kind != "" {
			tx.AddRequestHeader("Content-Type", sm.kind)
			tx.AddRequestHeader("Content-Length", itoa(len(sm.body)))
		}
		tx.ProcessRequestHeaders()
	case types.PhaseRequestBody:
		if _, _, err = tx.WriteRequestBody([]byte(sm.body)); err == nil {
			_, err = tx.ProcessRequestBody()
		}
	case types.PhaseResponseHeaders:
		tx.AddResponseHeader("Content-Type", "text/html; charset=utf-8")
		tx.ProcessResponseHeaders(200, "HTTP/1.1")
	case types.PhaseResponseBody:
		if _, _, err = tx.WriteResponseBody([]byte("<!doctype html><title>A page</title><p>An ordinary page.</p>")); err == nil {
			_, err = tx.ProcessResponseBody()
		}
	}
	return err
}
