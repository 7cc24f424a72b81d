-- The boards, their periods, who stands where, and the final tables of closed periods.

CREATE TABLE scores.boards (
  board        text    PRIMARY KEY CHECK (board ~ '^[a-z][a-z0-9_-]{0,31}$'),
  title        text    NOT NULL,
  operator     text    NOT NULL CHECK (operator IN ('sum', 'best', 'latest')),
  ordering     text    NOT NULL CHECK (ordering IN ('descending', 'ascending')),
  ties         text    NOT NULL CHECK (ties IN ('first_to_reach', 'shared', 'dense')),
  action_types text[]  NOT NULL,  -- that count; empty: all
  every        text    NOT NULL CHECK (every IN ('none', 'day', 'week', 'month')),
  reset_at     time    NOT NULL,  -- in the zone
  zone         text    NOT NULL,  -- IANA name
  entries      int     NOT NULL CHECK (entries BETWEEN 10 AND 100),  -- its live channel shows
  public       boolean NOT NULL,
  built_in     boolean NOT NULL DEFAULT false,
  listed       boolean NOT NULL DEFAULT false,  -- it is filled from the ledger before it is listed
  filled_upto  uuid,                            -- the player up to whom it is filled
  created_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO scores.boards (board, title, operator, ordering, ties, action_types, every, reset_at, zone,
                           entries, public, built_in, listed) VALUES
  ('all_time', 'All time',   'sum', 'descending', 'first_to_reach', '{}', 'none',  '00:00', 'UTC', 10, true, true, true),
  ('daily',    'Today',      'sum', 'descending', 'first_to_reach', '{}', 'day',   '00:00', 'UTC', 10, true, true, true),
  ('weekly',   'This week',  'sum', 'descending', 'first_to_reach', '{}', 'week',  '00:00', 'UTC', 10, true, true, true),
  ('monthly',  'This month', 'sum', 'descending', 'first_to_reach', '{}', 'month', '00:00', 'UTC', 10, true, true, true);

-- The runs of each board, made ahead by a job: the one place that says which period a moment
-- belongs to. Zones and their summer times are worked out once, when a row is made.
CREATE TABLE scores.periods (
  board     text        NOT NULL REFERENCES scores.boards,
  period    bigint      NOT NULL,  -- its start in Unix ms; 0 for a board that never resets
  starts    timestamptz NOT NULL,
  ends      timestamptz NOT NULL,  -- infinity for a board that never resets
  closed_at timestamptz,           -- its final table is frozen
  seq_upto  bigint,                -- reversals above it came after the final table
  players   bigint,
  hash      bytea,                 -- of the final table
  signature bytea,                 -- of the hash
  key_id    int,                   -- of the signature
  published boolean NOT NULL DEFAULT false,  -- its closing is in the event stream
  PRIMARY KEY (board, period),
  CHECK (starts < ends),
  -- Closed is what has a sealed final table, all of it in one transaction.
  CHECK (num_nulls(closed_at, seq_upto, players, hash, signature, key_id) IN (0, 6))
);
CREATE INDEX periods_to_close ON scores.periods (ends) WHERE closed_at IS NULL;
CREATE INDEX periods_to_publish ON scores.periods (closed_at) WHERE NOT published AND closed_at IS NOT NULL;
INSERT INTO scores.periods (board, period, starts, ends) VALUES ('all_time', 0, '-infinity', 'infinity');

-- Who stands where on boards that an admin added, and in finished periods of the built-in ones
-- that are not closed yet. A row without seq has no award in force: it is not on the board.
CREATE TABLE scores.standings (
  board   text   NOT NULL,
  period  bigint NOT NULL,
  user_id uuid   NOT NULL,
  score   bigint NOT NULL CHECK (score BETWEEN -9007199254740991 AND 9007199254740991),
  seq     bigint,       -- of the award in force that reached the score
  at      timestamptz,  -- and its time
  PRIMARY KEY (board, period, user_id)
) WITH (fillfactor = 80);

CREATE TABLE scores.finals (  -- of closed periods: never changed but for `removed`
  board      text    NOT NULL,
  period     bigint  NOT NULL,
  position   bigint  NOT NULL,  -- from 1, in the board's order
  user_id    uuid    NOT NULL,
  score      bigint  NOT NULL,
  seq        bigint  NOT NULL,
  reached_at timestamptz NOT NULL,
  removed    boolean NOT NULL DEFAULT false,  -- the ledger no longer says so
  PRIMARY KEY (board, period, position),
  UNIQUE (board, period, user_id)
);
CREATE INDEX finals_by_score ON scores.finals (board, period, score, position);

-- Who was hidden when a period closed, and so is not in its final table though the ledger would
-- say so. Part of what is hashed.
CREATE TABLE scores.left_out (
  board   text   NOT NULL,
  period  bigint NOT NULL,
  user_id uuid   NOT NULL,
  PRIMARY KEY (board, period, user_id)
);

-- A player's place on a board after one more award: the score, and sequence and time (Unix ms) of
-- the award that reached it. An award that leaves the score as it is leaves the place as well.
CREATE FUNCTION scores.place_after(
  place bigint[], operator text, ordering text, points bigint, seq bigint, at timestamptz)
RETURNS bigint[] LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  v_score bigint := CASE WHEN place IS NULL OR operator = 'latest' THEN points
                         WHEN operator = 'sum' THEN place[1] + points
                         WHEN ordering = 'ascending' THEN least(place[1], points)
                         ELSE greatest(place[1], points) END;
BEGIN
  RETURN CASE WHEN v_score = place[1] THEN place
              ELSE ARRAY[v_score, seq, (extract(epoch FROM at) * 1000)::bigint] END;
END $$;

-- The place that a player's awards give on a board, taken in the order of the ledger: everything
-- that places players uses this, so that counting one award and counting all again agree.
CREATE AGGREGATE scores.place(operator text, ordering text, points bigint, seq bigint, at timestamptz)
  (SFUNC = scores.place_after, STYPE = bigint[]);

-- Where players stand in every period that is not closed. The built-in boards' running periods
-- stand in the player's row; a finished one that stands there still counts until it is closed.
CREATE FUNCTION scores.standing_of(p_user uuid[])
RETURNS TABLE (board text, period bigint, user_id uuid, version bigint, score bigint, seq bigint,
               at timestamptz, hidden boolean)
LANGUAGE sql STABLE AS $$
  SELECT s.board, s.period, p.user_id, p.version, s.score, s.seq, s.at, p.hidden
  FROM scores.players p
  CROSS JOIN LATERAL (
    SELECT v.board, v.period, v.score, v.seq, v.at
    FROM (VALUES ('all_time', 0::bigint, p.total, p.reached_seq, p.reached_at),
                 ('daily', p.day, p.day_total, p.day_seq, p.day_at),
                 ('weekly', p.week, p.week_total, p.week_seq, p.week_at),
                 ('monthly', p.month, p.month_total, p.month_seq, p.month_at))
      AS v(board, period, score, seq, at)
    JOIN scores.periods o ON o.board = v.board AND o.period = v.period AND o.closed_at IS NULL
    UNION ALL
    SELECT k.board, k.period, k.score, k.seq, k.at
    FROM scores.standings k
    JOIN scores.periods o ON o.board = k.board AND o.period = k.period AND o.closed_at IS NULL
    WHERE k.user_id = p.user_id
  ) s
  WHERE p.user_id = ANY (p_user)
$$;

-- What the awards in force say of players on every board's open periods.
CREATE FUNCTION scores.counted(p_user uuid[])
RETURNS TABLE (board text, period bigint, user_id uuid, score bigint, seq bigint, at timestamptz)
LANGUAGE sql STABLE AS $$
  SELECT c.board, c.period, c.user_id, c.place[1], c.place[2], to_timestamp(c.place[3] / 1000.0)
  FROM (SELECT b.board, p.period, f.user_id,
               scores.place(b.operator, b.ordering, f.points, f.seq, f.at ORDER BY f.seq) AS place
        FROM scores.in_force f
        JOIN scores.boards b ON b.action_types = '{}' OR f.action_type = ANY (b.action_types)
        JOIN scores.periods p ON p.board = b.board AND p.closed_at IS NULL AND p.starts <= f.at AND f.at < p.ends
        WHERE f.user_id = ANY (p_user)
        GROUP BY b.board, p.period, f.user_id) c
$$;

-- Where players stand otherwise than their awards in force say, on those boards.
CREATE FUNCTION scores.miscounted(p_user uuid[], p_board text[])
RETURNS TABLE (board text, period bigint, user_id uuid, score bigint, counted bigint)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan  -- planning for every month of the ledger costs three milliseconds
SET enable_seqscan = off                  -- a generic plan made while a table is empty must not stay a scan
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT board, period, user_id, s.score, c.score
  FROM (SELECT q.board, q.period, q.user_id, q.score, q.seq
        FROM scores.standing_of(p_user) q WHERE q.seq IS NOT NULL) s
  FULL JOIN scores.counted(p_user) c USING (board, period, user_id)
  WHERE board = ANY (p_board) AND (s.score IS DISTINCT FROM c.score OR s.seq IS DISTINCT FROM c.seq);
END $$;

GRANT SELECT, INSERT, UPDATE ON scores.boards TO scores;
GRANT SELECT, INSERT, UPDATE, DELETE ON scores.periods, scores.standings TO scores;
GRANT SELECT, INSERT ON scores.finals, scores.left_out TO scores;
GRANT UPDATE (removed) ON scores.finals TO scores;
