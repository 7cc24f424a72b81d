-- Verdicts, sanctions and what led to them; fraud's own copy of the awards.

-- One row: the last version given to a sanction. A writer of one locks the row until
-- the commit, so the order of versions is the order of commits.
CREATE TABLE fraud.versions (
  one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
  version bigint  NOT NULL
);
INSERT INTO fraud.versions (version) VALUES (0);

CREATE TABLE fraud.sanctions (  -- each player's latest
  user_id uuid        PRIMARY KEY,
  kind    text        NOT NULL CHECK (kind IN ('none', 'flagged', 'quarantined', 'banned')),
  version bigint      NOT NULL UNIQUE,
  until   timestamptz,  -- null: until lifted
  cause   text        NOT NULL,  -- the rule
  at      timestamptz NOT NULL
);

CREATE TABLE fraud.verdicts (  -- all but allow, which the short windows keep for a while
  subject_id  uuid        PRIMARY KEY,  -- the action if it was accepted, else the attempt
  action_id   uuid        NOT NULL,
  user_id     uuid        NOT NULL,
  decision_id uuid        NOT NULL UNIQUE,
  decision    text        NOT NULL CHECK (decision IN ('flag', 'reject', 'ban')),
  ruleset     text        NOT NULL,
  reasons     jsonb       NOT NULL,
  facts       jsonb       NOT NULL,  -- the rules give the same reasons for them again
  strike      boolean     NOT NULL,  -- it rests on a burst that counts
  at          timestamptz NOT NULL
);
CREATE INDEX verdicts_of_user ON fraud.verdicts (user_id, at);
CREATE INDEX strikes_of_user ON fraud.verdicts (user_id, at) WHERE strike;

CREATE TABLE fraud.incidents (  -- what other units found
  incident_id   text        PRIMARY KEY,
  user_id       uuid        NOT NULL,
  rule          text        NOT NULL,
  action_id     uuid,
  action_type   text        NOT NULL,
  observed      bigint      NOT NULL,
  threshold     bigint      NOT NULL,
  other_user_id uuid,
  at            timestamptz NOT NULL,
  reported_at   timestamptz NOT NULL
);
CREATE INDEX incidents_of_user ON fraud.incidents (user_id, at);

CREATE TABLE fraud.cases (  -- what a moderator is to look at
  case_id   uuid        PRIMARY KEY,
  user_id   uuid        NOT NULL,
  rule      text        NOT NULL,
  source_id text        NOT NULL,  -- an incident's or a decision's id
  reasons   jsonb       NOT NULL,
  status    text        NOT NULL DEFAULT 'open',
  opened_at timestamptz NOT NULL,
  UNIQUE (source_id, user_id)
);

CREATE TABLE fraud.outbox (  -- sanctions on their way to the stream, bans on theirs to auth
  version  bigint      NOT NULL,
  target   text        NOT NULL CHECK (target IN ('stream', 'auth')),
  user_id  uuid        NOT NULL,
  kind     text        NOT NULL,
  until    timestamptz,
  cause    text        NOT NULL,
  attempts int         NOT NULL DEFAULT 0,
  due      timestamptz NOT NULL,
  done     timestamptz,
  PRIMARY KEY (version, target)
);
CREATE INDEX outbox_due ON fraud.outbox (target, version) WHERE done IS NULL;

CREATE TABLE fraud.events (  -- append-only: fraud's own copy of the awards
  event_id    uuid        PRIMARY KEY,
  kind        text        NOT NULL,
  seq         bigint      NOT NULL,
  user_id     uuid        NOT NULL,
  version     bigint      NOT NULL,
  action_type text        NOT NULL,
  points      bigint      NOT NULL,
  old_score   bigint      NOT NULL,
  new_score   bigint      NOT NULL,
  at          timestamptz NOT NULL
);

CREATE TABLE fraud.positions (  -- how far a stream has been copied
  stream   text   PRIMARY KEY,
  entry_id text   NOT NULL,  -- with the two below: chassis.redis.stream.Position
  entries  bigint NOT NULL,
  server   text   NOT NULL,
  -- While a catch-up from the ledger runs: of what was published since then (Unix ms), and the
  -- cursor behind what is copied. Null: none runs.
  since_ms bigint,
  cursor   text   NOT NULL DEFAULT ''
);
INSERT INTO fraud.positions (stream, entry_id, entries, server) VALUES ('awards', '0-0', 0, '');

GRANT USAGE ON SCHEMA fraud TO fraud;
GRANT SELECT ON fraud.migrations TO fraud;
GRANT SELECT, UPDATE ON fraud.versions, fraud.positions TO fraud;
GRANT SELECT, INSERT, UPDATE ON fraud.sanctions TO fraud;
GRANT SELECT, INSERT, UPDATE, DELETE ON fraud.outbox TO fraud;
GRANT SELECT, INSERT ON fraud.verdicts, fraud.incidents, fraud.cases, fraud.events TO fraud;
