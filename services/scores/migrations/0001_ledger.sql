-- The ledger of awards, every player's running totals, and what is still to be told
-- about each award. docs/decisions/0001-ledger-as-redemption.md says why.

-- One value per batch: the batch owns base + 1 … base + 256, given out in batch order
-- by arithmetic. Every other writer of a sequence takes a whole block as well.
CREATE SEQUENCE scores.seq AS bigint INCREMENT BY 256 MINVALUE 0 START WITH 0 CACHE 1;

CREATE TABLE scores.players (
  user_id          uuid    PRIMARY KEY,
  username         text    NOT NULL,
  name_version     bigint  NOT NULL,
  total            bigint  NOT NULL DEFAULT 0 CHECK (total BETWEEN -9007199254740991 AND 9007199254740991),
  version          bigint  NOT NULL DEFAULT 0,  -- one more with each ledger row
  reached_seq      bigint,
  -- The running periods, by their first day (UTC). A finished one moves to
  -- scores.period_totals with the player's next award. Upserts of three period
  -- rows were half of the whole cost of an award.
  day   date, day_total   bigint, day_seq   bigint,
  week  date, week_total  bigint, week_seq  bigint,
  month date, month_total bigint, month_seq bigint,
  hidden           boolean NOT NULL DEFAULT false,
  sanction_version bigint  NOT NULL DEFAULT 0
) WITH (fillfactor = 80);  -- no index on a total here, so that every award stays a HOT update

-- The ledger row is the token's redemption: a token is used if and only if its row is here.
CREATE TABLE scores.ledger (
  action_id   uuid        NOT NULL,
  user_id     uuid        NOT NULL,
  action_type text        NOT NULL,
  points      bigint      NOT NULL,
  old_score   bigint      NOT NULL,
  new_score   bigint      NOT NULL,
  version     bigint      NOT NULL,
  seq         bigint      NOT NULL,
  at          timestamptz NOT NULL,
  attempt_id  uuid        NOT NULL,
  key_hash    bytea,
  body_hash   bytea,
  PRIMARY KEY (action_id),
  CHECK (new_score = old_score + points)
) PARTITION BY RANGE (action_id);  -- UUIDv7 sorts by time, so bounds of months are bounds of ids

CREATE FUNCTION scores.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE 'the ledger is insert-only';
END $$;
CREATE TRIGGER insert_only BEFORE UPDATE OR DELETE ON scores.ledger
  FOR EACH ROW EXECUTE FUNCTION scores.refuse();

CREATE TABLE scores.period_totals (  -- finished periods
  board       text   NOT NULL,
  period      date   NOT NULL,
  user_id     uuid   NOT NULL,
  total       bigint NOT NULL,
  reached_seq bigint NOT NULL,
  PRIMARY KEY (board, period, user_id)
);

CREATE TABLE scores.outbox (  -- awards whose board, event or settlement is not acknowledged
  seq         bigint      PRIMARY KEY,
  action_id   uuid        NOT NULL,
  user_id     uuid        NOT NULL,
  username    text        NOT NULL,
  version     bigint      NOT NULL,
  action_type text        NOT NULL,
  points      bigint      NOT NULL,
  old_score   bigint      NOT NULL,
  new_score   bigint      NOT NULL,
  day_total   bigint      NOT NULL,
  week_total  bigint      NOT NULL,
  month_total bigint      NOT NULL,
  hidden      boolean     NOT NULL,
  at          timestamptz NOT NULL,
  published   boolean     NOT NULL DEFAULT false  -- board and event are; the settlement is not
);

