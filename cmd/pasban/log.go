package main

import (
	"fmt"
	"log/slog"

	"pasban"
)

// logger writes to standard error: lines for a person, JSON with --json.
// Paths and causes may name a citizen, and who reads logs may not: whatever
// reads as a CNIC is masked, whichever room wrote it.
func (c *cli) logger() *slog.Logger {
	o := &slog.HandlerOptions{ReplaceAttr: maskAttr}
	if c.json {
		return slog.New(slog.NewJSONHandler(c.err, o))
	}
	return slog.New(slog.NewTextHandler(c.err, o))
}

func maskAttr(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(pasban.MaskCNICs(a.Value.String()))
	case slog.KindAny:
		switch v := a.Value.Any().(type) {
		case error:
			a.Value = slog.StringValue(pasban.MaskCNICs(v.Error()))
		case fmt.Stringer:
			a.Value = slog.StringValue(pasban.MaskCNICs(v.String()))
		}
	}
	return a
}
