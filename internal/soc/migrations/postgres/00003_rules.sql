-- +goose Up
ALTER TABLE soc_alert ADD COLUMN last_log BIGINT NOT NULL DEFAULT 0; -- the newest received event counted; last_seq is the newest of the journal
ALTER TABLE soc_alert ADD COLUMN kept BIGINT NOT NULL DEFAULT 0; -- events whose fields are kept
ALTER TABLE soc_alert ADD COLUMN verdict TEXT NOT NULL DEFAULT ''; -- of a closed one: true_positive, benign, false_positive
ALTER TABLE soc_alert ADD COLUMN suppression TEXT NOT NULL DEFAULT ''; -- what suppresses it
UPDATE soc_alert SET last_log = last_seq,
    last_seq = COALESCE((SELECT MAX(e.seq) FROM soc_alert_event e WHERE e.alert = soc_alert.id AND e.seq < 4611686018427387904), 0)
    WHERE last_seq >= 4611686018427387904;
CREATE INDEX soc_alert_rule ON soc_alert (rule, last_at);
CREATE INDEX soc_alert_suppression ON soc_alert (suppression);

ALTER TABLE soc_alert_event ADD COLUMN detail BYTEA; -- JSON of a received event's fields, sealed under the agency's key

CREATE TABLE soc_suppression (
    id        TEXT PRIMARY KEY, -- 128 random bits in hex
    rule      TEXT NOT NULL, -- the rule's id
    at        BIGINT NOT NULL, -- Unix milliseconds when it was made
    until     BIGINT NOT NULL, -- Unix milliseconds when it ends by itself
    approved  BIGINT NOT NULL, -- Unix milliseconds when it came into force, 0 while it waits for a supervisor
    ended     BIGINT NOT NULL, -- Unix milliseconds when it was ended or refused, 0 if it was not
    detail    BYTEA NOT NULL, -- JSON of what it suppresses, why and who made it, sealed under the agency's key
    approving BYTEA NOT NULL, -- JSON of who approved it, likewise; empty if nobody did
    ending    BYTEA NOT NULL -- JSON of who ended it, likewise; empty if nobody did
);
CREATE INDEX soc_suppression_until ON soc_suppression (until);

CREATE TABLE soc_rule_count (
    rule    TEXT NOT NULL, -- the rule's id
    at      BIGINT NOT NULL, -- Unix milliseconds when the quarter of an hour began
    matches BIGINT NOT NULL,
    PRIMARY KEY (rule, at)
);
CREATE INDEX soc_rule_count_at ON soc_rule_count (at);

CREATE TABLE soc_source_count (
    source TEXT NOT NULL, -- JSON list of the logsources that the events are of
    at     BIGINT NOT NULL, -- Unix milliseconds when the quarter of an hour began
    events BIGINT NOT NULL,
    PRIMARY KEY (source, at)
);
CREATE INDEX soc_source_count_at ON soc_source_count (at);
