package sentinel

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"pasban/internal/config"
)

func TestJudge(t *testing.T) {
	marker := "0123456789012345678901"
	sum := sha256.Sum256([]byte(marker))
	app := config.Writer{Role: "land_app", Hours: "08:00-17:00", From: []string{"10.0.0.0/24", "local"}, Marker: config.Secret(marker)}
	night := config.Writer{Role: "batch", Hours: "22:00-06:00"}
	good := session{Login: "land_app", User: "land_app", Addr: "10.0.0.7", Marker: hex.EncodeToString(sum[:])}
	noon := time.Date(2026, 11, 27, 12, 0, 0, 0, pkt)
	with := func(change func(*session)) session { s := good; change(&s); return s }
	for name, c := range map[string]struct {
		sessions []session
		at       time.Time
		want     string
	}{
		"as agreed":           {[]session{good}, noon, ""},
		"own socket":          {[]session{with(func(s *session) { s.Addr = "" })}, noon, ""},
		"no message":          {nil, noon, "no session"},
		"another role":        {[]session{with(func(s *session) { s.Login, s.User = "postgres", "postgres" })}, noon, "postgres is not among"},
		"taken identity":      {[]session{with(func(s *session) { s.Login = "postgres" })}, noon, "postgres is not among"},
		"taken another":       {[]session{with(func(s *session) { s.User = "eve" })}, noon, "acts as eve"},
		"at night":            {[]session{good}, noon.Add(8 * time.Hour), "outside of the hours"},
		"other address":       {[]session{with(func(s *session) { s.Addr = "10.0.1.7" })}, noon, "where no writer is"},
		"no marker":           {[]session{with(func(s *session) { s.Marker = "" })}, noon, "marker"},
		"a second, forged":    {[]session{with(func(s *session) { s.Login = "postgres" }), good}, noon, "postgres"},
		"batch before dawn":   {[]session{{Login: "batch", User: "batch"}}, noon.Add(16 * time.Hour), ""},
		"batch in the day":    {[]session{{Login: "batch", User: "batch"}}, noon, "outside"},
		"message of nonsense": {[]session{parseSession([]byte("{"))}, noon, "unknown is not among"},
	} {
		got := judge([]config.Writer{app, night}, c.sessions, c.at)
		if got == "" != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if judge(nil, []session{good}, noon) == "" {
		t.Error("without writers somebody may write")
	}
}

func TestWide(t *testing.T) {
	for _, c := range []struct {
		xid        uint32
		near, want uint64
	}{
		{5, 7, 5}, {7, 5, 7}, {0xfffffff0, 1<<32 + 3, 0xfffffff0}, {3, 0xfffffff0, 1<<32 + 3}, {9, 5<<32 + 8, 5<<32 + 9},
	} {
		if got := wide(c.xid, c.near); got != c.want {
			t.Errorf("wide(%d, %d) = %d, want %d", c.xid, c.near, got, c.want)
		}
	}
	s, err := parseSnapshot("10:20:10,14")
	if err != nil || !s.sees(9) || s.sees(10) || !s.sees(11) || s.sees(14) || s.sees(20) {
		t.Error(s, err)
	}
	for _, bad := range []string{"", "1:2", "a:2:", "1:2:x"} {
		if _, err := parseSnapshot(bad); err == nil {
			t.Errorf("%q is a snapshot", bad)
		}
	}
}
