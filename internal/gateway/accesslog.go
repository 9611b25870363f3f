package gateway

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"pasban"
	"pasban/internal/gateway/logfile"
	"pasban/internal/identity"
)

// Bounds of the access log.
const (
	accessQueue = 1 << 20 // bytes that wait for the disk; lines beyond are dropped and counted
	accessText  = 512     // bytes of one value
)

// accessLog writes a line for each request. Requests never wait for the disk;
// a node that is killed loses the lines of its last tenth of a second.
//
// It is read by people who may not know who looked at whom. So an address on a
// guarded route is written as the route's pattern, numbers that read as a CNIC
// are masked in every other, and queries are not written at all: they hold
// names, one-time codes and tokens, which no pattern finds.
type accessLog struct {
	file    *logfile.File
	dropped atomic.Uint64
	some    chan struct{} // the first line waits
	stop    chan struct{}
	stopped sync.WaitGroup
	end     func()
	last    atomic.Pointer[moment] // of the line before: the next is nearly always of the same second

	mu      sync.Mutex // covers waiting
	waiting []byte
}

// accessWait is how long lines are gathered before they are written together:
// a write for each would cost as much as the line.
const accessWait = 100 * time.Millisecond

// openAccessLog starts the writer. The file is made when there is something to
// write.
func openAccessLog(path string) *accessLog {
	l := &accessLog{file: logfile.New(path), some: make(chan struct{}, 1), stop: make(chan struct{})}
	l.end = sync.OnceFunc(func() { close(l.stop) })
	l.stopped.Go(l.run)
	return l
}

// Close writes what waits and closes the file. Lines that come later are dropped.
func (l *accessLog) Close() error {
	l.end()
	l.stopped.Wait()
	return l.file.Close()
}

// linePool lends the space in which a line is made.
var linePool = sync.Pool{New: func() any { return new(make([]byte, 0, 512)) }}

func (l *accessLog) write(form string, v *visit, r *http.Request, took time.Duration) {
	line := linePool.Get().(*[]byte)
	defer linePool.Put(line)
	if form == "json" {
		*line = jsonLine((*line)[:0], v, r, took)
	} else {
		*line = l.combinedLine((*line)[:0], v, r, took)
	}
	l.mu.Lock()
	first := len(l.waiting) == 0
	room := len(l.waiting)+len(*line) <= accessQueue
	if room {
		l.waiting = append(l.waiting, *line...)
	}
	l.mu.Unlock()
	if !room {
		l.dropped.Add(1)
	}
	if first {
		select {
		case l.some <- struct{}{}:
		default:
		}
	}
}

// run writes what waits, a little after the first of it has come.
func (l *accessLog) run() {
	var batch []byte
	for open := true; open; {
		select {
		case <-l.some:
		case <-l.stop:
			open = false
		}
		if open {
			select {
			case <-time.After(accessWait):
			case <-l.stop:
				open = false
			}
		}
		l.mu.Lock()
		batch, l.waiting = l.waiting, batch[:0]
		l.mu.Unlock()
		if len(batch) > 0 {
			_, _ = l.file.Write(batch) // it says in the node's log what it does not take
		}
	}
}

// combinedLine is the combined log format of Apache and nginx, with the site,
// the incident id, seconds in all, the upstream, its seconds and the retries
// after it:
//
//	192.0.2.7 - - [26/Nov/2026:16:23:50 +0000] "GET /a HTTP/2.0" 200 60 "-" "curl/8" land.example - 0.002 http://127.0.0.1:9000 0.001 0
func (l *accessLog) combinedLine(b []byte, v *visit, r *http.Request, took time.Duration) []byte {
	b = append(b, identity.AddrOf(r)...)
	b = append(b, " - - ["...)
	b = l.appendTime(b, v.begin)
	b = append(b, "] "...)
	b = quoted(b, cutText(r.Method), " ", v.address(r), " ", r.Proto)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(v.status), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, v.written.Load(), 10)
	b = append(b, ' ')
	b = quoted(b, referrer(r))
	b = append(b, ' ')
	b = quoted(b, orDash(private(r.UserAgent())))
	b = append(b, ' ')
	b = append(b, v.site...)
	b = append(b, ' ')
	b = append(b, orDash(v.incident())...)
	b = append(b, ' ')
	b = strconv.AppendFloat(b, took.Seconds(), 'f', 3, 64)
	b = append(b, ' ')
	b = append(b, orDash(v.upstream)...)
	b = append(b, ' ')
	b = strconv.AppendFloat(b, v.upstreamTime.Seconds(), 'f', 3, 64)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(v.retries), 10)
	return append(b, '\n')
}

// moment is a second as lines of the log write it.
type moment struct {
	unix int64
	text string
}

