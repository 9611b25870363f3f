package logs_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/iotest"
	"time"

	"pasban"
	"pasban/internal/detect"
	"pasban/internal/detect/logs"
)

var now = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func open(t testing.TB, in io.Reader, opt logs.Options) *logs.Stream {
	t.Helper()
	var err error
	if opt.Mapping, err = logs.NewMapping(); err != nil {
		t.Fatal(err)
	}
	opt.Now = now
	s, err := logs.Open(in, opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func readAll(t testing.TB, in io.Reader, opt logs.Options) ([]pasban.Event, logs.Report) {
	t.Helper()
	s := open(t, in, opt)
	var out []pasban.Event
	for {
		ev, err := s.Next()
		if err == io.EOF {
			return out, s.Report()
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, ev)
	}
}

// sources writes an event's logsources as product/category/service.
func sources(ev pasban.Event) string {
	var list []detect.Logsource
	switch s := ev[detect.LogsourceKey].(type) {
	case detect.Logsource:
		list = []detect.Logsource{s}
	case []detect.Logsource:
		list = s
	}
	var out []string
	for _, s := range list {
		out = append(out, s.Product+"/"+s.Category+"/"+s.Service)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// TestEvents reads one entry of each kind and looks at the fields that rules
// ask for. "-" says that a field must not be there.
func TestEvents(t *testing.T) {
	for _, tt := range []struct {
		name    string
		in      string
		format  logs.Format
		sources string
		time    string
		want    map[string]string
	}{
		{
			"sysmon as JSON", `{"Event":{"#attributes":{"xmlns":"x"},"System":{"Provider":{"#attributes":{"Name":"Microsoft-Windows-Sysmon"}},"EventID":1,"Channel":"Microsoft-Windows-Sysmon/Operational","Computer":"ws1","TimeCreated":{"#attributes":{"SystemTime":"2026-11-26T05:11:27.927693Z"}}},"EventData":{"Image":"C:\\x.exe","Product Name":"X","ProcessId":7}}}`,
			logs.JSON, "windows//sysmon windows/process_creation/sysmon", "2026-11-26T05:11:27.927Z",
			map[string]string{"EventID": "1", "Image": `C:\x.exe`, "ProductName": "X", "Provider_Name": "Microsoft-Windows-Sysmon", "Computer": "ws1", "Event": "-"},
		}, {
			"event identifier with qualifiers, user data", `{"Event":{"System":{"EventID":{"#attributes":{"Qualifiers":"1"},"#text":"104"},"Channel":"System"},"UserData":{"LogFileCleared":{"#attributes":{"xmlns":"y"},"SubjectUserName":"clerk"}}}}`,
			logs.JSON, "windows//system", "",
			map[string]string{"EventID": "104", "SubjectUserName": "clerk", "#attributes": "-"},
		}, {
			"process creation of the security log", `{"winlog":{"channel":"Security","event_id":"4688","computer_name":"dc1","event_data":{"NewProcessName":"C:\\a.exe","ParentProcessName":"C:\\b.exe"}},"@timestamp":"2026-11-20T01:02:03.004Z","agent":{"type":"winlogbeat"}}`,
			logs.JSON, "windows//security windows/process_creation/security", "2026-11-20T01:02:03.004Z",
			map[string]string{"Image": `C:\a.exe`, "ParentImage": `C:\b.exe`, "EventID": "4688", "Computer": "dc1"},
		}, {
			"winlogbeat 6", `{"log_name":"Security","event_id":4625,"event_data":{"TargetUserName":"root"},"computer_name":"dc1"}`,
			logs.JSON, "windows//security", "", map[string]string{"EventID": "4625", "TargetUserName": "root"},
		}, {
			"nxlog: a value set in the registry", `{"Channel":"Microsoft-Windows-Sysmon/Operational","EventID":13,"Hostname":"ws","TargetObject":"HKU\\x","EventTime":"2020-06-09 22:50:54","@timestamp":"2020-06-10T02:50:56.537Z"}`,
			logs.JSON, "windows//sysmon windows/registry_event/sysmon windows/registry_set/sysmon", "2020-06-10T02:50:56.537Z",
			map[string]string{"Computer": "ws", "TargetObject": `HKU\x`},
		}, {
			"a key deleted in the registry", `{"Channel":"Microsoft-Windows-Sysmon/Operational","EventID":12,"EventType":"DeleteKey"}`,
			logs.JSON, "windows//sysmon windows/registry_delete/sysmon windows/registry_event/sysmon", "", nil,
		}, {
			"virus found", `{"Channel":"Microsoft-Windows-Windows Defender/Operational","EventID":1116,"ThreatName":"T","Path":"p"}`,
			logs.JSON, "windows//windefend windows/antivirus/windefend", "", map[string]string{"Signature": "T", "Filename": "p"},
		}, {
			"channel without a service", `{"Channel":"Vendor/Operational","EventID":1}`, logs.JSON, "windows//", "", nil,
		}, {
			"cloudtrail", `{"Records":[{"eventSource":"iam.amazonaws.com","eventName":"CreateUser","awsRegion":"x","eventTime":"2026-11-01T00:00:00Z","userIdentity":{"type":"Root"}}]}`,
			logs.JSON, "aws//cloudtrail", "2026-11-01T00:00:00Z", map[string]string{"eventName": "CreateUser"},
		}, {
			"kubernetes", `{"kind":"Event","apiVersion":"audit.k8s.io/v1","verb":"create","objectRef":{"resource":"secrets"}}`,
			logs.JSON, "kubernetes/application/audit", "", nil,
		}, {
			"zeek", `{"_path":"http","ts":1764300000.5,"id.orig_h":"10.0.0.1"}`, logs.JSON, "zeek//http", "2025-11-28T03:20:00.5Z", map[string]string{"id.orig_h": "10.0.0.1"},
		}, {
			"journald", `{"MESSAGE":"Failed password for root","SYSLOG_IDENTIFIER":"sshd","__REALTIME_TIMESTAMP":"1764300000500000","_HOSTNAME":"web1"}`,
			logs.JSON, "linux//auth linux//sshd linux//syslog", "2025-11-28T03:20:00.5Z", map[string]string{"message": "Failed password for root", "hostname": "web1"},
		}, {
			"unknown object", `{"a":1,"time":"yesterday","b":{"c":[1,2]}}`, logs.JSON, "", "", map[string]string{"a": "1", "original_time": "yesterday", "b": "map[c:[1 2]]"},
		}, {
			"a name twice", `{"a":"x","a":"y","a":"z"}`, logs.JSON, "", "", map[string]string{"a": "[x y z]"},
		}, {
			"syslog, RFC 5424", `<86>1 2026-11-28T07:05:09.123456+05:00 web1 sshd 77 ID47 [ex@1 k="v"] Failed password for root`,
			logs.Syslog, "linux//auth linux//sshd linux//syslog", "2026-11-28T02:05:09.123Z",
			map[string]string{"hostname": "web1", "program": "sshd", "pid": "77", "msgid": "ID47", "facility": "authpriv", "severity": "info", "message": "Failed password for root", "structured_data": "map[ex@1:map[k:v]]"},
		}, {
			"syslog, RFC 3164", `<38>Nov 27 07:05:09 web1 sudo[5]: clerk : command not allowed`,
			logs.Syslog, "linux//auth linux//sudo linux//syslog", "2026-11-27T07:05:09Z",
			map[string]string{"hostname": "web1", "program": "sudo", "pid": "5", "message": "clerk : command not allowed"},
		}, {
			"a file of syslog, last year's", `Dec  1 07:05:09 web1 CRON[5]: (root) CMD (x)`,
			logs.Syslog, "linux//cron linux//syslog", "2025-12-01T07:05:09Z", map[string]string{"program": "CRON", "message": "(root) CMD (x)"},
		}, {
			"a file of syslog with RFC 3339 times", `2026-11-28T07:05:09.123456+05:00 web1 kernel: device eth0 entered promiscuous mode`,
			logs.Syslog, "linux//syslog", "2026-11-28T02:05:09.123Z", map[string]string{"program": "kernel", "message": "device eth0 entered promiscuous mode"},
		}, {
			"a switch", `<189>%SYS-5-CONFIG_I: Configured from console`, logs.Syslog, "cisco//aaa cisco//syslog", "", map[string]string{"message": "%SYS-5-CONFIG_I: Configured from console"},
		}, {
			"JSON within syslog", `<14>1 2026-11-28T07:05:09Z web1 app - - - {"user":"clerk","n":3}`,
			logs.Syslog, "linux//syslog", "2026-11-28T07:05:09Z", map[string]string{"user": "clerk", "n": "3", "message": `{"user":"clerk","n":3}`},
		}, {
			"an access log within syslog", `<14>1 2026-11-28T07:05:09Z web1 nginx - - - 203.0.113.8 - - [28/Nov/2026:07:05:09 +0000] "GET /x HTTP/1.1" 404 7`,
			logs.Syslog, "/webserver/ linux//syslog", "2026-11-28T07:05:09Z", map[string]string{"c-ip": "203.0.113.8", "sc-status": "404"},
		}, {
			"combined access log", `203.0.113.8 - clerk [28/Nov/2026:07:05:09 +0500] "GET /a%20b/x.php?q=1'%20OR%201 HTTP/1.1" 200 512 "https://e.example/" "Mozilla \"5\" \x01"`,
			logs.Access, "/webserver/", "2026-11-28T02:05:09Z",
			map[string]string{"c-ip": "203.0.113.8", "cs-username": "clerk", "cs-method": "GET", "cs-uri-stem": "/a%20b/x.php", "cs-version": "HTTP/1.1", "sc-status": "200", "sc-bytes": "512",
				"cs-referer": "https://e.example/", "cs-user-agent": "Mozilla \"5\" \x01", "cs-uri-query": "[/a%20b/x.php?q=1'%20OR%201 q=1'%20OR%201 /a b/x.php?q=1' OR 1]"},
		}, {
			"common access log of a virtual host", `land.example:443 203.0.113.8 - - [28/Nov/2026:07:05:09 +0000] "POST /x HTTP/2.0" 503 -`,
			logs.Access, "/webserver/", "2026-11-28T07:05:09Z", map[string]string{"cs-host": "land.example:443", "c-ip": "203.0.113.8", "cs-method": "POST", "sc-bytes": "-", "cs-referer": "-"},
		}, {
			"not a request", `203.0.113.8 - - [28/Nov/2026:07:05:09 +0000] "\x16\x03\x01" 400 0 "-" "-"`,
			logs.Access, "/webserver/", "2026-11-28T07:05:09Z", map[string]string{"cs-uri": "\x16\x03\x01", "cs-method": "-", "sc-status": "400"},
		}, {
			"plain text", "something happened", logs.Lines, "", "", map[string]string{"message": "something happened"},
		},
	} {
		events, report := readAll(t, strings.NewReader(tt.in+"\n"), logs.Options{})
		if report.Format != tt.format || len(events) != 1 || report.Refused != 0 {
			t.Errorf("%s: %d events; %+v", tt.name, len(events), report)
			continue
		}
		ev := events[0]
		if got := sources(ev); got != tt.sources {
			t.Errorf("%s: logsources %q, want %q", tt.name, got, tt.sources)
		}
		at := ""
		if at0 := detect.Time(ev); !at0.IsZero() {
			at = at0.Format(time.RFC3339Nano)
		}
		if at != tt.time {
			t.Errorf("%s: time %s, want %s", tt.name, at, tt.time)
		}
		for _, name := range slices.Sorted(maps.Keys(tt.want)) {
			got, has := ev[name]
			if s := fmt.Sprint(got); s != tt.want[name] && (has || tt.want[name] != "-") {
				t.Errorf("%s: %s is %q, want %q", tt.name, name, s, tt.want[name])
			}
		}
	}
}

const audit = `type=SYSCALL msg=audit(1764300000.123:71): arch=c000003e syscall=59 success=yes ppid=4 pid=5 auid=1000 uid=0 comm="nc" exe="/usr/bin/nc" key="exec"
type=SYSCALL msg=audit(1764300000.200:72): arch=c000003e syscall=257 success=yes pid=6 exe="/usr/bin/touch"
type=EXECVE msg=audit(1764300000.123:71): argc=3 a0="nc" a1="-e" a2=2F62696E2F7368202D69
type=PATH msg=audit(1764300000.200:72): item=1 name="new.sh" nametype=CREATE
type=CWD msg=audit(1764300000.200:72): cwd="/etc/cron.d"
type=EOE msg=audit(1764300000.200:72):
type=PROCTITLE msg=audit(1764300000.123:71): proctitle=6E63002D65
type=EOE msg=audit(1764300000.123:71): ` + `
node=db1 type=USER_LOGIN msg=audit(1764300001.000:73): pid=9 uid=0 msg='op=login acct="root" exe="/usr/sbin/sshd" addr=203.0.113.8 res=failed'` + "\x1dUID=\"root\"" + `
type=SYSCALL msg=audit(1764300009.000:74): arch=c000003e syscall=42 pid=7 exe="/usr/bin/curl"
type=SOCKADDR msg=audit(1764300009.000:74): saddr=020001BBCB00710800000000
garbage
`

func TestAuditd(t *testing.T) {
	events, report := readAll(t, strings.NewReader(audit), logs.Options{})
	if report.Format != logs.Auditd || len(events) != 4 || report.Refused != 1 || report.Samples[0].Sample != "garbage" {
		t.Fatalf("%d events; %+v", len(events), report)
	}
	for i, want := range []map[string]string{
		{"type": "[SYSCALL EXECVE PROCTITLE]", "SYSCALL": "execve", "a2": "/bin/sh -i", "CommandLine": "nc -e /bin/sh -i", "Image": "/usr/bin/nc", "ProcessId": "5", "ParentProcessId": "4", "User": "0", "proctitle": "nc -e", "key": "exec", "time": "1764300000123"},
		{"type": "[SYSCALL PATH CWD]", "SYSCALL": "openat", "TargetFilename": "/etc/cron.d/new.sh", "Image": "/usr/bin/touch"},
		{"type": "USER_LOGIN", "node": "db1", "acct": "root", "addr": "203.0.113.8", "res": "failed", "op": "login", "UID": "root"},
		{"SYSCALL": "connect", "DestinationIp": "203.0.113.8", "DestinationPort": "443", "Image": "/usr/bin/curl"},
	} {
		for name, v := range want {
			if got := fmt.Sprint(events[i][name]); got != v {
				t.Errorf("event %d: %s is %q, want %q", i, name, got, v)
			}
		}
	}
	var got []string
	for _, ev := range events {
		got = append(got, sources(ev))
	}
	want := []string{"linux//auditd linux/process_creation/auditd", "linux//auditd linux/file_event/auditd", "linux//auditd", "linux//auditd linux/network_connection/auditd"}
	if !slices.Equal(got, want) {
		t.Errorf("logsources %q, want %q", got, want)
	}
}

// TestAuditdInSyslog: what is in the daemon's file means the same when syslog
// brings it, from several hosts at once and among other messages.
func TestAuditdInSyslog(t *testing.T) {
	plain, _ := readAll(t, strings.NewReader(audit), logs.Options{})
	var in strings.Builder
	lines := strings.Split(strings.TrimSuffix(audit, "\ngarbage\n"), "\n")
	for _, line := range lines {
		fmt.Fprintf(&in, "<13>Nov 28 07:05:09 web1 audispd: %s\n", line)
		fmt.Fprintf(&in, "<13>1 2025-11-28T07:05:09Z web2 audisp-syslog 77 - - %s\n", line)
		fmt.Fprintf(&in, "<38>Nov 28 07:05:09 web1 sshd[5]: between %q\n", line[:4])
	}
	events, report := readAll(t, strings.NewReader(in.String()), logs.Options{Now: time.Date(2025, 12, 1, 0, 0, 0, 0, time.UTC)})
	if report.Format != logs.Syslog || report.Refused != 0 || len(events) != 2*len(plain)+len(lines) {
		t.Fatalf("%d events; %+v", len(events), report)
	}
	found := map[string]int{}
	for _, ev := range events {
		host := fmt.Sprint(ev["hostname"])
		if _, is := ev["type"]; !is {
			found["others"]++
			continue
		}
		want := plain[found[host]]
		found[host]++
		for name, v := range want {
			switch name {
			case "pid": // the message's own, if it has one; the process is ProcessId
			case detect.LogsourceKey:
				if sources(ev) != sources(want) {
					t.Errorf("%s: logsource %s, want %s", host, sources(ev), sources(want))
				}
			default:
				if got := fmt.Sprint(ev[name]); got != fmt.Sprint(v) {
					t.Errorf("%s: %s is %q, want %q", host, name, got, v)
				}
			}
		}
		if kinds, _ := want["type"].([]any); len(kinds) > 0 && strings.Count(fmt.Sprint(ev["message"]), "msg=audit(") != len(kinds) {
			t.Errorf("%s: the message is %q", host, ev["message"])
		}
	}
	if found["web1"] != len(plain) || found["web2"] != len(plain) || found["others"] != len(lines) {
		t.Errorf("%v", found)
	}
}

// TestAuditdIsNoAccessLog: what a user has written into an audit record is not read
// as another log's line.
func TestAuditdIsNoAccessLog(t *testing.T) {
	in := `<13>Nov 28 07:05:09 web1 audispd: type=USER_CMD msg=audit(1764300000.123:71): pid=1 [10/Oct/2025:13:55:36 -0700] "GET /x HTTP/1.0" 200 1` + "\n"
	events, _ := readAll(t, strings.NewReader(in), logs.Options{Now: time.Date(2025, 12, 1, 0, 0, 0, 0, time.UTC)})
	if len(events) != 1 || events[0]["type"] != "USER_CMD" || events[0]["cs-uri"] != nil {
		t.Errorf("%v", events)
	}
}

// TestNothing: an empty input has no events, and that is all.
func TestNothing(t *testing.T) {
	for _, in := range []io.Reader{bytes.NewReader(nil), strings.NewReader("")} {
		if events, report := readAll(t, in, logs.Options{}); len(events) != 0 || report.Refused != 0 {
			t.Errorf("%v, %+v", events, report)
		}
	}
}

func TestUnfinished(t *testing.T) {
	for message, want := range map[string]bool{
		"type=SYSCALL msg=audit(1764300000.123:71): arch=c000003e":       true,
		"<13>Nov 28 07:05:09 db1 audispd: node=a type=PATH msg=audit(1)": true,
		"type=EOE msg=audit(1764300000.123:71): ":                        false,
		"<38>Nov 28 07:05:09 web1 sshd[5]: hello":                        false,
		"the type= of msg=audit":                                         false,
		"":                                                               false,
	} {
		if logs.Unfinished([]byte(message)) != want {
			t.Errorf("%q: %t", message, !want)
		}
	}
}

// TestObjects cuts JSON apart, sound and broken.
func TestObjects(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     string // the members "n"
		refused  []string
	}{
		{"lines", "{\"n\":1}\r\n\n{\"n\":2}", "1 2", nil},
		{"one line", `{"n":1}{"n":2} {"n":3}`, "1 2 3", nil},
		{"several lines", "{\n  \"n\": 1,\n  \"m\": {\n    \"x\": \"}\\\"{\"\n  }\n}\n{\n  \"n\": 2\n}\n", "1 2", nil},
		{"list", "[\n  {\"n\":1},\n  {\"n\":2}\n]\n", "1 2", nil},
		{"byte order mark and record separators", "\ufeff{\"n\":1}\n\x1e{\"n\":2}\n", "1 2", nil},
		{"cut off line", "{\"n\":1,\"m\":\"x\n{\"n\":2}\n", "2", []string{"0: the object does not end"}},
		{"cut off file", "{\"n\":1}\n{\"n\":2,", "1", []string{"8: the input ends within"}},
		{"broken member", "{\"n\":1}\n{\"n\":}\n{\"n\":3}\n", "1 3", []string{"8: not JSON: byte 5"}},
		{"noise between", "{\"n\":1}\nxx {\"n\":9}\n{\"n\":2}\n", "1 2", []string{"8: no JSON object"}},
		{"too many closed", "{\"n\":1}}\n{\"n\":2}\n", "1 2", []string{"7: no JSON object"}},
		{"too deep", "{\"n\":1}\n" + strings.Repeat(`{"n":`, 100) + "1" + strings.Repeat("}", 100) + "\n{\"n\":2}", "1 2", []string{"8: it nests deeper than 64"}},
		{"too many values", `{"l":[` + strings.Repeat("1,", 30_000) + `1]}` + "\n{\"n\":2}", "2", []string{"0: it has more than 20000 values"}},
		{"too large", `{"l":"` + strings.Repeat("x", 2<<20) + `"}` + "\n{\"n\":2}", "2", []string{"0: the object is over the limit"}},
	} {
		limits := logs.DefaultLimits()
		limits.Bytes = 1 << 20
		events, report := readAll(t, strings.NewReader(tt.in), logs.Options{Format: logs.JSON, Limits: limits})
		var got []string
		for _, ev := range events {
			got = append(got, fmt.Sprint(ev["n"]))
		}
		if strings.Join(got, " ") != tt.want || report.Refused != len(tt.refused) {
			t.Errorf("%s: %q, want %q; %+v", tt.name, got, tt.want, report)
			continue
		}
		for i, want := range tt.refused {
			if got := fmt.Sprintf("%d: %s", report.Samples[i].Offset, report.Samples[i].Why); !strings.HasPrefix(got, want) {
				t.Errorf("%s: refused %q, want %q", tt.name, got, want)
			}
		}
	}
}

// TestLargeEvents must pass: 10,000 fields, values of 1 MiB.
func TestLargeEvents(t *testing.T) {
	many := map[string]any{}
	for i := range 10_000 {
		many[fmt.Sprintf("field%d", i)] = i
	}
	wide := map[string]any{"a": strings.Repeat("x", 1<<20), "b": strings.Repeat("y", 1<<20)}
	var in bytes.Buffer
	for _, v := range []any{many, wide} {
		if err := json.NewEncoder(&in).Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	events, report := readAll(t, iotest.HalfReader(&in), logs.Options{})
	if len(events) != 2 || report.Refused != 0 {
		t.Fatalf("%d events; %+v", len(events), report)
	}
	if len(events[0]) != 10_000 || len(events[1]["a"].(string)) != 1<<20 {
		t.Errorf("%d fields, %d bytes", len(events[0]), len(events[1]["a"].(string)))
	}
}

func TestLines(t *testing.T) {
	limits := logs.DefaultLimits()
	limits.Bytes = 1 << 20
	in := "<13>Nov 27 07:05:09 web1 a: one\nnot syslog\n" + strings.Repeat("x", 3<<20) + "\n<13>Nov 27 07:05:09 web1 a: two"
	events, report := readAll(t, strings.NewReader(in), logs.Options{Limits: limits})
	if len(events) != 2 || events[1]["message"] != "two" || report.Refused != 2 ||
		report.Samples[0].Sample != "not syslog" || !strings.Contains(report.Samples[1].Why, "over the limit") || len(report.Samples[1].Sample) > 200 {
		t.Errorf("%d events; %+v", len(events), report)
	}
}

func TestPacked(t *testing.T) {
	pack := func(b []byte) []byte {
		var out bytes.Buffer
		zw := gzip.NewWriter(&out)
		if _, err := zw.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := zw.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	var plain []byte
	for i := range 5000 {
		plain = fmt.Appendf(plain, "{\"n\":%d}\n", i*7919)
	}
	whole := pack(plain)
	for _, tt := range []struct {
		name        string
		in          []byte
		events, bad int
	}{
		{"once", whole, 5000, 0},
		{"twice", pack(whole), 5000, 0},
		{"two files in one", append(bytes.Clone(whole), whole...), 10_000, 0},
	} {
		events, report := readAll(t, bytes.NewReader(tt.in), logs.Options{})
		if len(events) != tt.events || report.Refused != tt.bad {
			t.Errorf("%s: %d events; %+v", tt.name, len(events), report)
		}
	}
	events, report := readAll(t, bytes.NewReader(whole[:len(whole)-20]), logs.Options{})
	if len(events) == 0 || len(events) >= 5000 || report.Refused == 0 || !strings.Contains(report.Samples[len(report.Samples)-1].Why, "compressed input is damaged") {
		t.Errorf("cut off: %d events; %+v", len(events), report)
	}
	torn := bytes.Clone(whole)
	for i := range 40 {
		torn[len(torn)/2+i] ^= 0x5a
	}
	if _, report := readAll(t, bytes.NewReader(torn), logs.Options{}); report.Refused == 0 || !strings.Contains(report.Samples[len(report.Samples)-1].Why, "compressed input is damaged") {
		t.Errorf("damaged: %+v", report)
	}
	if _, err := logs.Open(strings.NewReader("\x7fELF\x00\x01"), logs.Options{}); !errors.Is(err, logs.ErrBinary) {
		t.Errorf("a program: %v", err)
	}
	if _, err := logs.Open(strings.NewReader("\x1f\x8bnot gzip"), logs.Options{}); err == nil {
		t.Error("what only begins like gzip is opened")
	}
}

func TestUTF16(t *testing.T) {
	in := []byte("\xff\xfe")
	for _, r := range "{\"n\":\"ک\"}\n" {
		in = append(in, byte(r), byte(r>>8))
	}
	events, report := readAll(t, bytes.NewReader(in), logs.Options{})
	if report.Format != logs.JSON || len(events) != 1 || events[0]["n"] != "ک" {
		t.Errorf("%v; %+v", events, report)
	}
}

// TestTimesBeyondBelief: the fields keep what the log says, the event stands
// where it was found.
func TestTimesBeyondBelief(t *testing.T) {
	in := `{"Channel":"Security","EventID":1,"@timestamp":"2026-11-20T00:00:00Z"}
{"Channel":"Security","EventID":2,"@timestamp":"2999-01-01T00:00:00Z"}
{"Channel":"Security","EventID":3,"@timestamp":"1601-01-01T00:00:00Z"}
{"Channel":"Security","EventID":4,"@timestamp":"2026-11-20T00:00:01Z"}
`
	events, _ := readAll(t, strings.NewReader(in), logs.Options{})
	want := []string{"2026-11-20T00:00:00Z", "2026-11-20T00:00:00Z", "2026-11-20T00:00:00Z", "2026-11-20T00:00:01Z"}
	for i, ev := range events {
		if got := detect.Time(ev).Format(time.RFC3339); got != want[i] {
			t.Errorf("event %d is at %s, want %s", i, got, want[i])
		}
	}
	if events[1]["@timestamp"] != "2999-01-01T00:00:00Z" {
		t.Errorf("the event does not keep what the log says: %v", events[1])
	}
}

func TestFailingInput(t *testing.T) {
	broken := errors.New("the disk is gone")
	if _, err := logs.Open(iotest.ErrReader(broken), logs.Options{}); !errors.Is(err, broken) {
		t.Errorf("at once: %v", err)
	}
	for _, in := range []string{"{\"n\":1}\n", audit} {
		s := open(t, io.MultiReader(strings.NewReader(in), iotest.ErrReader(broken)), logs.Options{})
		n := 0
		for {
			_, err := s.Next()
			if err != nil {
				if !errors.Is(err, broken) {
					t.Errorf("%.10q: %v", in, err)
				}
				break
			}
			n++
		}
		if n == 0 {
			t.Errorf("%.10q: what came before the failure is lost", in)
		}
		if _, err := s.Next(); !errors.Is(err, broken) {
			t.Errorf("%.10q: asked again: %v", in, err)
		}
	}
}

// TestStated: whoever knows better says what the events are.
func TestStated(t *testing.T) {
	source := []detect.Logsource{{Product: "jvm", Category: "application"}}
	events, _ := readAll(t, strings.NewReader("java.lang.Exception"), logs.Options{Source: source})
	if got := sources(events[0]); got != "jvm/application/" {
		t.Errorf("logsource %q", got)
	}
}

// TestMappingFitsRules: what the mapping makes of an event, a rule finds.
func TestMappingFitsRules(t *testing.T) {
	rule := `title: Service installed
id: 0c9f2f5c-3f0e-4f3a-9f0e-2a4c6a1c7b12
status: test
logsource: {product: windows, service: system}
detection: {selection: {EventID: 7045, ServiceName|contains: evil}, condition: selection}
level: high
`
	engine, err := detect.LoadFS(fstest.MapFS{"rule.yml": {Data: []byte(rule)}})
	if err != nil {
		t.Fatal(err)
	}
	in := `{"Event":{"System":{"EventID":{"#attributes":{"Qualifiers":16384},"#text":7045},"Channel":"System"},"EventData":{"ServiceName":"Evil Service"}}}`
	events, _ := readAll(t, strings.NewReader(in), logs.Options{})
	if got := engine.Match(events[0]); len(got) != 1 {
		t.Errorf("%d matches: %v", len(got), events[0])
	}
}

// TestOCSF: the class of an event and its attributes; what the event has stays.
func TestOCSF(t *testing.T) {
	mapping, err := logs.NewMapping()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, in string
		class    int64
		typ      int64
		want     map[string]string // by path
	}{
		{"process", `{"Channel":"Microsoft-Windows-Sysmon/Operational","EventID":1,"Image":"a","CommandLine":"a b","ParentImage":"p","User":"u","Hostname":"ws"}`, 1007, 100701,
			map[string]string{"process.cmd_line": "a b", "process.parent_process.file.path": "p", "actor.user.name": "u", "device.hostname": "ws", "metadata.version": "1.2.0", "category_uid": "1"}},
		{"sign-in", `{"Channel":"Security","EventID":4625,"TargetUserName":"u","IpAddress":"10.0.0.1"}`, 3002, 300201, map[string]string{"user.name": "u", "src_endpoint.ip": "10.0.0.1"}},
		{"another event of the log", `{"Channel":"Security","EventID":1102}`, 0, 0, nil},
		{"request", `203.0.113.8 - - [28/Nov/2026:07:05:09 +0500] "GET /x?a=1 HTTP/1.1" 200 512 "-" "UA"`, 4002, 400299, map[string]string{"http_request.url.path": "/x", "http_response.code": "200", "http_request.user_agent": "UA", "src_endpoint.ip": "203.0.113.8"}},
		{"cloud", `{"eventSource":"iam.amazonaws.com","eventName":"CreateUser","awsRegion":"x","sourceIPAddress":"10.0.0.1"}`, 6003, 600399, map[string]string{"api.operation": "CreateUser", "src_endpoint.ip": "10.0.0.1"}},
		{"its names are taken", `{"device":"mine","message":"m","Computer":"c","metadata":{"version":"9"}}`, 0, 0, map[string]string{"device": "mine", "metadata.version": "9", "message": "m"}},
		{"an object where a value should be", `{"_path":"dns","ts":1764300000,"query":{"a":1}}`, 4003, 400301, map[string]string{"query": "map[a:1]"}},
		{"OCSF already", `{"class_uid":2004,"message":"m","Computer":"c"}`, 2004, 0, map[string]string{"Computer": "c"}},
	} {
		events, _ := readAll(t, strings.NewReader(tt.in), logs.Options{})
		ev := events[0]
		mapping.OCSF(ev)
		if ev["class_uid"] != tt.class || tt.typ != 0 && ev["type_uid"] != tt.typ {
			t.Errorf("%s: class %v, type %v; want %d, %d", tt.name, ev["class_uid"], ev["type_uid"], tt.class, tt.typ)
		}
		for where, want := range tt.want {
			v := any(map[string]any(ev))
			for part := range strings.SplitSeq(where, ".") {
				m, _ := v.(map[string]any)
				v = m[part]
			}
			if fmt.Sprint(v) != want {
				t.Errorf("%s: %s is %v, want %s", tt.name, where, v, want)
			}
		}
	}
}

func FuzzStream(f *testing.F) {
	for _, s := range []string{audit, "{\"n\":1}\n{\"n\":", `<86>1 2026-11-28T07:05:09Z web1 sshd 77 ID47 [ex@1 k="v"] x`, "<38>Nov 27 07:05:09 web1 sudo[5]: x",
		`203.0.113.8 - clerk [28/Nov/2026:07:05:09 +0500] "GET /a?q=1 HTTP/1.1" 200 512 "-" "x\"y"`, "2026-11-28T07:05:09Z h p[1]: {\"a\":1}", "x"} {
		f.Add([]byte(s), byte(0))
	}
	formats := []logs.Format{"", logs.JSON, logs.Syslog, logs.Access, logs.Auditd, logs.Lines}
	mapping, err := logs.NewMapping()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte, format byte) {
		s, err := logs.Open(bytes.NewReader(data), logs.Options{Mapping: mapping, Format: formats[int(format)%len(formats)], Now: now})
		if err != nil {
			return
		}
		for n := 0; ; n++ {
			ev, err := s.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			mapping.OCSF(ev)
			if _, err := json.Marshal(ev); err != nil {
				t.Fatalf("%v cannot be told: %v", ev, err)
			}
			if n > len(data) {
				t.Fatal("more events than bytes")
			}
		}
		if rep := s.Report(); rep.Refused < len(rep.Samples) {
			t.Fatalf("%+v", rep)
		}
	})
}
