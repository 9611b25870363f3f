-- +goose Up
CREATE TABLE journal (
    seq        BIGINT PRIMARY KEY,   -- gapless, in commit order, from 1
    leaf_index BIGINT UNIQUE,        -- gapless over accountable facts, from 0; NULL for the others
    id         TEXT NOT NULL UNIQUE, -- the fact's id
    kind       TEXT NOT NULL,
    time       TEXT NOT NULL,        -- RFC 3339 UTC, milliseconds
    subject    TEXT NOT NULL,        -- blinded; '' if none
    leaf       BYTEA,                -- public bytes; NULL if not accountable
    opening    BYTEA NOT NULL,       -- salt and body, sealed under the subject's key
    restricted BYTEA NOT NULL        -- salt and restricted part, sealed under the agency's key
);
CREATE INDEX journal_subject ON journal (subject, seq) WHERE leaf_index IS NOT NULL AND subject <> '';

CREATE TABLE journal_head (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    seq    BIGINT NOT NULL,
    leaves BIGINT NOT NULL
);
INSERT INTO journal_head (id, seq, leaves) VALUES (1, 0, 0);

CREATE TABLE journal_reader (
    reader TEXT PRIMARY KEY,
    seq    BIGINT NOT NULL -- the last fact that it has handled
);

-- +goose StatementBegin
CREATE FUNCTION journal_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'journal rows are append-only';
END $$;
-- +goose StatementEnd
CREATE TRIGGER journal_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON journal
    FOR EACH STATEMENT EXECUTE FUNCTION journal_append_only();
CREATE TRIGGER journal_head_no_delete BEFORE DELETE OR TRUNCATE ON journal_head
    FOR EACH STATEMENT EXECUTE FUNCTION journal_append_only();

-- +goose StatementBegin
CREATE FUNCTION journal_head_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.seq < OLD.seq OR NEW.leaves < OLD.leaves THEN
        RAISE EXCEPTION 'the journal does not go back';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER journal_head_forward BEFORE UPDATE ON journal_head
    FOR EACH ROW EXECUTE FUNCTION journal_head_forward();
