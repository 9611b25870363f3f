-- +goose Up
CREATE TABLE vault_keys (
    id       TEXT PRIMARY KEY, -- 64 random bits in hex, written into everything sealed with the key
    subject  TEXT NOT NULL,    -- blinded; '' is the agency itself
    wrapped  BLOB,             -- the key under the key-encryption key; NULL once destroyed
    shredded BLOB,             -- proof that it was destroyed on purpose; NULL until then
    CHECK ((wrapped IS NULL) <> (shredded IS NULL))
) STRICT;
CREATE UNIQUE INDEX vault_keys_subject ON vault_keys (subject) WHERE wrapped IS NOT NULL;
