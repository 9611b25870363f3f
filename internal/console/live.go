package console

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"pasban/internal/page"
	"pasban/internal/soc"
)

const (
	// streamLife is how long one stream lasts. The browser then asks again, and
	// with it the session is checked again.
	streamLife = 5 * time.Minute
	// heartbeat is how often a silent stream shows that it is alive.
	heartbeat = 15 * time.Second
	// writeTimeout bounds how long a browser may take to read one message.
	writeTimeout = 10 * time.Second
)

// stream is one open server-sent event stream.
type stream struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

// newStream sends the headers of a stream.
func newStream(w http.ResponseWriter, r *http.Request) (*stream, error) {
	page.SetHeaders(w.Header(), r.TLS != nil, "")
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("X-Accel-Buffering", "no")
	s := &stream{w, http.NewResponseController(w)}
	w.WriteHeader(http.StatusOK)
	return s, s.write([]byte(": live\n\n"))
}

// write sends bytes at once. A server that sets no deadlines is fine.
func (s *stream) write(b []byte) error {
	_ = s.rc.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every server has deadlines
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return s.rc.Flush()
}

// message sends one message: HTML whose lines become data lines, so that no
// line of it can be taken for another field.
func (s *stream) message(id string, html []byte) error {
	var b bytes.Buffer
	if id != "" {
		fmt.Fprintf(&b, "id: %s\n", id)
	}
	html = bytes.ReplaceAll(html, []byte("\r"), nil)
	for line := range bytes.SplitSeq(html, []byte("\n")) {
		fmt.Fprintf(&b, "data: %s\n", line)
	}
	b.WriteString("\n")
	return s.write(b.Bytes())
}

// follow hands every update to each until the visitor leaves, the stream's time
// is over, or the visitor falls behind.
func (c *Console) follow(ctx context.Context, s *stream, updates <-chan soc.Update, each func(soc.Update) error) {
	ctx, cancel := context.WithTimeout(ctx, streamLife)
	defer cancel()
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case u, ok := <-updates:
			if !ok {
				return // it comes again and reads what it missed
			}
			err = each(u)
		case <-beat.C:
			err = s.write([]byte(": beat\n\n"))
		}
		if err != nil {
			slog.DebugContext(ctx, "console: a live stream ended", "err", err)
			return
		}
	}
}

// live sends each new alert as a row of the overview's table. A browser that
// comes again first gets what it missed meanwhile.
func (c *Console) live(w http.ResponseWriter, r *http.Request, _ Visitor) error {
	updates, cancel := c.o.Alerts.Subscribe()
	defer cancel()
	missed, err := c.missed(r)
	if err != nil {
		return err
	}
	s, err := newStream(w, r)
	if err != nil {
		return nil // the browser has gone
	}
	lang := page.Lang(r)
	send := func(u soc.Update) error {
		if !u.Fresh {
			return nil
		}
		html, err := c.liveRow(lang, u.Alert)
		if err != nil {
			return err
		}
		return s.message(strconv.FormatInt(u.Last.UnixMilli(), 10), html)
	}
	for _, a := range missed {
		if err := send(soc.Update{Alert: a, Fresh: true}); err != nil {
			return nil
		}
	}
	c.follow(r.Context(), s, updates, send)
	return nil
}

// missed returns the alerts that began after the last one that the browser got,
// oldest first.
func (c *Console) missed(r *http.Request) ([]soc.Alert, error) {
	last, err := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64)
	if err != nil {
		return nil, nil // its first time
	}
	latest, err := c.o.Alerts.Latest(r.Context(), liveRows)
	if err != nil {
		return nil, err
	}
	var out []soc.Alert
	for i := len(latest) - 1; i >= 0; i-- {
		if latest[i].First.UnixMilli() > last {
			out = append(out, latest[i])
		}
	}
	return out, nil
}

// liveRow is one row of HTML, escaped like a page's.
func (c *Console) liveRow(lang string, a soc.Alert) ([]byte, error) {
	row := rowOf(a)
	row.Fresh = true
	return c.fragment(lang, "overview", "liverow", row)
}

// fragment is one named block of a page without the page.
func (c *Console) fragment(lang, name, block string, data any) ([]byte, error) {
	var buf bytes.Buffer
	f := page.Frame{View: page.View{Surface: page.Console, Name: name, Data: data}, Lang: lang, Dir: page.Dir(lang), Now: c.o.Now()}
	if err := c.o.Pages.Page(&buf, f, name, block); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(buf.Bytes()), nil
}

// liveCount sends how many alerts are new since the page was loaded, as a link
// that shows them: in the queue nothing moves by itself.
func (c *Console) liveCount(w http.ResponseWriter, r *http.Request, _ Visitor) error {
	updates, cancel := c.o.Alerts.Subscribe()
	defer cancel()
	s, err := newStream(w, r)
	if err != nil {
		return nil // the browser has gone
	}
	lang, n := page.Lang(r), 0
	if last, err := strconv.Atoi(r.Header.Get("Last-Event-ID")); err == nil && last > 0 {
		n = last // goes on counting after a pause
	}
	c.follow(r.Context(), s, updates, func(u soc.Update) error {
		if !u.Fresh {
			return nil
		}
		n++
		html, err := c.fragment(lang, "alerts", "pill", Pill{Count: n, Href: "/soc/alerts?" + queueQuery(r.URL.Query()).Encode()})
		if err != nil {
			return err
		}
		return s.message(strconv.Itoa(n), html)
	})
	return nil
}

// Pill is the counter of new alerts in the queue.
type Pill struct {
	Count int
	Href  string // the queue with its filters, read anew
}
