-- +goose Up
CREATE TABLE directory_watch (
    epoch  BIGINT PRIMARY KEY,
    fact   TEXT NOT NULL, -- its fact in the journal
    labels BYTEA NOT NULL -- of the lists that grew since the epoch before: 8 bytes each, sorted
);
