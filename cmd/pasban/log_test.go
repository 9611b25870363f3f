package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"testing"
)

// TestLogsNameNoCitizen writes a CNIC to the log in every way that a room might.
func TestLogsNameNoCitizen(t *testing.T) {
	const cnic = "61101-1234567-1"
	for _, form := range []string{"text", "json"} {
		var out bytes.Buffer
		log := (&cli{err: &out, json: form == "json"}).logger()
		u, err := url.Parse("http://127.0.0.1/records/" + cnic)
		check(t, err)
		log.With("who", cnic).Error("request of "+cnic+" failed", "path", "/records/"+cnic, "err", errors.New("Get "+u.String()),
			"upstream", u, slog.Group("client", "query", "cnic="+strings.ReplaceAll(cnic, "-", "")), "status", 503)
		if got := out.String(); strings.Contains(got, "1234567") || strings.Count(got, "[CNIC]") != 6 || !strings.Contains(got, "503") {
			t.Errorf("%s: %s", form, got)
		}
	}
}
