-- +goose Up
CREATE TABLE soc_hunt (
    id     TEXT PRIMARY KEY,  -- 128 random bits in hex
    at     INTEGER NOT NULL,  -- Unix milliseconds when it was kept
    detail BLOB NOT NULL      -- JSON of name, query, time, columns and who, sealed under the agency's key
) STRICT;
