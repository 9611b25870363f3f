package logs_test

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"pasban/internal/detect/logs"
)

// cpuTime is what the process has used of processors: other work on the machine
// does not count.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkReaders reads logs of each kind, from bytes to events with logsource
// and time.
func BenchmarkReaders(b *testing.B) {
	for _, log := range []struct {
		name, line string // the line's number stands for each %[1]d
	}{
		{"json", `{"Channel":"Security","EventID":4688,"Hostname":"ws%[1]d","@timestamp":"2026-11-20T00:00:00Z","NewProcessName":"C:\\Windows\\System32\\cmd.exe","CommandLine":"cmd /c whoami %[1]d","SubjectUserName":"clerk","ProcessId":"0x%[1]x"}` + "\n"},
		{"access", `203.0.113.8 - clerk [28/Nov/2026:07:05:09 +0500] "GET /records?q=%[1]d HTTP/1.1" 200 512 "https://e.example/" "Mozilla/5.0 (X11; Linux x86_64)"` + "\n"},
		{"syslog", `<86>1 2026-11-28T07:05:09.123456+05:00 web1 sshd %[1]d ID47 - Failed password for root from 203.0.113.8 port %[1]d ssh2` + "\n"},
		{"auditd", `type=SYSCALL msg=audit(1764300000.123:%[1]d): arch=c000003e syscall=59 success=yes ppid=4 pid=%[1]d auid=1000 uid=0 comm="nc" exe="/usr/bin/nc" key="exec"` + "\n" +
			`type=EXECVE msg=audit(1764300000.123:%[1]d): argc=3 a0="nc" a1="-e" a2=2F62696E2F7368202D69` + "\n" +
			`type=CWD msg=audit(1764300000.123:%[1]d): cwd="/srv"` + "\n" + `type=EOE msg=audit(1764300000.123:%[1]d):` + "\n"},
	} {
		var in bytes.Buffer
		for i := range 2000 {
			fmt.Fprintf(&in, log.line, i)
		}
		lines := 2000 * strings.Count(log.line, "\n")
		b.Run(log.name, func(b *testing.B) {
			runtime.GC()
			b.SetBytes(int64(in.Len()))
			began := cpuTime(b)
			for b.Loop() {
				s := open(b, bytes.NewReader(in.Bytes()), logs.Options{})
				for _, err := s.Next(); err != io.EOF; _, err = s.Next() {
					if err != nil {
						b.Fatal(err)
					}
				}
				if rep := s.Report(); rep.Events != 2000 || rep.Refused > 0 {
					b.Fatalf("read as %+v", rep)
				}
			}
			b.ReportMetric(float64(b.N*lines)/max(cpuTime(b)-began, 1).Seconds(), "lines/cpu-s")
		})
	}
}
