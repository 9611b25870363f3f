-- +goose Up
CREATE TABLE ledger_seen (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    size      BIGINT NOT NULL, -- of the last checkpoint that was signed, written before it was
    root      BYTEA NOT NULL,
    peaks     BYTEA NOT NULL,  -- roots of the perfect subtrees that make up the tree, largest first
    published BIGINT NOT NULL  -- size of a checkpoint that the directory is known to have held
);

CREATE TABLE ledger_alarms (
    path TEXT PRIMARY KEY, -- a file found damaged and not repaired since
    time TEXT NOT NULL
);
