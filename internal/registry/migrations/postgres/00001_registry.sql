-- +goose Up
CREATE TABLE registry_record (
    id         TEXT PRIMARY KEY,    -- the reference number
    service    TEXT NOT NULL,
    state      TEXT NOT NULL,
    version    BIGINT NOT NULL,    -- grows with every step
    mover      TEXT NOT NULL,       -- actor id of whoever took the last step
    public     TEXT NOT NULL,       -- JSON of the public answers
    created_at BIGINT NOT NULL,    -- Unix milliseconds
    updated_at BIGINT NOT NULL
);
CREATE INDEX registry_record_list ON registry_record (service, created_at, id);

CREATE TABLE registry_party (
    record  TEXT NOT NULL REFERENCES registry_record (id),
    field   TEXT NOT NULL,          -- the subject field that names them
    subject TEXT NOT NULL,          -- blinded
    number  BYTEA NOT NULL,          -- the CNIC, sealed under the citizen's key
    PRIMARY KEY (record, field)
);
CREATE INDEX registry_party_subject ON registry_party (subject, record);

CREATE TABLE registry_field (
    record  TEXT NOT NULL REFERENCES registry_record (id),
    field   TEXT NOT NULL,
    subject TEXT NOT NULL,          -- blinded: whose data it is
    sealed  BYTEA NOT NULL,
    PRIMARY KEY (record, field)
);

CREATE TABLE registry_lookup (
    blind  BYTEA NOT NULL,           -- keyed hash of service, field and answer
    record TEXT NOT NULL REFERENCES registry_record (id),
    PRIMARY KEY (blind, record)
);

CREATE TABLE registry_step (
    record     TEXT NOT NULL REFERENCES registry_record (id),
    version    BIGINT NOT NULL,
    step       TEXT NOT NULL,       -- '' for the beginning
    state      TEXT NOT NULL,       -- that it led to
    role       TEXT NOT NULL,       -- of whoever took it
    taken_at   BIGINT NOT NULL,    -- Unix milliseconds
    PRIMARY KEY (record, version)
);
