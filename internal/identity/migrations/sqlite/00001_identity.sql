-- +goose Up
CREATE TABLE identity_person (
    id       TEXT PRIMARY KEY,          -- agency-internal, e.g. officer:lhr-032
    handle   BLOB NOT NULL UNIQUE,      -- WebAuthn user handle: random, says nothing of the person
    staff    TEXT NOT NULL,             -- staff number; '' if none
    subject  TEXT NOT NULL,             -- the citizen's blind index; '' if not known of staff
    disabled INTEGER NOT NULL,          -- 1: may not come in
    added    INTEGER NOT NULL,          -- Unix milliseconds
    sealed   BLOB NOT NULL              -- role, names, numbers: under a citizen's key; the agency's for staff
) STRICT;
CREATE UNIQUE INDEX identity_person_staff ON identity_person (staff) WHERE staff <> '';
CREATE UNIQUE INDEX identity_person_subject ON identity_person (subject) WHERE subject <> '' AND staff = '';

CREATE TABLE identity_passkey (
    id         BLOB PRIMARY KEY,        -- the credential's id
    person     TEXT NOT NULL REFERENCES identity_person (id),
    sign_count INTEGER NOT NULL,        -- the last one seen
    added      INTEGER NOT NULL,
    used       INTEGER NOT NULL,
    sealed     BLOB NOT NULL            -- public key and flags, under the agency's key
) STRICT;
CREATE INDEX identity_passkey_person ON identity_passkey (person);

CREATE TABLE identity_link (
    hash    BLOB PRIMARY KEY,           -- SHA-256 of the token
    person  TEXT NOT NULL REFERENCES identity_person (id),
    expires INTEGER NOT NULL,
    used    INTEGER NOT NULL,           -- 0 until it is
    sealed  BLOB NOT NULL               -- person and expiry again, under the agency's key
) STRICT;
CREATE INDEX identity_link_person ON identity_link (person);

CREATE TABLE identity_session (
    hash    BLOB PRIMARY KEY,           -- SHA-256 of the cookie's token
    person  TEXT NOT NULL REFERENCES identity_person (id),
    started INTEGER NOT NULL,
    seen    INTEGER NOT NULL,
    sealed  BLOB NOT NULL,              -- person, start, sign-in, client: under the agency's key
    work    BLOB                        -- purpose and case, likewise; NULL if none was chosen
) STRICT;
CREATE INDEX identity_session_person ON identity_session (person);
CREATE INDEX identity_session_seen ON identity_session (seen);
