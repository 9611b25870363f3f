-- +goose Up
CREATE TABLE sentinel_table (
    name   TEXT PRIMARY KEY, -- as the configuration has it
    key    BYTEA NOT NULL,    -- key of the files, sealed under the agency's key
    detail BYTEA NOT NULL,    -- JSON of where the guard is, sealed likewise
    status TEXT NOT NULL     -- JSON of what it says of itself
);

CREATE TABLE sentinel_difference (
    tbl    TEXT NOT NULL,
    id     TEXT NOT NULL,    -- hash of the row's key
    at     BIGINT NOT NULL, -- Unix milliseconds when it was found
    state  TEXT NOT NULL,    -- open, repaired, accepted, gone
    detail BYTEA NOT NULL,    -- JSON of the row and who changed it, sealed under the agency's key
    PRIMARY KEY (tbl, id)
);

CREATE TABLE sentinel_request (
    id     TEXT PRIMARY KEY, -- 128 random bits in hex
    tbl    TEXT NOT NULL,
    kind   TEXT NOT NULL,    -- baseline, audit, repair, accept, definition, attest
    at     BIGINT NOT NULL, -- Unix milliseconds
    state  TEXT NOT NULL,    -- waiting, ready, running, done, failed, refused
    detail BYTEA NOT NULL,    -- JSON of who asked for what, sealed under the agency's key
    result BYTEA NOT NULL    -- JSON of how far it is, or what came of it, sealed likewise; empty at first
);
CREATE INDEX sentinel_request_state ON sentinel_request (state, at);
