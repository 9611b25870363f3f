package config_test

import (
	"path/filepath"
	"strings"
	"testing"
)

const received = `agency: {id: land-records, name: {en: Board, ur: بورڈ}}
logs:
  sources:
    - name: edge
      listen: https://0.0.0.0:9514
      cert: logs.pem
      key: logs.key
      token: 0123456789abcdef0123456789abcdef
`

func TestLogs(t *testing.T) {
	c, problems := read(t, received+"    - {name: hosts, listen: \"udp://127.0.0.1:5514\", format: syslog, logsource: {product: linux, service: sshd}}\n")
	if problems != nil {
		t.Fatal(problems)
	}
	s := c.Logs.Sources[0]
	if c.Logs.Spool != 1<<30 || !filepath.IsAbs(s.Cert) || s.Token.Value() == "" || c.Logs.Sources[1].Logsource.Service != "sshd" {
		t.Errorf("%+v", c.Logs)
	}
	if got := s.Token.String(); strings.Contains(got, "0123") {
		t.Errorf("the token prints as %s", got)
	}
}

func TestLogsProblems(t *testing.T) {
	for text, want := range map[string]string{
		strings.Replace(received, "name: edge", "name: Edge!", 1):                              `logs.sources[0].name: not a name for a source: "Edge!"`,
		strings.Replace(received, "https://0.0.0.0:9514", "http://0.0.0.0:9514", 1):            `logs.sources[0].listen: not where logs can be received`,
		strings.Replace(received, ":9514", "", 1):                                              `logs.sources[0].listen: not where logs can be received`,
		strings.Replace(received, "      cert: logs.pem\n", "", 1):                             `https needs a certificate`,
		strings.Replace(received, "      token: 0123456789abcdef0123456789abcdef\n", "", 1):    `senders over https need a token`,
		strings.Replace(received, "0123456789abcdef0123456789abcdef", "short", 1):              `logs.sources[0].token: the token is shorter than 16 characters`,
		received + "    - {name: edge, listen: \"tcp://127.0.0.1:1\"}\n":                       `logs.sources[1].name: another source has this name`,
		received + "    - {name: b, listen: \"tcp://127.0.0.1:1\", cert: a, key: b}\n":         `tcp has no use for a certificate`,
		received + "    - {name: b, listen: \"tcp://127.0.0.1:1\", token: 0123456789abcdef}\n": `syslog has no place for a token`,
		strings.Replace(received, "  sources:", "  spool: 5\n  sources:", 1):                   `logs.spool`,
	} {
		_, problems := read(t, text)
		if problems == nil || !strings.Contains(problems.Error(), want) {
			t.Errorf("problems:\n%v\nwant %s", problems, want)
		}
	}
}
