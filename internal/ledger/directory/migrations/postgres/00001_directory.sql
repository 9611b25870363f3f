-- +goose Up
CREATE TABLE directory_heads (
    subject TEXT PRIMARY KEY, -- blinded, as in the journal
    label   BYTEA NOT NULL,
    blind   BYTEA NOT NULL,
    number  BIGINT NOT NULL, -- entries of the list
    leaf    BYTEA NOT NULL -- Merkle leaf hash of the last
);

CREATE TABLE directory_epoch (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    epoch BIGINT NOT NULL, -- the last that was committed; 0 for none
    fact  TEXT NOT NULL   -- its fact in the journal
);
INSERT INTO directory_epoch (id, epoch, fact) VALUES (1, 0, '');
