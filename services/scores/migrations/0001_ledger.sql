-- The ledger, every player's running totals, and what is still to be published of each change.
-- docs/decisions/0001-ledger-as-redemption.md says why.

-- One value per batch: the batch owns base + 1 … base + 256, given out in batch order
-- by arithmetic. Every other writer of a sequence takes a whole block as well.
CREATE SEQUENCE scores.seq AS bigint INCREMENT BY 256 MINVALUE 0 START WITH 0 CACHE 1;

CREATE TABLE scores.players (
  user_id          uuid    PRIMARY KEY,
  username         text    NOT NULL,
  name_version     bigint  NOT NULL,
  version          bigint  NOT NULL DEFAULT 0,  -- one more with each ledger row, hiding and showing
  -- The place on the four built-in boards: the total, and the award in force that reached it
  -- (null: none is in force). Running periods are named by their start (Unix ms, UTC); a finished
  -- one moves to scores.standings with the player's next award. Upserts of three rows there were
  -- half of the whole cost of an award.
  total            bigint  NOT NULL DEFAULT 0 CHECK (total BETWEEN -9007199254740991 AND 9007199254740991),
  reached_seq      bigint,
  reached_at       timestamptz,
  day   bigint, day_total   bigint, day_seq   bigint, day_at   timestamptz,
  week  bigint, week_total  bigint, week_seq  bigint, week_at  timestamptz,
  month bigint, month_total bigint, month_seq bigint, month_at timestamptz,
  hidden           boolean NOT NULL DEFAULT false,
  sanction_version bigint  NOT NULL DEFAULT 0  -- twice fraud's; one more once it ended by itself
) WITH (fillfactor = 80);  -- no index on a total here, so that every award stays a HOT update

-- An award's row is its token's redemption: a token is used if and only if its row is here. One
-- that its player gave up is used for nothing: points, scores, version and seq are 0.
CREATE TABLE scores.ledger (
  action_id   uuid        NOT NULL,  -- of an award the action's id, of a reversal one of its own
  kind        text        NOT NULL DEFAULT 'award' CHECK (kind IN ('award', 'void', 'restore', 'given_up')),
  user_id     uuid        NOT NULL,
  action_type text        NOT NULL,
  points      bigint      NOT NULL,
  old_score   bigint      NOT NULL,
  new_score   bigint      NOT NULL,
  version     bigint      NOT NULL,
  seq         bigint      NOT NULL,
  at          timestamptz NOT NULL,
  attempt_id  uuid        NOT NULL,
  client_id   text,  -- the game server that granted it
  key_hash    bytea,
  body_hash   bytea,
  origin_id   uuid,  -- of a reversal: the award it is about
  PRIMARY KEY (action_id),
  CHECK (new_score = old_score + points),
  CHECK (kind <> 'award' OR points > 0),  -- so that each award moves the player's sums
  CHECK ((kind IN ('award', 'given_up')) = (origin_id IS NULL))
) PARTITION BY RANGE (action_id);  -- UUIDv7 sorts by time, so bounds of months are bounds of ids
CREATE INDEX ledger_of_player ON scores.ledger (user_id, seq);
-- Summarised as it grows: what is not, is read by every catch-up (scores.changes).
CREATE INDEX ledger_by_time ON scores.ledger USING brin (at) WITH (autosummarize = on);

CREATE FUNCTION scores.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE 'the ledger is insert-only';
END $$;
CREATE TRIGGER insert_only BEFORE UPDATE OR DELETE ON scores.ledger
  FOR EACH ROW EXECUTE FUNCTION scores.refuse();

-- A chain: a void reverses an award, a restore that void, a void that restore. The key lets each
-- row be reversed once. Not partitioned, so that it holds over all months.
CREATE TABLE scores.reversals (
  reverses_id uuid PRIMARY KEY,
  user_id     uuid NOT NULL,
  row_id      uuid NOT NULL,  -- the ledger row that reverses it
  origin_id   uuid NOT NULL,  -- the award at the chain's beginning
  kind        text NOT NULL CHECK (kind IN ('void', 'restore')),
  reason      text NOT NULL,
  actor       text NOT NULL   -- who ordered it
);
CREATE INDEX reversals_of_award ON scores.reversals (origin_id);

