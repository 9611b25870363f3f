-- +goose Up
CREATE TABLE ledger_seen (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    size      INTEGER NOT NULL, -- of the last checkpoint that was signed, written before it was
    root      BLOB NOT NULL,
    peaks     BLOB NOT NULL,    -- roots of the perfect subtrees that make up the tree, largest first
    published INTEGER NOT NULL  -- size of a checkpoint that the directory is known to have held
) STRICT;

CREATE TABLE ledger_alarms (
    path TEXT PRIMARY KEY, -- a file found damaged and not repaired since
    time TEXT NOT NULL
) STRICT;
