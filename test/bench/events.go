package main

// eventTables is what keeping and finding events costs. It needs the shared test
// data (PASBAN_TESTDATA).
func eventTables() []table {
	const day = "BenchmarkDay"
	return []table{{
		"A day of events",
		"Events of one day, made of OTRF's 40,000 Windows events with identifiers, numbers, times and hosts of their own in every copy (PASBAN_BENCH_EVENTS says how many; 200,000 without it), read as received logs are and added to the embedded store, 2,000 at a time. Processor time is that of node and engine for adding; reading the logs is not in it. Then five questions, each asked 40 times for its newest 100 rows. Beside it the same lines in one gzip file, and zgrep for the same word in it.",
		"./internal/eventstore", []row{
			{"events", day, "", "events"},
			{"raw JSON", day, "", "raw-MiB"},
			{"added", day, "", "events/s"},
			{"added, by processor time", day, "", "events/cpu-s"},
			{"on disk, of raw", day, "", "disk-%"},
			{"gzip -6, of raw", day, "", "gzip-%"},
			{"a rare word: p95", day, "", "word-p95-ms"},
			{"a command line by regular expression: p95", day, "", "command-p95-ms"},
			{"hosts by how often an image ran: p95", day, "", "hosts-p95-ms"},
			{"connections to a port: p95", day, "", "network-p95-ms"},
			{"the newest of all: p95", day, "", "newest-p95-ms"},
			{"zgrep for the rare word", day, "", "zgrep-ms"},
		}},
	}
}
