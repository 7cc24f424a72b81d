-- Action types, one row per action that was requested, the players' lock rows, and the
-- incidents that are still to be reported. All times are Unix milliseconds of the service's
-- clock, since the sealed tokens carry the same ones.

CREATE TABLE actions.action_types (
  action_type     text    PRIMARY KEY CHECK (action_type ~ '^[A-Z][A-Z0-9_]{1,39}$'),
  title           text    NOT NULL,
  points          bigint  NOT NULL CHECK (points >= 0),
  min_duration_ms bigint  NOT NULL CHECK (min_duration_ms >= 0),
  max_duration_ms bigint  NOT NULL CHECK (max_duration_ms >= min_duration_ms),
  token_ttl_s     int     NOT NULL CHECK (token_ttl_s::bigint * 1000 > max_duration_ms),
  daily_cap       int     CHECK (daily_cap >= 1),  -- null: none
  max_open        int     CHECK (max_open >= 1),   -- null: shares the common limit
  authoritative   boolean NOT NULL,
  formula         text    NOT NULL DEFAULT '',  -- that computes the points; '': they are fixed
  points_min      bigint,
  points_max      bigint,
  times_since_ms  bigint  NOT NULL DEFAULT 0,   -- since when the durations are as they are
  CHECK (CASE WHEN formula = ''
              THEN points >= 1 AND points_min IS NULL AND points_max IS NULL
              ELSE points_min >= 1 AND points_min IS NOT NULL
                   AND points_max >= points_min AND points_max IS NOT NULL END)
);

-- One row: the number of changes to the table above, so that a replica sees at a glance
-- whether the catalogue it holds is the present one.
CREATE TABLE actions.catalogue (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  version  bigint  NOT NULL
);

INSERT INTO actions.action_types (action_type, title, points, min_duration_ms, max_duration_ms,
                                  token_ttl_s, daily_cap, max_open, authoritative) VALUES
  ('WIN_GAME',       'Win a game',       50,  1000, 300000, 330, NULL, NULL, false),
  ('COMPLETE_QUEST', 'Complete a quest', 100, 1000, 300000, 330, NULL, NULL, false),
  ('COMPLETE_LEVEL', 'Complete a level', 10,  1000, 300000, 330, NULL, NULL, false);
INSERT INTO actions.catalogue (version) VALUES (1);

CREATE TABLE actions.players (  -- locked while a player's open tokens are counted
  user_id uuid PRIMARY KEY
);

CREATE TABLE actions.actions (
  action_id          uuid     PRIMARY KEY,
  user_id            uuid     NOT NULL,
  action_type        text     NOT NULL,
  points             bigint   NOT NULL,  -- 0: its proof decides
  nonce              bytea    NOT NULL,
  kid                smallint NOT NULL,  -- of the keys that sealed its tokens and signed for it
  token_sha256       bytea    NOT NULL,
  issued_at_ms       bigint   NOT NULL,
  expires_at_ms      bigint   NOT NULL,  -- of its newest token
  pool               text     NOT NULL,  -- whose open tokens it counts among: '' or its own type's
  capped             boolean  NOT NULL,  -- its type has a daily cap
  state              text     NOT NULL DEFAULT 'requested'
    CHECK (state IN ('requested', 'completed', 'awarded', 'refused', 'given_up')),
  wrong_signatures   smallint NOT NULL DEFAULT 0,
  completed_checksum bytea,  -- of the proof that completed it
  completed_sha256   bytea   -- of its newest token since then
);
CREATE INDEX actions_open ON actions.actions (user_id, expires_at_ms)
  WHERE state IN ('requested', 'completed');
CREATE INDEX actions_capped ON actions.actions (user_id, issued_at_ms) WHERE capped;

CREATE TABLE actions.incidents (  -- not yet acknowledged by fraud
  incident_id   uuid   PRIMARY KEY,
  user_id       uuid   NOT NULL,
  rule          text   NOT NULL,
  action_id     uuid   NOT NULL,
  action_type   text   NOT NULL,
  observed      bigint NOT NULL,
  threshold     bigint NOT NULL,
  at_ms         bigint NOT NULL,
  other_user_id uuid
);

-- The statements on actions.actions are functions for one reason: `enable_seqscan = off`.
-- A generic plan made while the table is young would scan it, and stay. Poolers drop such
-- settings of a session, and a function's own settings cannot be forgotten.

-- Issues a batch: a row per item, `issued`, `pending` (too many open tokens) or `capped`, and
-- when the first open token of its pool expires. Several items of one player apply in order.
CREATE FUNCTION actions.issue(
  p_action uuid[], p_user uuid[], p_type text[], p_points bigint[], p_nonce bytea[],
  p_kid smallint, p_sha256 bytea[], p_expires_at_ms bigint[],
  p_pool text[], p_pool_max int[], p_cap int[], p_now_ms bigint)
