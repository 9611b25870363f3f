-- +goose Up
CREATE TABLE ledger_final (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    size       INTEGER NOT NULL, -- of the newest checkpoint that enough witnesses have cosigned
    checkpoint BLOB NOT NULL,    -- as it is published, with their cosignatures
    time       TEXT NOT NULL     -- when it became final
) STRICT;
