-- +goose Up
CREATE TABLE soc_hunt (
    id     TEXT PRIMARY KEY, -- 128 random bits in hex
    at     BIGINT NOT NULL,  -- Unix milliseconds when it was kept
    detail BYTEA NOT NULL    -- JSON of name, query, time, columns and who, sealed under the agency's key
);
