-- +goose Up
CREATE TABLE journal_hidden (
    id      TEXT PRIMARY KEY, -- the fact's id
    subject TEXT NOT NULL,    -- blinded
    until   TEXT NOT NULL,    -- RFC 3339 UTC, milliseconds: when it is disclosed
    part    BYTEA NOT NULL,    -- salt and details, sealed under the subject's key
    opening TEXT              -- id of the fact that tells of the disclosure; NULL before
);
CREATE INDEX journal_hidden_closed ON journal_hidden (until) WHERE opening IS NULL;

-- +goose StatementBegin
CREATE FUNCTION journal_hidden_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.opening IS NOT NULL OR (NEW.id, NEW.subject, NEW.until, NEW.part) IS DISTINCT FROM (OLD.id, OLD.subject, OLD.until, OLD.part) THEN
        RAISE EXCEPTION 'a hidden part does not change, nor does its date';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER journal_hidden_once BEFORE UPDATE ON journal_hidden
    FOR EACH ROW EXECUTE FUNCTION journal_hidden_once();
CREATE TRIGGER journal_hidden_no_delete BEFORE DELETE OR TRUNCATE ON journal_hidden
    FOR EACH STATEMENT EXECUTE FUNCTION journal_append_only();