RETURNS TABLE (ord bigint, outcome text, freed_at_ms bigint)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_nestloop = off  -- estimates out of CTEs are a few rows: nested loops there are O(n²)
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
  v_day_ms bigint := p_now_ms - p_now_ms % 86400000;  -- since when it is this day, UTC
BEGIN
  -- Creates and locks the players' rows, in id order so that batches cannot deadlock:
  -- `WHERE false` writes nothing, yet the row is locked.
  INSERT INTO actions.players (user_id)
  SELECT DISTINCT u FROM unnest(p_user) AS u ORDER BY u
  ON CONFLICT (user_id) DO UPDATE SET user_id = excluded.user_id WHERE false;

  -- A statement of its own, so that its snapshot is taken under the locks.
  RETURN QUERY
  WITH item AS MATERIALIZED (
    SELECT i.*
    FROM unnest(p_action, p_user, p_type, p_points, p_nonce, p_sha256, p_expires_at_ms,
                p_pool, p_pool_max, p_cap) WITH ORDINALITY
      AS i(action_id, user_id, action_type, points, nonce, sha256, expires_at_ms,
           pool, pool_max, cap, ord)
  ), today AS MATERIALIZED (
    SELECT a.user_id, a.action_type, count(*) AS issued
    FROM actions.actions a
    WHERE a.capped AND a.user_id = ANY (p_user)
      AND a.issued_at_ms >= v_day_ms AND a.issued_at_ms < v_day_ms + 86400000
    GROUP BY a.user_id, a.action_type
  ), still_open AS MATERIALIZED (
    SELECT a.user_id, a.pool, count(*) AS held, min(a.expires_at_ms) AS first_ms
    FROM actions.actions a
    WHERE a.state IN ('requested', 'completed') AND a.user_id = ANY (p_user)
      AND a.expires_at_ms > p_now_ms
    GROUP BY a.user_id, a.pool
  ), counted AS (
    SELECT i.*, i.cap IS NULL OR coalesce(t.issued, 0) + row_number() OVER (
             PARTITION BY i.user_id, i.action_type ORDER BY i.ord) <= i.cap AS below_cap
    FROM item i LEFT JOIN today t ON t.user_id = i.user_id AND t.action_type = i.action_type
  ), judged AS MATERIALIZED (
    SELECT c.*, o.first_ms, c.below_cap AND coalesce(o.held, 0) + count(*) FILTER (WHERE c.below_cap) OVER (
             PARTITION BY c.user_id, c.pool ORDER BY c.ord) <= c.pool_max AS fits
    FROM counted c LEFT JOIN still_open o ON o.user_id = c.user_id AND o.pool = c.pool
  ), issued AS (
    INSERT INTO actions.actions (action_id, user_id, action_type, points, nonce, kid,
                                 token_sha256, issued_at_ms, expires_at_ms, pool, capped)
    SELECT j.action_id, j.user_id, j.action_type, j.points, j.nonce, p_kid,
           j.sha256, p_now_ms, j.expires_at_ms, j.pool, j.cap IS NOT NULL
    FROM judged j WHERE j.fits
  )
  SELECT j.ord, CASE WHEN j.fits THEN 'issued' WHEN j.below_cap THEN 'pending' ELSE 'capped' END,
         least(j.first_ms, min(j.expires_at_ms) FILTER (WHERE j.fits) OVER (
           PARTITION BY j.user_id, j.pool))
  FROM judged j;
END $$;

-- Those of the actions that are settled; the others, and unknown ones, are left out.
CREATE FUNCTION actions.settled(p_action uuid[]) RETURNS TABLE (action_id uuid, state text)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT a.action_id, a.state FROM actions.actions a
  WHERE a.action_id = ANY (p_action) AND a.state IN ('awarded', 'refused', 'given_up');
END $$;

CREATE FUNCTION actions.find(p_action uuid[])
RETURNS TABLE (
  action_id uuid, user_id uuid, action_type text, points bigint, nonce bytea, kid smallint,
  issued_at_ms bigint, expires_at_ms bigint, state text, completed_checksum bytea)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT a.action_id, a.user_id, a.action_type, a.points, a.nonce, a.kid,
         a.issued_at_ms, a.expires_at_ms, a.state, a.completed_checksum
  FROM actions.actions a WHERE a.action_id = ANY (p_action);
END $$;

-- Completes actions by their proofs' checksums: a row for each that now is completed by the
-- answered one. One that was completed by the same checksum before is a repeat.
CREATE FUNCTION actions.complete(
  p_action uuid[], p_points bigint[], p_checksum bytea[], p_sha256 bytea[],
  p_expires_at_ms bigint)
