package main

// ledgerTables are the comparisons of how facts become leaves and are proven.
func ledgerTables() []table {
	journal := sized("bare file, fsync each", "BenchmarkBareFsync", "", "rows/s", "writers")
	for _, peer := range [][2]string{{"bare file, group commit", "BenchmarkGroupFile"}, {"PostgreSQL, a row a transaction", "BenchmarkPostgresInsert"}, {"Tessera's Add alone, POSIX driver", "BenchmarkTesseraAdd"}} {
		journal = append(journal, sized(peer[0], peer[1], "", "rows/s", "writers")...)
	}
	for _, than := range []string{"BenchmarkGroupFile", "BenchmarkPostgresInsert", "BenchmarkTesseraAdd"} {
		journal = append(journal, sized("journal", "BenchmarkJournal", than, "rows/s", "writers")...)
	}
	return []table{
		{"The journal", "One fact a call: canonicalised, put in its citizen's list, sealed twice, numbered, inserted, synced, promised. Beside it an append of 1,000 bytes to one file, synced after each or for all who wait together; a row of 1,000 bytes inserted in PostgreSQL on the same disk, a connection for each writer; and Tessera's POSIX driver alone, each writer waiting until its leaf has its index. With more writers the journal shares one commit among them. Aimed at, with 64 writers: 0.5 × the file with group commit, 5 × PostgreSQL and Tessera.",
			"./internal/journal", journal},
		{"From a fact to its proof", "1,000 facts a second for five seconds, whatever becomes of them, everything as it is by default, SQLite with synchronous=FULL: from when a fact was due to its promise, and from there to its receipt. Then a ledger that was away takes in a backlog of 100,000 leaves (PASBAN_BENCH_LEAVES makes it another; an hour at 1,000 a second is 3,600,000) with tiles and checkpoints. Aimed at: promise p50 3 ms, p99 25 ms; receipt 2 s; 20,000 leaves/s.",
			"./internal/ledger", []row{
				{"promise: p50", "BenchmarkPromises", "", "p50-ms"},
				{"promise: p99", "BenchmarkPromises", "", "p99-ms"},
				{"from promise to receipt: p50", "BenchmarkPromises", "", "receipt-p50-ms"},
				{"from promise to receipt: the slowest", "BenchmarkPromises", "", "receipt-slowest-ms"},
				{"backlog taken in", "BenchmarkCatchUp", "", "leaves/s"},
			}},
		{"Auditing a whole ledger", "1,000,000 leaves and their tiles on disk, all of them rehashed as `pasban-verify audit` does: leaves a second of processor time. Aimed at: 500,000.",
			"./internal/ledger/tiles", []row{{"audit", "BenchmarkAudit", "", "leaves/cpu-s"}}},
	}
}
