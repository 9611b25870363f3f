-- +goose Up
CREATE TABLE soc_exclusion (
    id     TEXT PRIMARY KEY,   -- 128 random bits in hex
    at     INTEGER NOT NULL,   -- Unix milliseconds when it was made
    until  INTEGER NOT NULL,   -- Unix milliseconds when it stops working by itself
    ended  INTEGER NOT NULL,   -- Unix milliseconds when it was ended early, 0 if it was not
    detail BLOB NOT NULL,      -- JSON of site, exclusion and who, sealed under the agency's key
    ending BLOB NOT NULL       -- JSON of who ended it, likewise; empty if nobody did
) STRICT;
CREATE INDEX soc_exclusion_until ON soc_exclusion (until);
