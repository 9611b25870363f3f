-- +goose Up
CREATE TABLE identity_person (
    id       TEXT PRIMARY KEY,          -- agency-internal, e.g. officer:lhr-032
    handle   BYTEA NOT NULL UNIQUE,      -- WebAuthn user handle: random, says nothing of the person
    staff    TEXT NOT NULL,             -- staff number; '' if none
    subject  TEXT NOT NULL,             -- the citizen's blind index; '' if not known of staff
    disabled BIGINT NOT NULL,          -- 1: may not come in
    added    BIGINT NOT NULL,          -- Unix milliseconds
    sealed   BYTEA NOT NULL              -- role, names, numbers: under a citizen's key; the agency's for staff
);
CREATE UNIQUE INDEX identity_person_staff ON identity_person (staff) WHERE staff <> '';
CREATE UNIQUE INDEX identity_person_subject ON identity_person (subject) WHERE subject <> '' AND staff = '';

CREATE TABLE identity_passkey (
    id         BYTEA PRIMARY KEY,        -- the credential's id
    person     TEXT NOT NULL REFERENCES identity_person (id),
    sign_count BIGINT NOT NULL,        -- the last one seen
    added      BIGINT NOT NULL,
    used       BIGINT NOT NULL,
    sealed     BYTEA NOT NULL            -- public key and flags, under the agency's key
);
CREATE INDEX identity_passkey_person ON identity_passkey (person);

CREATE TABLE identity_link (
    hash    BYTEA PRIMARY KEY,           -- SHA-256 of the token
    person  TEXT NOT NULL REFERENCES identity_person (id),
    expires BIGINT NOT NULL,
    used    BIGINT NOT NULL,           -- 0 until it is
    sealed  BYTEA NOT NULL               -- person and expiry again, under the agency's key
);
CREATE INDEX identity_link_person ON identity_link (person);

CREATE TABLE identity_session (
    hash    BYTEA PRIMARY KEY,           -- SHA-256 of the cookie's token
    person  TEXT NOT NULL REFERENCES identity_person (id),
    started BIGINT NOT NULL,
    seen    BIGINT NOT NULL,
    sealed  BYTEA NOT NULL,              -- person, start, sign-in, client: under the agency's key
    work    BYTEA                        -- purpose and case, likewise; NULL if none was chosen
);
CREATE INDEX identity_session_person ON identity_session (person);
CREATE INDEX identity_session_seen ON identity_session (seen);