RETURNS TABLE (action_id uuid, checksum bytea, repeat boolean)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
AS $$
#variable_conflict use_column
BEGIN
  -- Here and below: locked in id order first, so that batches cannot deadlock.
  PERFORM FROM actions.actions a WHERE a.action_id = ANY (p_action)
  ORDER BY a.action_id FOR NO KEY UPDATE;
  RETURN QUERY
  UPDATE actions.actions a
     SET state = 'completed', points = c.points, completed_checksum = c.checksum,
         completed_sha256 = c.sha256, expires_at_ms = p_expires_at_ms
    FROM unnest(p_action, p_points, p_checksum, p_sha256)
      AS c(action_id, points, checksum, sha256)
    JOIN actions.actions b ON b.action_id = c.action_id  -- as it was before
   WHERE a.action_id = c.action_id AND a.action_id = ANY (p_action)
     AND (a.state = 'requested' OR a.state = 'completed' AND a.completed_checksum = c.checksum)
  RETURNING a.action_id, a.completed_checksum, b.state = 'completed';
END $$;

-- Settles open actions; one that is awarded is so from any state. Returns the players
-- whose tokens no longer are open.
CREATE FUNCTION actions.settle(p_action uuid[], p_state text[]) RETURNS TABLE (user_id uuid)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
AS $$
#variable_conflict use_column
BEGIN
  PERFORM FROM actions.actions a WHERE a.action_id = ANY (p_action)
  ORDER BY a.action_id FOR NO KEY UPDATE;
  RETURN QUERY
  UPDATE actions.actions a SET state = s.state
    FROM unnest(p_action, p_state) AS s(action_id, state)
   WHERE a.action_id = s.action_id
     AND (a.state IN ('requested', 'completed') OR s.state = 'awarded' AND a.state <> 'awarded')
  RETURNING a.user_id;
END $$;

-- Counts wrong signatures against open actions, closes those that `p_closes` names and those
-- with three, and keeps the incidents to be reported. Returns what it closed.
CREATE FUNCTION actions.record(
  p_action uuid[], p_closes boolean[],
  p_incident uuid[], p_user uuid[], p_rule text[], p_of_action uuid[], p_type text[],
  p_observed bigint[], p_threshold bigint[], p_at_ms bigint, p_other uuid[])
RETURNS TABLE (action_id uuid, user_id uuid)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
AS $$
#variable_conflict use_column
BEGIN
  PERFORM FROM actions.actions a WHERE a.action_id = ANY (p_action)
  ORDER BY a.action_id FOR NO KEY UPDATE;
  INSERT INTO actions.incidents (incident_id, user_id, rule, action_id, action_type,
                                 observed, threshold, at_ms, other_user_id)
  SELECT i.incident_id, i.user_id, i.rule, i.action_id, i.action_type,
         i.observed, i.threshold, p_at_ms, i.other
  FROM unnest(p_incident, p_user, p_rule, p_of_action, p_type, p_observed, p_threshold, p_other)
    AS i(incident_id, user_id, rule, action_id, action_type, observed, threshold, other)
  ORDER BY i.incident_id
  ON CONFLICT (incident_id) DO NOTHING;
  RETURN QUERY
  WITH incident AS (
    SELECT o.action_id, count(*) FILTER (WHERE NOT o.closes) AS wrong, bool_or(o.closes) AS closes
    FROM unnest(p_action, p_closes) AS o(action_id, closes)
    GROUP BY o.action_id
  ), counted AS (
    UPDATE actions.actions a
       SET wrong_signatures = least(a.wrong_signatures + o.wrong, 3),
           state = CASE WHEN o.closes OR a.wrong_signatures + o.wrong >= 3
                        THEN 'refused' ELSE a.state END
      FROM incident o
     WHERE a.action_id = o.action_id AND a.state IN ('requested', 'completed')
    RETURNING a.action_id, a.user_id, a.state
  )
  SELECT c.action_id, c.user_id FROM counted c WHERE c.state = 'refused';
END $$;

GRANT USAGE ON SCHEMA actions TO actions;
GRANT SELECT ON actions.migrations TO actions;
GRANT SELECT, INSERT ON actions.action_types TO actions;
GRANT UPDATE (title, points, min_duration_ms, max_duration_ms, token_ttl_s, daily_cap, max_open,
              authoritative, formula, points_min, points_max, times_since_ms)
  ON actions.action_types TO actions;
GRANT SELECT, UPDATE (version) ON actions.catalogue TO actions;
GRANT SELECT, INSERT, UPDATE ON actions.players TO actions;
GRANT SELECT, INSERT ON actions.actions TO actions;
GRANT UPDATE (state, points, wrong_signatures, completed_checksum, completed_sha256,
              expires_at_ms)
  ON actions.actions TO actions;
GRANT SELECT, INSERT, DELETE ON actions.incidents TO actions;
