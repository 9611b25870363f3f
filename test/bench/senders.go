package main

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// sending is what machines send to a node's listener for logs: batches of
// events at a steady pace, over as many connections as there are machines.
type sending struct {
	URL, Token string
	Cert       string // PEM of whom the listener is
	Machines   int
	Rate       int // events a second of all of them together
	Batch      int // events of one request
	Every      int // every so-manieth batch has a marked event
	Length     time.Duration
}

// sent is what became of it.
type sent struct {
	Events  int
	Bytes   int64
	Refused int                  // answers other than 200; the batch is sent again
	Wall    time.Duration        // until the last answer
	Behind  time.Duration        // by how much a batch was sent too late, at most
	CPU     time.Duration        // of the senders
	Marks   map[string]time.Time // when the batch of each was due
}

// marked is how the host of a marked event begins: alerts and searches are told
// by it, and each is an alert of its own.
const marked = "marked"

// logSenders is the process of the machines: its argument is a sending in JSON.
func logSenders(args []string) error {
	if len(args) != 1 {
		return errors.New("log-senders is started by the latency section")
	}
	var s sending
	if err := json.Unmarshal([]byte(args[0]), &s); err != nil {
		return err
	}
	lines, mark, err := corpusLines()
	if err != nil {
		return err
	}
	pem, err := os.ReadFile(s.Cert)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	out := sent{Marks: map[string]time.Time{}}
	own, begin := ownCPU(), time.Now()
	var mu sync.Mutex // covers out and errs
	var errs []error
	var machines sync.WaitGroup
	for m := range s.Machines {
		machines.Go(func() {
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
			defer client.CloseIdleConnections()
			for n := m; ; n += s.Machines {
				due := begin.Add(time.Duration(n*s.Batch) * time.Second / time.Duration(s.Rate))
				if due.Sub(begin) >= s.Length {
					return
				}
				name := ""
				if n%s.Every == 0 {
					name = fmt.Sprintf("%s-%06d", marked, n)
				}
				body := s.batch(lines, mark, n, name, due)
				<-time.After(time.Until(due))
				behind := time.Since(due)
				refused, err := s.post(client, body)
				mu.Lock()
				out.Events, out.Bytes = out.Events+s.Batch, out.Bytes+int64(len(body))
				out.Refused, out.Behind = out.Refused+refused, max(out.Behind, behind)
				if name != "" {
					out.Marks[name] = due
				}
				errs = append(errs, err)
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	machines.Wait()
	out.Wall, out.CPU = time.Since(begin), ownCPU()-own
	return errors.Join(append(errs, json.NewEncoder(os.Stdout).Encode(out))...)
}

// batch is the body of the nth request. If it is to have a marked event, that is
// its last.
func (s sending) batch(lines []line, mark line, n int, name string, at time.Time) (body []byte) {
	for i := range s.Batch {
		k := n*s.Batch + i
		l := lines[k%len(lines)]
		if name != "" && i == s.Batch-1 {
			l = mark
		}
		body = l.write(body, k, k/len(lines), name, at)
	}
	return body
}

// post sends a batch until it is taken, as forwarders do.
func (s sending) post(client *http.Client, body []byte) (refused int, err error) {
	for ; ; refused++ {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, s.URL, bytes.NewReader(body))
		if err != nil {
			return refused, err
		}
		req.Header.Set("Authorization", "Bearer "+s.Token)
		resp, err := client.Do(req)
		if err != nil {
			return refused, err
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		switch {
		case err != nil || resp.StatusCode == http.StatusOK:
			return refused, err
		case resp.StatusCode != http.StatusServiceUnavailable:
			return refused, fmt.Errorf("answered %d: %s", resp.StatusCode, text)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// line is one event, cut where every copy has values of its own.
type line []piece

type piece struct {
	text []byte // as it is, up to the value
	kind kind
	hash uint64 // of an identifier: the same in one copy of the corpus is the same again
}

type kind int

// Kinds of values.
const (
	end    kind = iota // of the line
	guid               // the last twelve digits of one
	number             // of a record, process, thread or port
	stamp              // RFC 3339
	local              // a time without zone, in UTC
	host               // of a marked event
)

var own = regexp.MustCompile(`[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}([0-9a-fA-F]{12})|"(?:RecordNumber|ProcessId|ThreadID|port)":"?([0-9]+)|"@timestamp":"([^"]*)"|"(?:EventTime|EventReceivedTime|UtcTime)":"([^"]*)"|(` + marked + `)`)

// parseLine cuts a line.
func parseLine(text []byte) (l line) {
	at := 0
	for _, m := range own.FindAllSubmatchIndex(text, -1) {
		for k := guid; k <= host; k++ {
			from, to := m[2*k], m[2*k+1]
			if from < 0 {
				continue
			}
			h := fnv.New64a()
			h.Write(text[m[0]:m[1]])
			l, at = append(l, piece{text[at:from], k, h.Sum64()}), to
		}
	}
	return append(l, piece{text: text[at:]})
}

// write appends the kth event, which is of a round through all lines.
func (l line) write(to []byte, k, round int, name string, at time.Time) []byte {
	at = at.UTC()
	for _, p := range l {
		to = append(to, p.text...)
		switch p.kind {
		case guid:
			to = fmt.Appendf(to, "%012x", (p.hash^uint64(round)*0x9e3779b97f4a7c15)&0xffffffffffff)
		case number:
			to = strconv.AppendInt(to, int64(k*7919+round)%1_000_000, 10)
		case stamp:
			to = at.AppendFormat(to, time.RFC3339Nano)
		case local:
			to = at.AppendFormat(to, "2006-01-02 15:04:05.000")
		case host:
			to = append(to, name...)
		case end:
			to = append(to, '\n')
		}
	}
	return to
}

// testdata is the directory of the shared test data.
func testdata() string { return cmp.Or(os.Getenv("PASBAN_TESTDATA"), "../shared/data") }

// corpusLines are OTRF's events, and one of them with another command line, which
// SigmaHQ's rules know, and a computer of its own.
func corpusLines() (all []line, mark line, err error) {
	f, err := os.Open(filepath.Join(testdata(), "logs/windows-otrf-40k.ndjson.gz"))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: PASBAN_TESTDATA names the folder of the test data", err)
	}
	defer f.Close()
	in, err := gzip.NewReader(f)
	if err != nil {
		return nil, nil, err
	}
	command := regexp.MustCompile(`"CommandLine":"[^"\\]*(?:\\.[^"\\]*)*"`)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		text := bytes.Clone(lines.Bytes())
		all = append(all, parseLine(text))
		if mark == nil && bytes.Contains(text, []byte(`"EventID":1,`)) && bytes.Contains(text, []byte("Sysmon/Operational")) && command.Match(text) {
			mark = parseLine(command.ReplaceAllLiteral(text, []byte(`"CommandLine":"mimikatz.exe sekurlsa::logonpasswords exit","Computer":"`+marked+`"`)))
		}
	}
	if mark == nil {
		return nil, nil, errors.Join(errors.New("no event of a new process in the test data"), lines.Err())
	}
	return all, mark, lines.Err()
}
