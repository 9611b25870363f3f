-- +goose Up
CREATE TABLE ledger_final (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    size       BIGINT NOT NULL,  -- of the newest checkpoint that enough witnesses have cosigned
    checkpoint BYTEA NOT NULL,   -- as it is published, with their cosignatures
    time       TEXT NOT NULL     -- when it became final
);
