package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMixed counts what every block of the mixed workload is made of.
func TestMixed(t *testing.T) {
	attacks := []message{
		{raw: []byte("GET /?q=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"), method: "GET", attack: true},
		{raw: []byte("POST / HTTP/1.1\r\nHost: localhost\r\nCookie: a=b\r\n\r\nq=1"), method: "POST", attack: true},
	}
	send := mixed(attacks)
	for _, from := range []int{0, 7 * block} {
		kinds := map[string]int{}
		for i := range block {
			m := send(from + i)
			line, _, _ := strings.Cut(string(m.raw), "\r\n")
			switch path, _, _ := strings.Cut(line, "?"); {
			case m.attack:
				kinds["attack"]++
			case bytes.Contains(m.raw, []byte("note=%D")) || strings.Contains(path, "/api/letters"):
				kinds["letter"]++
			default:
				kinds[path]++
			}
		}
		want := map[string]int{"attack": 4, "letter": 16, "GET /records/search": 15, "GET /static/app.js": 15, "POST /apply HTTP/1.1": 15, "POST /api/tax/returns HTTP/1.1": 15}
		for kind, n := range want {
			if kinds[kind] != n {
				t.Errorf("a block has %d of %q, want %d: %v", kinds[kind], kind, n, kinds)
			}
		}
	}
	one, other := attack(attacks, 0), attack(attacks, 2)
	if bytes.Equal(one.raw, other.raw) || !bytes.Contains(one.raw, []byte("\r\nCookie: session=")) || !bytes.HasSuffix(one.raw, []byte("\r\n\r\n")) {
		t.Errorf("the same attack twice: %q", one.raw)
	}
	if m := attack(attacks, 1); !bytes.Equal(m.raw, attacks[1].raw) {
		t.Errorf("an attack's own cookie was changed: %q", m.raw)
	}
}

func TestKeptAlive(t *testing.T) {
	for raw, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: y\r\n\r\n":        "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na=b":            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na=b",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\na=b":            "", // would wait for ever
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na=b":            "", // a second request
		"GET / HTTP/1.0\r\nHost: a\r\n\r\n":                                     "",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n": "",
		"nonsense": "",
	} {
		m, ok := keptAlive([]byte(raw))
		if ok != (want != "") || ok && string(m.raw) != want {
			t.Errorf("%q: %v, %q, want %q", raw, ok, m.raw, want)
		}
	}
}

// TestModSecurityRules looks at what ModSecurity could not read.
func TestModSecurityRules(t *testing.T) {
	main, err := modSecurityRules(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{main, filepath.Join(filepath.Dir(main), "rules/owasp_crs/REQUEST-949-BLOCKING-EVALUATION.conf"), filepath.Join(filepath.Dir(main), "rules/coraza.conf-recommended")} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if s := string(text); strings.Contains(s, "InMemoryLimit") || strings.Contains(s, "Include @") || strings.Contains(s, "\"\nSec") {
			t.Errorf("%s is not adapted:\n%.500s", file, s)
		}
	}
	if data, err := filepath.Glob(filepath.Join(filepath.Dir(main), "rules/owasp_crs/*.data")); err != nil || len(data) < 15 {
		t.Errorf("%d lists of phrases, %v", len(data), err)
	}
}

// TestCPU sees that work in a process and in its child is counted.
func TestCPU(t *testing.T) {
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{name: "this test", cmd: &exec.Cmd{Process: self}}
	grows := func() {
		t.Helper()
		before, err := p.cpu()
		if err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(time.Minute); ; {
			if now, err := p.cpu(); err != nil || now > before {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if time.Now().After(end) {
				t.Fatal("work for a minute was not counted")
			}
		}
	}
	grows()
	if m, err := p.memory(); err != nil || m.private < 1<<20 || m.resident <= m.private || m.peak < m.resident {
		t.Errorf("%+v: %v", m, err)
	}
	before, err := tree(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	after, err := tree(os.Getpid())
	if err != nil || len(after) != len(before)+1 {
		t.Errorf("with a child: %v, without: %v, %v", after, before, err)
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestDocument(t *testing.T) {
	first := document("", []section{{"A", "one\n"}, {"B", "two"}})
	if want := preface + "\n## A\none\n\n## B\ntwo\n"; first != want {
		t.Errorf("%q, want %q", first, want)
	}
	again := document(first, []section{{"B", "three"}, {"C", "four"}})
	if want := preface + "\n## C\nfour\n\n## A\none\n\n## B\nthree\n"; again != want {
		t.Errorf("%q, want %q", again, want)
	}
}

// TestBar writes whether an aim is met.
func TestBar(t *testing.T) {
	for _, c := range []struct {
		b    bar
		want string
	}{
		{bar{"a", spread{12, 11, 13}, true, 12, "×"}, "| a | 12.0 (11.0–13.0) | ≥ 12× | yes |\n"},
		{bar{"a", spread{11.9, 11, 13}, true, 12, "×"}, "| a | 11.9 (11.0–13.0) | ≥ 12× | **no** |\n"},
		{bar{"a", spread{1001, 900, 1100}, false, 1000, ""}, "| a | 1001 (900–1100) | ≤ 1000 | **no** |\n"},
		{bar{"a", spread{1.29, 1, 2}, false, 1.3, "×"}, "| a | 1.29 (1.00–2.00) | ≤ 1.3× | yes |\n"},
	} {
		if got := c.b.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// TestProofs makes what the browser is given; it holds.
func TestProofs(t *testing.T) {
	p, err := makeProofs()
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Statement.Entries) != listLength || len(p.Receipt.Proof) != ledgerDepth {
		t.Errorf("%d entries, %d hashes", len(p.Statement.Entries), len(p.Receipt.Proof))
	}
}
