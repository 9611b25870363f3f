-- +goose Up
CREATE TABLE journal (
    seq        INTEGER PRIMARY KEY,  -- gapless, in commit order, from 1
    leaf_index INTEGER UNIQUE,       -- gapless over accountable facts, from 0; NULL for the others
    id         TEXT NOT NULL UNIQUE, -- the fact's id
    kind       TEXT NOT NULL,
    time       TEXT NOT NULL,        -- RFC 3339 UTC, milliseconds
    subject    TEXT NOT NULL,        -- blinded; '' if none
    leaf       BLOB,                 -- public bytes; NULL if not accountable
    opening    BLOB NOT NULL,        -- salt and body, sealed under the subject's key
    restricted BLOB NOT NULL         -- salt and restricted part, sealed under the agency's key
) STRICT;
CREATE INDEX journal_subject ON journal (subject, seq) WHERE leaf_index IS NOT NULL AND subject <> '';

CREATE TABLE journal_head (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    seq    INTEGER NOT NULL,
    leaves INTEGER NOT NULL
) STRICT;
INSERT INTO journal_head (id, seq, leaves) VALUES (1, 0, 0);

CREATE TABLE journal_reader (
    reader TEXT PRIMARY KEY,
    seq    INTEGER NOT NULL -- the last fact that it has handled
) STRICT;

-- +goose StatementBegin
CREATE TRIGGER journal_no_update BEFORE UPDATE ON journal
BEGIN SELECT RAISE(ABORT, 'journal rows are append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER journal_no_delete BEFORE DELETE ON journal
BEGIN SELECT RAISE(ABORT, 'journal rows are append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER journal_head_forward BEFORE UPDATE ON journal_head
WHEN NEW.seq < OLD.seq OR NEW.leaves < OLD.leaves
BEGIN SELECT RAISE(ABORT, 'the journal does not go back'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER journal_head_no_delete BEFORE DELETE ON journal_head
BEGIN SELECT RAISE(ABORT, 'the journal does not go back'); END;
-- +goose StatementEnd
