-- +goose Up
CREATE TABLE directory_heads (
    subject TEXT PRIMARY KEY, -- blinded, as in the journal
    label   BLOB NOT NULL,
    blind   BLOB NOT NULL,
    number  INTEGER NOT NULL, -- entries of the list
    leaf    BLOB NOT NULL -- Merkle leaf hash of the last
) STRICT;

CREATE TABLE directory_epoch (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    epoch INTEGER NOT NULL, -- the last that was committed; 0 for none
    fact  TEXT NOT NULL   -- its fact in the journal
) STRICT;
INSERT INTO directory_epoch (id, epoch, fact) VALUES (1, 0, '');