CREATE TABLE scores.receipts (  -- what was answered beside the ledger row
  action_id uuid    PRIMARY KEY,
  rank      bigint,
  old_rank  bigint,
  warnings  text    NOT NULL,  -- separated by commas
  held      boolean NOT NULL
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

CREATE FUNCTION scores.add_players(p_user uuid[], p_name text[], p_name_version bigint[])
RETURNS void LANGUAGE sql AS $$
  INSERT INTO scores.players (user_id, username, name_version)
  SELECT DISTINCT ON (u.id) u.id, u.name, u.version
  FROM unnest(p_user, p_name, p_name_version) AS u(id, name, version)
  ORDER BY u.id, u.version DESC
  ON CONFLICT (user_id) DO NOTHING
$$;

-- Awards a batch of at most 256 items, each action once. Raises SC404 when a player is
-- unknown: the caller adds the players in a transaction of its own and repeats (made here,
-- after some locks, they could deadlock). Answers a row per item: `inserted`; `seen` with
-- the row that was there; `copy` with the row of an earlier item of the same action.
-- unique_violation means that two players share an action id: the caller repeats the batch.
CREATE FUNCTION scores.award(
  p_action uuid[], p_user uuid[], p_type text[], p_points bigint[],
  p_attempt uuid[], p_key bytea[], p_body bytea[], p_offset interval)
RETURNS TABLE (
  ord int, outcome text, user_id uuid, action_type text, points bigint, old_score bigint,
  new_score bigint, version bigint, seq bigint, at_ms bigint, attempt_id uuid,
  key_hash bytea, body_hash bytea, day_total bigint, week_total bigint, month_total bigint,
  hidden boolean, username text, name_version bigint)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan  -- planning the big statement costs half a millisecond a call
SET enable_nestloop = off                 -- estimates out of CTEs are 1-10 rows: nested loops there are O(n²)
SET enable_seqscan = off                  -- a generic plan made while a table is empty must not stay a scan
AS $$
#variable_conflict use_column
DECLARE
  n      constant int := cardinality(p_action);
  v_ids  uuid[];
  v_user uuid[]; v_name text[]; v_name_version bigint[];
  v_total bigint[]; v_version bigint[]; v_hidden boolean[];
  v_day date[]; v_day_total bigint[]; v_day_seq bigint[];
  v_week date[]; v_week_total bigint[]; v_week_seq bigint[];
  v_month date[]; v_month_total bigint[]; v_month_seq bigint[];
  v_base bigint;
  v_at   timestamptz;
  v_ms   bigint;
  v_d date; v_w date; v_m date;
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE 'scores.award needs READ COMMITTED: its second statement must see a fresh snapshot'
      USING ERRCODE = 'invalid_transaction_state';
  END IF;
  IF n > 256 OR cardinality(p_user) <> n OR cardinality(p_type) <> n OR cardinality(p_points) <> n
     OR cardinality(p_attempt) <> n OR cardinality(p_key) <> n OR cardinality(p_body) <> n THEN
    RAISE 'arrays differ in length or hold more than 256 items'
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  -- First of all locks, and before the clock: the closing of periods takes it exclusively.
  PERFORM pg_advisory_xact_lock_shared(7001, 1);

  -- Statement 1: lock the players in id order; what it answers is each row under the lock.
  SELECT array_agg(x.user_id), array_agg(x.username), array_agg(x.name_version),
         array_agg(x.total), array_agg(x.version), array_agg(x.hidden),
         array_agg(x.day), array_agg(x.day_total), array_agg(x.day_seq),
         array_agg(x.week), array_agg(x.week_total), array_agg(x.week_seq),
         array_agg(x.month), array_agg(x.month_total), array_agg(x.month_seq)
    INTO v_user, v_name, v_name_version, v_total, v_version, v_hidden,
         v_day, v_day_total, v_day_seq, v_week, v_week_total, v_week_seq,
         v_month, v_month_total, v_month_seq
  FROM (SELECT p.user_id, p.username, p.name_version, p.total, p.version, p.hidden,
               p.day, p.day_total, p.day_seq, p.week, p.week_total, p.week_seq,
               p.month, p.month_total, p.month_seq
        FROM scores.players p WHERE p.user_id = ANY (p_user)
        ORDER BY p.user_id FOR NO KEY UPDATE) x;
  IF (SELECT count(DISTINCT u) FROM unnest(p_user) u) <> coalesce(cardinality(v_user), 0) THEN
    RAISE 'players missing' USING ERRCODE = 'SC404';
  END IF;

  v_at := date_trunc('milliseconds', clock_timestamp() + p_offset);
  v_ms := (extract(epoch FROM v_at) * 1000)::bigint;
  v_base := nextval('scores.seq');  -- under the locks: who locks a player later has a higher block
  v_d := (v_at AT TIME ZONE 'UTC')::date;
  v_w := date_trunc('week', v_at AT TIME ZONE 'UTC')::date;
  v_m := date_trunc('month', v_at AT TIME ZONE 'UTC')::date;
  -- Scalar bounds prune the partitions when the executor starts; = ANY (parameter) never does.
  SELECT array_agg(x ORDER BY x) INTO v_ids FROM unnest(p_action) x;

  -- Statement 2, with a fresh snapshot: an award committed before our lock is seen.
  RETURN QUERY
  WITH item AS (
    SELECT i.action_id, i.user_id, i.action_type, i.points, i.attempt_id, i.key_hash, i.body_hash,
           i.ord, row_number() OVER (PARTITION BY i.action_id ORDER BY i.ord) AS copy
    FROM unnest(p_action, p_user, p_type, p_points, p_attempt, p_key, p_body) WITH ORDINALITY
         AS i(action_id, user_id, action_type, points, attempt_id, key_hash, body_hash, ord)
  ), seen AS (
    SELECT l.action_id, l.user_id, l.action_type, l.points, l.old_score, l.new_score, l.version,
           l.seq, l.at, l.attempt_id, l.key_hash, l.body_hash
    FROM scores.ledger l
    WHERE l.action_id = ANY (p_action) AND l.action_id >= v_ids[1] AND l.action_id <= v_ids[n]
  ), who AS (
    SELECT w.user_id, w.username, w.name_version, w.total, w.version, w.hidden,
           w.day, w.day_total, w.day_seq, w.week, w.week_total, w.week_seq,
           w.month, w.month_total, w.month_seq
    FROM unnest(v_user, v_name, v_name_version, v_total, v_version, v_hidden,
                v_day, v_day_total, v_day_seq, v_week, v_week_total, v_week_seq,
                v_month, v_month_total, v_month_seq)
         AS w(user_id, username, name_version, total, version, hidden,
              day, day_total, day_seq, week, week_total, week_seq, month, month_total, month_seq)
  ), fresh AS MATERIALIZED (
    SELECT f.action_id, f.user_id, f.action_type, f.points, f.attempt_id, f.key_hash, f.body_hash,
           f.last, w.total + f.sum - f.points AS old_score, w.total + f.sum AS new_score,
           w.version + f.nth AS version, v_base + f.ord AS seq, w.hidden, w.username,
           CASE WHEN w.day = v_d THEN w.day_total ELSE 0 END + f.sum AS day_total,
           CASE WHEN w.week = v_w THEN w.week_total ELSE 0 END + f.sum AS week_total,
           CASE WHEN w.month = v_m THEN w.month_total ELSE 0 END + f.sum AS month_total
    FROM (SELECT i.action_id, i.user_id, i.action_type, i.points, i.attempt_id, i.key_hash,
                 i.body_hash, i.ord, sum(i.points) OVER mine::bigint AS sum,
                 row_number() OVER mine AS nth, lead(i.ord) OVER mine IS NULL AS last
          FROM item i LEFT JOIN seen s ON s.action_id = i.action_id
          WHERE i.copy = 1 AND s.action_id IS NULL
          WINDOW mine AS (PARTITION BY i.user_id ORDER BY i.ord)) f
    JOIN who w ON w.user_id = f.user_id
  ), led AS (
    -- In id order: two batches with the same ids give unique_violation, never a deadlock.
    INSERT INTO scores.ledger (action_id, user_id, action_type, points, old_score, new_score,
                               version, seq, at, attempt_id, key_hash, body_hash)
    SELECT f.action_id, f.user_id, f.action_type, f.points, f.old_score, f.new_score,
           f.version, f.seq, v_at, f.attempt_id, f.key_hash, f.body_hash
    FROM fresh f ORDER BY f.action_id
  ), moved AS (
    -- The index gets its own key: by join alone it would be read from end to end.
    UPDATE scores.players p
       SET total = f.new_score, version = f.version, reached_seq = f.seq,
           day = v_d, day_total = f.day_total, day_seq = f.seq,
           week = v_w, week_total = f.week_total, week_seq = f.seq,
           month = v_m, month_total = f.month_total, month_seq = f.seq
      FROM fresh f
     WHERE f.last AND p.user_id = f.user_id AND p.user_id = ANY (v_user)
  ), rolled AS (
    -- A player's first award in a new period keeps the finished one; additive, should the
    -- clock step back over the boundary.
    INSERT INTO scores.period_totals AS t (board, period, user_id, total, reached_seq)
    SELECT b.board, b.period, w.user_id, b.total, b.seq
    FROM who w, LATERAL (VALUES ('daily', w.day, w.day_total, w.day_seq, v_d),
                                ('weekly', w.week, w.week_total, w.week_seq, v_w),
                                ('monthly', w.month, w.month_total, w.month_seq, v_m))
         AS b(board, period, total, seq, present)
    WHERE b.period <> b.present AND w.user_id IN (SELECT f.user_id FROM fresh f)
    ORDER BY 1, 2, 3
    ON CONFLICT (board, period, user_id)
    DO UPDATE SET total = t.total + excluded.total, reached_seq = excluded.reached_seq
  ), told AS (
    INSERT INTO scores.outbox (seq, action_id, user_id, username, version, action_type, points,
                               old_score, new_score, day_total, week_total, month_total, hidden, at)
    SELECT f.seq, f.action_id, f.user_id, f.username, f.version, f.action_type, f.points,
           f.old_score, f.new_score, f.day_total, f.week_total, f.month_total, f.hidden, v_at
    FROM fresh f
  )
  SELECT i.ord::int,
         CASE WHEN s.action_id IS NOT NULL THEN 'seen' WHEN i.copy > 1 THEN 'copy' ELSE 'inserted' END,
         coalesce(f.user_id, s.user_id), coalesce(f.action_type, s.action_type),
         coalesce(f.points, s.points), coalesce(f.old_score, s.old_score),
         coalesce(f.new_score, s.new_score), coalesce(f.version, s.version),
         coalesce(f.seq, s.seq),
         CASE WHEN f.seq IS NULL THEN (extract(epoch FROM s.at) * 1000)::bigint ELSE v_ms END,
         coalesce(f.attempt_id, s.attempt_id),
         CASE WHEN f.seq IS NULL THEN s.key_hash ELSE f.key_hash END,
         CASE WHEN f.seq IS NULL THEN s.body_hash ELSE f.body_hash END,
         f.day_total, f.week_total, f.month_total, f.hidden, w.username, w.name_version
  FROM item i
  LEFT JOIN fresh f ON f.action_id = i.action_id
  LEFT JOIN seen s ON s.action_id = i.action_id
  LEFT JOIN who w ON w.user_id = i.user_id;
END $$;

-- Writes the receipts of awards whose board and event are acknowledged, and takes them out of
-- the outbox, or only marks them while their settlement is outstanding. Not worth a wait for
-- the disk: the relay does again what a crash forgets.
CREATE FUNCTION scores.acknowledge(
  p_seq bigint[], p_action uuid[], p_rank bigint[], p_old_rank bigint[], p_warnings text[],
  p_held boolean[], p_settled boolean)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  INSERT INTO scores.receipts (action_id, rank, old_rank, warnings, held)
  SELECT r.action_id, r.rank, r.old_rank, r.warnings, r.held
  FROM unnest(p_action, p_rank, p_old_rank, p_warnings, p_held)
       AS r(action_id, rank, old_rank, warnings, held)
  ON CONFLICT (action_id) DO NOTHING;
  IF p_settled THEN
    DELETE FROM scores.outbox WHERE seq = ANY (p_seq);
  ELSE
    UPDATE scores.outbox SET published = true WHERE seq = ANY (p_seq);
  END IF;
END $$;

GRANT USAGE ON SCHEMA scores TO scores;
GRANT USAGE ON SEQUENCE scores.seq TO scores;
GRANT SELECT ON scores.migrations TO scores;
GRANT SELECT, INSERT ON scores.ledger, scores.receipts TO scores;
GRANT SELECT, INSERT, UPDATE ON scores.players, scores.period_totals TO scores;
GRANT SELECT, INSERT, UPDATE, DELETE ON scores.outbox TO scores;
ANALYZE scores.players, scores.ledger, scores.outbox;