-- The awards that count: those whose chain does not end with a void.
CREATE VIEW scores.in_force AS
SELECT l.action_id, l.user_id, l.action_type, l.points, l.seq, l.at
FROM scores.ledger l
WHERE l.kind = 'award' AND NOT EXISTS (
  SELECT FROM scores.reversals v
  WHERE v.origin_id = l.action_id AND v.kind = 'void'
    AND NOT EXISTS (SELECT FROM scores.reversals r WHERE r.reverses_id = v.row_id));

CREATE TABLE scores.outbox (  -- changes whose boards, event or settlement are not acknowledged
  seq         bigint      PRIMARY KEY,
  kind        text        NOT NULL
    CHECK (kind IN ('award', 'void', 'restore', 'hidden', 'shown')),
  event_id    uuid        NOT NULL,  -- the ledger row's id, or one made for the event
  origin_id   uuid,
  user_id     uuid        NOT NULL,
  username    text        NOT NULL,
  version     bigint      NOT NULL,
  action_type text        NOT NULL,
  points      bigint      NOT NULL,
  old_score   bigint      NOT NULL,
  new_score   bigint      NOT NULL,
  hidden      boolean     NOT NULL,
  at          timestamptz NOT NULL,
  published   boolean     NOT NULL DEFAULT false  -- boards and event are; the settlement is not
);

-- Publications of changes that were written long before, by the minute: a reader that lost entries
-- of the stream since then may lack changes as old as `oldest`.
CREATE TABLE scores.late_publications (
  minute timestamptz PRIMARY KEY,
  oldest timestamptz NOT NULL
);

CREATE TABLE scores.receipts (  -- what was answered beside the ledger row
  action_id uuid    PRIMARY KEY,
  user_id   uuid    NOT NULL,
  rank      bigint,
  old_rank  bigint,
  warnings  text    NOT NULL,  -- separated by commas
  held      boolean NOT NULL
);

CREATE TABLE scores.incidents (  -- tokens shown again; fraud has not taken these yet
  incident_id uuid   PRIMARY KEY,
  user_id     uuid   NOT NULL,
  action_id   uuid   NOT NULL,
  action_type text   NOT NULL,
  at_ms       bigint NOT NULL
);

-- The lowest UUIDv7 of a moment: 48 bits of milliseconds, then zeros.
CREATE FUNCTION scores.id_floor(t timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
  SELECT (lpad(to_hex((extract(epoch FROM t) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Makes the ledger's partitions from the month before `p_now` to `p_months` after it.
CREATE FUNCTION scores.make_partitions(p_now timestamptz, p_months int) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_month timestamp := date_trunc('month', p_now AT TIME ZONE 'UTC');
  v_start timestamptz;
  v_end   timestamptz;
  v_name  text;
BEGIN
  PERFORM pg_advisory_xact_lock(7001, 2);
  FOR i IN -1 .. p_months LOOP
    v_start := (v_month + make_interval(months => i)) AT TIME ZONE 'UTC';
    v_end := (v_month + make_interval(months => i + 1)) AT TIME ZONE 'UTC';
    v_name := 'ledger_' || to_char(v_start AT TIME ZONE 'UTC', 'YYYYMM');
    IF to_regclass('scores.' || v_name) IS NULL THEN
      EXECUTE format('CREATE TABLE scores.%I PARTITION OF scores.ledger FOR VALUES FROM (%L) TO (%L)',
        v_name, scores.id_floor(v_start), scores.id_floor(v_end));
    END IF;
  END LOOP;
END $$;
SELECT scores.make_partitions(clock_timestamp(), 12);

GRANT USAGE ON SCHEMA scores TO scores;
GRANT USAGE ON SEQUENCE scores.seq TO scores;
GRANT SELECT ON scores.migrations, scores.in_force TO scores;
GRANT SELECT, INSERT ON scores.ledger, scores.reversals, scores.receipts TO scores;
GRANT SELECT, INSERT, UPDATE ON scores.players TO scores;
GRANT SELECT, INSERT, UPDATE, DELETE ON scores.outbox, scores.late_publications TO scores;
GRANT SELECT, INSERT, DELETE ON scores.incidents TO scores;
