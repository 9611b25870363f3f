package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"pasban/internal/sentinel/rowtree"
)

// table checks a guarded table, or one of its rows, against the ledger.
func (c *command) table() {
	name := c.args[0]
	data, err := readFile(name, large)
	if err != nil {
		c.report.untold("proof", name, err)
		return
	}
	p, err := rowtree.ParseProof(data)
	if err != nil {
		c.report.untold("proof", name, err)
		return
	}
	body, err := p.Receipt.Verify(c.verifier)
	if err != nil {
		c.report.add("receipt", doesNotHold, name, err.Error())
		return
	}
	said, err := p.Says(body)
	if err != nil {
		c.report.add("receipt", doesNotHold, name, err.Error())
		return
	}
	c.report.add("receipt", holds, name, fmt.Sprintf("leaf %d of %s: %s", p.Receipt.Index, p.Receipt.Origin, describe(body)))
	c.cosigned(name, []byte(p.Receipt.Checkpoint))
	switch {
	case p.Row != nil:
		root, err := p.Row.Root()
		c.row(name, p.Row.Line, err == nil && root == said.Root, err)
	case p.Change != nil:
		err := p.Change.Check(said.BatchRoot)
		c.row(name, p.Change.Line, err == nil, err)
	case len(c.args) == 1 && said.Layout != nil:
		c.report.add("table", holds, name, fmt.Sprintf("table %s, %s rows, root %x", said.Layout.Table, said.Rows, said.Root))
	}
	if len(c.args) == 2 {
		c.rows(c.args[1], said)
	}
}

func (c *command) row(name, line string, ok bool, err error) {
	if !ok {
		detail := "the row is not what the ledger commits to"
		if err != nil {
			detail += ": " + err.Error()
		}
		c.report.add("row", doesNotHold, name, detail)
		return
	}
	c.report.add("row", holds, name, "the row's authorised version is "+line)
}

// rows hashes all rows of a file and compares them with what was authorised.
func (c *command) rows(name string, said rowtree.Said) {
	if said.Layout == nil {
		c.report.add("rows", couldNotTell, name, "the proof is of a row, not of a table")
		return
	}
	f, err := os.Open(name)
	if err != nil {
		c.report.untold("rows", name, err)
		return
	}
	defer f.Close()
	sum := rowtree.NewSum(*said.Layout)
	in := bufio.NewReaderSize(f, 1<<20)
	for {
		line, err := readLine(in)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			c.report.untold("rows", name, fmt.Errorf("row %d: %w", sum.Rows+1, err))
			return
		}
		sum.Add(line)
	}
	root := rowtree.Root(said.Layout.ID(), sum.Rows, sum.Hashes())
	if root != said.Root {
		c.report.add("rows", doesNotHold, name, fmt.Sprintf("%d rows of %s are not the %s rows that were authorised", sum.Rows, said.Layout.Table, said.Rows))
		return
	}
	c.report.add("rows", holds, name, fmt.Sprintf("%d rows of %s are what was authorised", sum.Rows, said.Layout.Table))
}

// readLine returns the next line without its end, for use until the next call;
// io.EOF after the last one. A last line that does not end was cut off.
func readLine(in *bufio.Reader) (line []byte, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if line == nil && err == nil {
			return part[:len(part)-1], nil
		}
		line = append(line, part...)
		switch {
		case len(line) > large:
			return nil, errors.New("longer than any row of a table")
		case err == nil:
			return line[:len(line)-1], nil
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, errors.New("it was cut off")
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}
