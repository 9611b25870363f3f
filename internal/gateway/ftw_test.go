package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	crstests "github.com/corazawaf/coraza-coreruleset/v4/tests"
	"github.com/goccy/go-yaml"

	"pasban/internal/config"
)

// ftwCase is what the Core Rule Set's test tool reads of a test.
type ftwCase struct {
	Expect, Refuse []int
	crsCase
}

// TestMarkers goes the way of the Core Rule Set's own test tool: a marker, a
// request over the network, a marker; what stands between them in the log,
// read as the tool reads it, must be what the suite expects.
func TestMarkers(t *testing.T) {
	up := upstreamOf(t, func(http.ResponseWriter, *http.Request) {})
	s := siteOf(up, config.Route{Match: "/", SignIn: "none"})
	s.WAF = config.WAF{Mode: "detect", Paranoia: 4, TestMarkers: true}
	g, _ := newGateway(t, nil, s)
	addr := serve(t, g)
	log := filepath.Join(g.o.Config.Data, "log", "waf.log")
	names := []string{"942100", "941100", "932160", "920350", "930110"}
	if !testing.Short() {
		names = append(names, "933100", "934100", "944100", "943100", "921110")
	}
	passed, all := 0, 0
	for _, name := range names {
		for i, c := range ftwCases(t, name) {
			all++
			begin, end := fmt.Sprintf("%s-%d-begin", name, i), fmt.Sprintf("%s-%d-end", name, i)
			sendRaw(t, addr, marker(begin))
			sendRaw(t, addr, c.raw)
			sendRaw(t, addr, marker(end))
			got := between(t, log, begin, end)
			ok := true
			for _, id := range c.Expect {
				ok = ok && slices.Contains(got, id)
			}
			for _, id := range c.Refuse {
				ok = ok && !slices.Contains(got, id)
			}
			if ok {
				passed++
			} else {
				t.Errorf("%s: the log has %v, want %v and not %v", c.name, got, c.Expect, c.Refuse)
			}
		}
	}
	t.Logf("%d of %d tests pass", passed, all)
	if all < 50 {
		t.Errorf("only %d tests were read", all)
	}
}

func marker(id string) []byte {
	return []byte("GET /status/200 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: synthetic\r\nX-CRS-Test: " + id + "\r\nConnection: close\r\n\r\n")
}

func sendRaw(t *testing.T, addr string, raw []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Write(raw); err != nil {
		t.Fatal(err)
	}
	conn.(*net.TCPConn).CloseWrite()
	if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
		t.Logf("the connection ended: %v", err)
	}
}

var ftwID = regexp.MustCompile(`\[id "(\d+)"\]|"id":\s*"?(\d+)"?`)

// between reads the ids of the rules on the lines between two markers. Markers
// are found as the tool does it: the last line with the header's name, in
// small letters, must hold the test's id.
func between(t *testing.T, log, begin, end string) (ids []int) {
	t.Helper()
	var text []byte
	waitFor(t, func() bool { // the last lines are written after the answer
		var err error
		if text, err = os.ReadFile(log); err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(bytes.ToLower(text), []byte("x-crs-test "+end))
	})
	inside := false
	for line := range bytes.Lines(text) {
		small := bytes.ToLower(line)
		if bytes.Contains(small, []byte("x-crs-test")) {
			inside = bytes.Contains(small, []byte(begin)) || inside && !bytes.Contains(small, []byte(end))
			continue
		}
		if inside {
			for _, m := range ftwID.FindAllSubmatch(line, -1) {
				id, _ := strconv.Atoi(string(m[1]) + string(m[2]))
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// ftwCases are the tests of one rule that this server can be sent at all: those
// whose expectation is about the log.
func ftwCases(t *testing.T, rule string) (out []ftwCase) {
	t.Helper()
	matches, err := fs.Glob(crstests.FS, "*/"+rule+".yaml")
	if err != nil || len(matches) != 1 {
		t.Fatalf("files of rule %s: %v %v", rule, matches, err)
	}
	text, err := fs.ReadFile(crstests.FS, matches[0])
	if err != nil {
		t.Fatal(err)
	}
	var f crsFile
	var expect struct {
		Tests []struct {
			Stages []struct {
				Output struct {
					Log struct {
						Expect []int `yaml:"expect_ids"`
						Refuse []int `yaml:"no_expect_ids"`
					} `yaml:"log"`
				} `yaml:"output"`
			} `yaml:"stages"`
		} `yaml:"tests"`
	}
	if err := errors.Join(yaml.Unmarshal(text, &f), yaml.Unmarshal(text, &expect)); err != nil {
		t.Fatal(err)
	}
	for i, test := range f.Tests {
		for j, stage := range test.Stages {
			in, want := stage.Input, expect.Tests[i].Stages[j].Output.Log
			if in.Encoded != "" || len(want.Expect)+len(want.Refuse) == 0 {
				continue
			}
			uri := "/"
			if in.URI != nil {
				uri = *in.URI
			}
			raw := crsRequest(in.Method, uri, in.Version, in.Headers, in.Data, in.Autocomplete == nil || *in.Autocomplete)
			out = append(out, ftwCase{want.Expect, want.Refuse, crsCase{name: fmt.Sprintf("%d-%d.%d", f.RuleID, test.TestID, j), raw: raw}})
		}
	}
	return out
}
