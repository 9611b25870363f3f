package main

import (
	"fmt"
	"io"
	"os"

	"pasban/internal/ledger/tiles"
)

// open opens LEDGER, a directory or an address. The function that it returns
// gives it up again.
func (c *command) open(ledger string) (tiles.Source, func(), error) {
	return tiles.Open(ledger, tiles.Access{Agent: "pasban-verify", CA: c.ca})
}

// The most bytes of what is read as a whole.
const (
	small = 1 << 20  // receipts, checkpoints and keys
	large = 64 << 20 // statements, of up to 50,000 entries, and proofs of tables
)

// readFile reads a file of at most so many bytes that the command line names.
func readFile(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, most)
}

func readAll(r io.Reader, most int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("larger than %d bytes", most)
	}
	return data, err
}
