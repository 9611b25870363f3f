-- +goose Up
CREATE TABLE directory_watch (
    epoch  INTEGER PRIMARY KEY,
    fact   TEXT NOT NULL, -- its fact in the journal
    labels BLOB NOT NULL -- of the lists that grew since the epoch before: 8 bytes each, sorted
) STRICT;
