package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/ledger/tiles"
)

// newest reads and checks the ledger's checkpoint. It has reported what is
// wrong when ok is false.
func (c *command) newest(ctx context.Context, src tiles.Source) (cp pasban.Checkpoint, ok bool) {
	where := c.args[0]
	raw, err := src.ReadFile(ctx, tiles.Checkpoint)
	if err != nil {
		msg := "the checkpoint cannot be read"
		if errors.Is(err, fs.ErrNotExist) {
			msg = "there is no checkpoint: not a ledger?"
		}
		c.report.untold("signature", where, &pasban.Error{Kind: pasban.Invalid, Msg: msg, Err: err})
		return cp, false
	}
	cp, err = pasban.OpenCheckpoint(raw, c.verifier)
	if err != nil {
		c.report.add("signature", doesNotHold, where, err.Error())
		return cp, false
	}
	c.report.Size, c.report.Root = cp.N, cp.Hash.String()
	c.report.add("signature", holds, where, fmt.Sprintf("the checkpoint of %s, %s with root %s, is signed with the key", cp.Origin, tiles.Leaves(cp.N), cp.Hash))
	c.cosigned(where, raw)
	return cp, true
}

// cosigned checks a signed checkpoint against the witnesses, if any were named.
func (c *command) cosigned(where string, signed []byte) {
	if c.policy == nil {
		return
	}
	_, held, err := pasban.OpenCosigned(signed, c.verifier, c.policy)
	if err != nil {
		c.report.add("witnesses", doesNotHold, where, err.Error())
		return
	}
	who := make([]string, len(held))
	for i, h := range held {
		who[i] = h.Witness + " at " + h.Time.Format(time.RFC3339)
	}
	c.report.add("witnesses", holds, where, fmt.Sprintf("%d of %d witnesses have cosigned, %d are needed: %s", len(held), c.policy.Size(), c.policy.Need(), strings.Join(who, ", ")))
}

// checkpoint checks the newest checkpoint, and that the ledger still contains
// all of an earlier one.
func (c *command) checkpoint(ctx context.Context) {
	src, done, err := c.open(c.args[0])
	if err != nil {
		c.report.untold("signature", c.args[0], err)
		return
	}
	defer done()
	cp, ok := c.newest(ctx, src)
	if !ok || c.old == "" {
		return
	}
	raw, err := readFile(c.old, small)
	if err != nil {
		c.report.untold("consistency", c.old, err)
		return
	}
	old, err := pasban.OpenCheckpoint(raw, c.verifier)
	if err != nil && !isNote(raw) { // says nothing of the ledger
		c.report.untold("signature", c.old, err)
		return
	}
	if err != nil {
		c.report.add("signature", doesNotHold, c.old, err.Error())
		return
	}
	c.consistent(ctx, src, old.Tree, cp.Tree)
}

// isNote tells a signed note, whoever signed it, from anything else.
func isNote(data []byte) bool {
	_, err := note.Open(data, note.VerifierList())
	_, ok := errors.AsType[*note.UnverifiedNoteError](err)
	return ok
}

// consistent checks that now contains all of old.
func (c *command) consistent(ctx context.Context, src tiles.Source, old, now tlog.Tree) {
	err := tiles.Extends(ctx, src, old, now)
	problem, ok := errors.AsType[tiles.Problem](err)
	switch {
	case ok:
		c.report.add("consistency", doesNotHold, c.old, string(problem))
	case err != nil:
		c.report.untold("consistency", c.args[0], err)
	case old.N == now.N || old.N == 0:
		c.report.add("consistency", holds, c.old, "the ledger contains all of the earlier checkpoint, "+tiles.Leaves(old.N))
	default:
		c.report.add("consistency", holds, c.old, fmt.Sprintf("the ledger of %s contains all of the earlier checkpoint, %s", tiles.Leaves(now.N), tiles.Leaves(old.N)))
	}
}