func (l *accessLog) appendTime(b []byte, t time.Time) []byte {
	m := l.last.Load()
	if m == nil || m.unix != t.Unix() {
		m = &moment{t.Unix(), t.Format("02/Jan/2006:15:04:05 -0700")}
		l.last.Store(m)
	}
	return append(b, m.text...)
}

// accessRecord is one line of the log in form json.
type accessRecord struct {
	Time         string  `json:"time"` // RFC 3339 UTC, when the request began
	Client       string  `json:"client"`
	Site         string  `json:"site"`
	Method       string  `json:"method"`
	Path         string  `json:"path"`
	Protocol     string  `json:"protocol"`
	Status       int     `json:"status"`
	Bytes        int64   `json:"bytes"`
	Duration     float64 `json:"duration"` // seconds
	Referrer     string  `json:"referrer,omitempty"`
	UserAgent    string  `json:"user_agent,omitempty"`
	ID           string  `json:"id,omitempty"` // of the incident, if it was refused
	Trace        string  `json:"trace,omitempty"`
	Upstream     string  `json:"upstream,omitempty"`
	UpstreamTime float64 `json:"upstream_time,omitempty"` // seconds
	Retries      int     `json:"retries,omitempty"`
}

func jsonLine(b []byte, v *visit, r *http.Request, took time.Duration) []byte {
	line, err := json.Marshal(accessRecord{
		Time: v.begin.UTC().Format(time.RFC3339Nano), Client: identity.AddrOf(r), Site: v.site,
		Method: cutText(r.Method), Path: v.address(r), Protocol: r.Proto, Status: v.status, Bytes: v.written.Load(),
		Duration: took.Seconds(), Referrer: strings.TrimPrefix(referrer(r), "-"), UserAgent: private(r.UserAgent()),
		ID: v.incident(), Trace: v.traced.id(), Upstream: v.upstream, UpstreamTime: v.upstreamTime.Seconds(), Retries: v.retries,
	})
	if err != nil { // only strings and numbers
		return b
	}
	return append(append(b, line...), '\n')
}

// incident is the id that the visitor was told, which the console finds.
func (v *visit) incident() string { return v.Header().Get(IncidentHeader) }

// address is what the log says was asked for.
func (v *visit) address(r *http.Request) string {
	if v.route != "" {
		_, path, ok := strings.Cut(v.route, " ")
		if !ok {
			path = v.route
		}
		return path
	}
	path := private(hideLinks(r.URL.EscapedPath()))
	if path == "" {
		return "*" // OPTIONS *
	}
	return path
}

// referrer is where the visitor came from, without the query; "-" if nowhere.
func referrer(r *http.Request) string {
	u, err := url.Parse(r.Referer())
	if err != nil || u.Host == "" {
		return "-"
	}
	return private(u.Scheme + "://" + u.Host + hideLinks(u.EscapedPath()))
}

// private is text from a request, cut, without numbers that read as a CNIC, however
// their digits, hyphens and escapes are written.
func private(text string) string { return cutText(hideNumbers(text[:min(len(text), 8*accessText)])) }

func hideNumbers(text string) string {
	if !disguises(text) {
		return pasban.MaskCNICs(text) // every digit in it is written as one
	}
	plain := text
	for range 3 { // escaped more than once
		next, err := url.PathUnescape(plain)
		if err != nil || next == plain {
			break
		}
		plain = next
	}
	if masked := plainDigits(plain); masked != plain {
		return masked
	}
	return text
}

// disguises reports whether digits may be written in another way in text.
func disguises(text string) bool {
	for i := range len(text) {
		if c := text[i]; c == '%' || c == '&' || c == '\\' || c >= utf8.RuneSelf {
			return true
		}
	}
	return false
}

// plainDigits masks what reads as a CNIC once foreign digits and hyphens are
// replaced; text without one is returned as it is.
func plainDigits(text string) string {
	latin := text
	if plain := plainText([]byte(text)); plain != nil {
		latin = string(plain)
	}
	if masked := pasban.MaskCNICs(latin); masked != latin {
		return strings.ToValidUTF8(masked, "\ufffd")
	}
	return text
}

func cutText(s string) string {
	if len(s) > accessText {
		return strings.ToValidUTF8(s[:accessText], "")
	}
	return s
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// quoted appends the parts as one value in quotes; no request can end the line
// or the value.
func quoted(b []byte, parts ...string) []byte {
	begin := len(b)
	b = append(b, '"')
	for _, s := range parts {
		for i := range len(s) {
			if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
				return strconv.AppendQuote(b[:begin], strings.Join(parts, ""))
			}
		}
		b = append(b, s...) // as nearly all are
	}
	return append(b, '"')
}
