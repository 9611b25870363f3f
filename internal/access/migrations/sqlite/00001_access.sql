-- +goose Up
CREATE TABLE access_actor (
    actor TEXT PRIMARY KEY,
    looks INTEGER NOT NULL -- citizens that a budget was asked for; the row is what is locked
) STRICT;

CREATE TABLE access_spent (
    actor    TEXT NOT NULL,
    subject  TEXT NOT NULL,    -- blinded
    spent_at INTEGER NOT NULL, -- Unix milliseconds at which the subject was last counted
    PRIMARY KEY (actor, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX access_spent_at ON access_spent (actor, spent_at);
