-- +goose Up
CREATE TABLE soc_secret (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    sealed BLOB NOT NULL -- the key of alert ids, sealed under the agency's key
) STRICT;

CREATE TABLE soc_alert (
    id       TEXT PRIMARY KEY,  -- keyed hash of rule, entity and window
    rule     TEXT NOT NULL,     -- the rule's id
    title    TEXT NOT NULL,
    level    INTEGER NOT NULL,  -- 1 informational … 5 critical
    tags     TEXT NOT NULL,     -- JSON list
    detail   BLOB NOT NULL,     -- JSON of whom and why, sealed under the agency's key
    first_at INTEGER NOT NULL,  -- Unix milliseconds of the first event
    last_at  INTEGER NOT NULL,
    count    INTEGER NOT NULL,  -- events so far
    last_seq INTEGER NOT NULL,  -- the newest event counted: older ones are not counted again
    state    TEXT NOT NULL      -- new, acknowledged, closed
) STRICT;
CREATE INDEX soc_alert_queue ON soc_alert (level, last_at, id);
CREATE INDEX soc_alert_time ON soc_alert (first_at);

CREATE TABLE soc_alert_event (
    alert TEXT NOT NULL,
    seq   INTEGER NOT NULL, -- in the journal
    fact  TEXT NOT NULL,    -- the fact's id
    PRIMARY KEY (alert, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX soc_alert_event_fact ON soc_alert_event (fact);

CREATE TABLE soc_alert_note (
    alert  TEXT NOT NULL,
    n      INTEGER NOT NULL, -- from 1
    at     INTEGER NOT NULL, -- Unix milliseconds
    state  TEXT NOT NULL,    -- the state from then on
    detail BLOB NOT NULL,    -- JSON of who and the note, sealed under the agency's key
    PRIMARY KEY (alert, n)
) STRICT, WITHOUT ROWID;