// receipts checks each file on its own.
func (c *command) receipts() {
	c.files("receipt", small, func(name string, data []byte) error {
		r, err := pasban.ParseReceipt(data)
		if err != nil {
			return err
		}
		body, err := r.Verify(c.verifier)
		if err != nil {
			c.report.add("receipt", doesNotHold, name, err.Error())
			return nil
		}
		c.report.add("receipt", holds, name, fmt.Sprintf("leaf %d of %s: %s", r.Index, r.Origin, describe(body)))
		c.cosigned(name, []byte(r.Checkpoint))
		return nil
	})
}

// statements checks each file on its own, against an earlier one if there is
// one, and tells every entry.
func (c *command) statements() {
	old, ok := c.earlier()
	if !ok {
		return
	}
	c.files("statement", large, func(name string, data []byte) error {
		s, err := pasban.ParseStatement(data)
		if err != nil {
			return err
		}
		v, err := s.Verify(c.verifier)
		if err != nil {
			c.report.add("statement", doesNotHold, name, err.Error())
			return nil
		}
		c.report.add("statement", holds, name, wholeness(s, v))
		c.cosigned(name, []byte(s.Epoch.Checkpoint))
		if old != nil {
			c.goesOn(name, v, *old)
		}
		for _, number := range v.Overdue {
			c.report.add("disclosure", doesNotHold, fmt.Sprintf("%s: entry %d", name, number), "it was to be disclosed more than a day before the list was made, and is still hidden")
		}
		for i, b := range v.Entries {
			detail := describe(b)
			if i >= v.Covered {
				detail = "not yet covered: " + detail
			}
			c.report.add("entry", holds, fmt.Sprintf("%s: entry %d", name, b.List.Number), detail)
		}
		return nil
	})
}

// earlier reads and verifies --old. It has reported what is wrong when ok is
// false.
func (c *command) earlier() (old *pasban.Verified, ok bool) {
	if c.old == "" {
		return nil, true
	}
	data, err := readFile(c.old, large)
	if err != nil {
		c.report.untold("statement", c.old, err)
		return nil, false
	}
	s, err := pasban.ParseStatement(data)
	if err != nil {
		c.report.untold("statement", c.old, err)
		return nil, false
	}
	v, err := s.Verify(c.verifier)
	if err != nil {
		c.report.add("statement", doesNotHold, c.old, err.Error())
		return nil, false
	}
	return &v, true
}

// goesOn checks a statement against an earlier one.
func (c *command) goesOn(name string, v, old pasban.Verified) {
	if err := v.Extends(old); err != nil {
		c.report.add("consistency", doesNotHold, name, fmt.Sprintf("it does not go on from %s: %v", c.old, err))
		return
	}
	detail := fmt.Sprintf("it goes on from %s: every entry of epoch %d is in its place at epoch %d", c.old, old.Heads.Epoch, v.Heads.Epoch)
	if since := v.Erased - old.Erased; since > 0 {
		detail += fmt.Sprintf("; %d were erased since", since)
	}
	c.report.add("consistency", holds, name, detail)
}

// wholeness tells what a statement was found to prove.
func wholeness(s pasban.Statement, v pasban.Verified) string {
	epoch := fmt.Sprintf("epoch %d, committed %s", v.Heads.Epoch, v.Time)
	var detail string
	switch {
	case s.Number == 0:
		detail = fmt.Sprintf("the list of %s is empty up to %s", s.Citizen, epoch)
	case v.Covered == 0:
		detail = fmt.Sprintf("the list of %s has %d entries up to %s; all of them were erased, so that nobody can read them", s.Citizen, v.Erased, epoch)
	default:
		detail = fmt.Sprintf("the list of %s is whole: %d entries up to %s", s.Citizen, v.Covered, epoch)
		if v.Erased > 0 {
			detail += fmt.Sprintf("; the %d before them were erased, so that nobody can read them", v.Erased)
		}
	}
	if newer := len(v.Entries) - v.Covered; newer > 0 {
		detail += fmt.Sprintf("; the %d after them are not yet covered", newer)
	}
	if n := len(v.Closed); n > 0 {
		detail += fmt.Sprintf("; %d of them are hidden until a date that they name", n)
	}
	return detail
}

