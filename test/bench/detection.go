package main

// detection is the tables about the detection engine. They need the shared test
// data (PASBAN_TESTDATA).
func detection() []table {
	const windows, correlations, reload = "BenchmarkWindowsRules/", "BenchmarkCorrelations", "BenchmarkReload/"
	return []table{{
		"Detection",
		"SigmaHQ's rules for Windows over 40,000 events of OTRF's Security-Datasets, 2.7 KB of JSON each: the events' JSON goes in, the rules that hold come out, on one processor. Beside it stand the plain evaluator that the engine is held to (`internal/detect/reference_test.go`: every rule in turn, JSON decoding included), a walk over the same JSON that looks at nothing, by the engine's own reader and by encoding/json. Figures are processor time, so that other work on the machine does not count. Then 1,000 correlations of five kinds over 100,000 users each, every event counting for one; and loading SigmaHQ's rules, for the first time and again. Aimed at: 75 × the reference, 3 × a walk, automata within 64 MiB, 500,000 correlated events a second, a reload within a second.",
		"./internal/detect", []row{
			{"the reference, against the engine", windows + "reference", windows + "engine", "cpu-µs/event"},
			{"engine, against a walk by its own reader", windows + "engine", windows + "json-scan", "cpu-µs/event"},
			{"engine, against json.Valid", windows + "engine", windows + "json-valid", "cpu-µs/event"},
			{"engine: its automata", windows + "engine", "", "automata-MiB"},
			{"engine: rules", windows + "engine", "", "rules"},
			{"correlations: events through the whole engine", correlations, "", "events/cpu-s"},
			{"correlations: without reading JSON and matching", correlations, "", "correlated/cpu-s"},
			{"correlations: groups in memory", correlations, "", "groups"},
			{"correlations: heap", correlations, "", "heap-MiB"},
			{"loading all rules", reload + "first", "", "cpu-s/op"},
			{"loading again, nothing changed", reload + "again", "", "cpu-s/op"},
		}},
	}
}

// readers is the tables about the readers of logs.
func readers() []table {
	const readers = "BenchmarkReaders/"
	return []table{{
		"Log readers",
		"2,000 entries of each kind, from bytes to events with their fields, logsource and time, on one processor. Figures are processor time.",
		"./internal/detect/logs", []row{
			{"JSON, an object a line", readers + "json", "", "lines/cpu-s"},
			{"access log", readers + "access", "", "lines/cpu-s"},
			{"syslog, RFC 5424", readers + "syslog", "", "lines/cpu-s"},
			{"auditd, four lines an event", readers + "auditd", "", "lines/cpu-s"},
		},
	}, {
		"Windows event logs",
		"EVTX, from bytes to an event's JSON, on one processor: a log of three full chunks of sign-ins, and SigmaHQ's regression cases, each opened as a file of its own; most hold one event in 68 KiB, with a template of its own (they need PASBAN_TESTDATA).",
		"./internal/detect/evtx", []row{
			{"a full log", readers + "full", "", "events/cpu-s"},
			{"files of one event", readers + "single", "", "events/cpu-s"},
		},
	}}
}
