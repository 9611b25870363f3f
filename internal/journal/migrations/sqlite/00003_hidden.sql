-- +goose Up
CREATE TABLE journal_hidden (
    id      TEXT PRIMARY KEY, -- the fact's id
    subject TEXT NOT NULL,    -- blinded
    until   TEXT NOT NULL,    -- RFC 3339 UTC, milliseconds: when it is disclosed
    part    BLOB NOT NULL,    -- salt and details, sealed under the subject's key
    opening TEXT              -- id of the fact that tells of the disclosure; NULL before
) STRICT;
CREATE INDEX journal_hidden_closed ON journal_hidden (until) WHERE opening IS NULL;

-- +goose StatementBegin
CREATE TRIGGER journal_hidden_once BEFORE UPDATE ON journal_hidden
WHEN OLD.opening IS NOT NULL OR NEW.id <> OLD.id OR NEW.subject <> OLD.subject OR NEW.until <> OLD.until OR NEW.part <> OLD.part
BEGIN SELECT RAISE(ABORT, 'a hidden part does not change, nor does its date'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER journal_hidden_no_delete BEFORE DELETE ON journal_hidden
BEGIN SELECT RAISE(ABORT, 'journal rows are append-only'); END;
-- +goose StatementEnd