// files reads each file, of at most so many bytes, and hands it to a check; an error is one that could not
// be told.
func (c *command) files(what string, most int64, check func(name string, data []byte) error) {
	for _, name := range c.args {
		var data []byte
		var err error
		if name == "-" {
			name = "standard input"
			data, err = readAll(c.stdin, most)
		} else {
			data, err = readFile(name, most)
		}
		if err == nil {
			err = check(name, data)
		}
		if err != nil {
			c.report.untold(what, name, err)
		}
	}
}

// describe tells a verified body in words.
func describe(b pasban.Body) string {
	var s strings.Builder
	if b.Who.Kind == pasban.ActorHidden {
		return fmt.Sprintf("%s, %s at agency %s: who, what and why is hidden until %s", b.Time, b.Kind, b.Agency, b.Hidden.Until)
	}
	fmt.Fprintf(&s, "%s, %s by %s", b.Time, b.Kind, b.Who.Kind)
	if b.Who.Role != "" {
		fmt.Fprintf(&s, " (%s)", b.Who.Role)
	}
	if b.Hidden.Until != "" && b.Who.Kind != pasban.ActorHidden {
		fmt.Fprintf(&s, ", hidden until %s", b.Hidden.Until)
	}
	for _, part := range [][2]string{
		{"agency", b.Agency}, {"service", b.Service}, {"record", b.Resource}, {"action", b.Action},
		{"fields", strings.Join(b.Fields, ", ")}, {"purpose", b.Purpose}, {"case", b.Case}, {"outcome", string(b.Outcome)},
	} {
		if part[1] != "" {
			fmt.Fprintf(&s, ", %s %s", part[0], part[1])
		}
	}
	return s.String()
}

// audit rehashes the whole ledger.
func (c *command) audit(ctx context.Context) {
	src, done, err := c.open(c.args[0])
	if err != nil {
		c.report.untold("signature", c.args[0], err)
		return
	}
	defer done()
	cp, ok := c.newest(ctx, src)
	if !ok {
		return
	}
	report, err := tiles.Audit(ctx, src, cp.Tree, c.progress(cp.N))
	if err != nil {
		c.report.untold("tree", c.args[0], err)
		return
	}
	for _, f := range report.Findings {
		c.report.add("file", doesNotHold, f.Path, f.Problem)
	}
	if n := len(report.Findings); n > 0 {
		c.report.add("tree", doesNotHold, c.args[0], fmt.Sprintf("%d of %d files are not what the checkpoint commits to", n, report.Files))
		return
	}
	c.report.Kinds = report.Kinds
	detail := fmt.Sprintf("%s and %d files are what the checkpoint commits to", tiles.Leaves(report.Leaves), report.Files)
	if n := report.Kinds[string(pasban.KindHeads)]; n > 0 {
		detail += fmt.Sprintf("; %d of them commit to where the citizens' lists end: that is the number of the newest epoch", n)
	}
	if n := report.Kinds[""]; n > 0 {
		detail += fmt.Sprintf("; %s of a kind that this program does not know", tiles.Leaves(n))
	}
	c.report.add("tree", holds, c.args[0], detail)
}

// progress shows how far an audit is, on a terminal only.
func (c *command) progress(total int64) func(int64) {
	f, ok := c.stderr.(*os.File)
	if !ok || c.json {
		return nil
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	last := time.Now()
	return func(n int64) {
		if n == total {
			fmt.Fprintf(f, "\r\x1b[K")
		} else if time.Since(last) > 200*time.Millisecond {
			last = time.Now()
			fmt.Fprintf(f, "\r\x1b[K%d of %d leaves", n, total)
		}
	}
}
