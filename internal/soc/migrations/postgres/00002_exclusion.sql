-- +goose Up
CREATE TABLE soc_exclusion (
    id     TEXT PRIMARY KEY,   -- 128 random bits in hex
    at     BIGINT NOT NULL,   -- Unix milliseconds when it was made
    until  BIGINT NOT NULL,   -- Unix milliseconds when it stops working by itself
    ended  BIGINT NOT NULL,   -- Unix milliseconds when it was ended early, 0 if it was not
    detail BYTEA NOT NULL,      -- JSON of site, exclusion and who, sealed under the agency's key
    ending BYTEA NOT NULL       -- JSON of who ended it, likewise; empty if nobody did
);
CREATE INDEX soc_exclusion_until ON soc_exclusion (until);
