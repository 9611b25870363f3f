package landregistry

import (
	"bytes"
	_ "embed"
	"encoding/csv"
	"fmt"
	"strconv"
)

//go:embed sample.csv
var sampleCSV []byte

// Sample returns ten synthetic owners and their holdings, to try the
// application with.
func Sample() ([]Owner, []Holding, error) {
	r := csv.NewReader(bytes.NewReader(sampleCSV))
	r.Comment = '#'
	rows, err := r.ReadAll()
	if err != nil {
		return nil, nil, fmt.Errorf("read the sample: %w", err)
	}
	var owners []Owner
	var holdings []Holding
	for _, f := range rows[1:] {
		kanal, err := strconv.Atoi(f[10])
		if err != nil {
			return nil, nil, fmt.Errorf("sample of %s: kanal: %w", f[0], err)
		}
		marla, err := strconv.Atoi(f[11])
		if err != nil {
			return nil, nil, fmt.Errorf("sample of %s: marla: %w", f[0], err)
		}
		owners = append(owners, Owner{CNIC: f[0], Name: f[1], NameUr: f[2], Father: f[3], FatherUr: f[4], Address: f[5], Mobile: f[6]})
		holdings = append(holdings, Holding{
			Plot: Plot{District: f[7], Mouza: f[8], Khasra: f[9], Kanal: kanal, Marla: marla, Kind: f[12]},
			CNIC: f[0], Share: f[13],
		})
	}
	return owners, holdings, nil
}
