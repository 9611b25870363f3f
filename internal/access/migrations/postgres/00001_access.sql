-- +goose Up
CREATE TABLE access_actor (
    actor TEXT PRIMARY KEY,
    looks BIGINT NOT NULL -- citizens that a budget was asked for; the row is what is locked
);

CREATE TABLE access_spent (
    actor    TEXT NOT NULL,
    subject  TEXT NOT NULL,    -- blinded
    spent_at BIGINT NOT NULL, -- Unix milliseconds at which the subject was last counted
    PRIMARY KEY (actor, subject)
);
CREATE INDEX access_spent_at ON access_spent (actor, spent_at);
