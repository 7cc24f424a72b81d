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
  period    bigint      NOT NULL,  -- its start in Unix ms; 0 for a board that never begins anew
  starts    timestamptz NOT NULL,
  ends      timestamptz NOT NULL,  -- infinity for a board that never begins anew
  closed_at timestamptz,           -- its final table is frozen
  seq_upto  bigint,                -- reversals above it came after the final table
  players   bigint,
  hash      bytea,                 -- of the final table
  signature bytea,                 -- of the hash
  key_id    int,                   -- of the signature
  told      boolean NOT NULL DEFAULT false,  -- its closing is in the event stream
  PRIMARY KEY (board, period),
  CHECK (starts < ends),
  -- Closed is what has a sealed final table, all of it in one transaction.
  CHECK (num_nulls(closed_at, seq_upto, players, hash, signature, key_id) IN (0, 6))
);
CREATE INDEX periods_to_close ON scores.periods (ends) WHERE closed_at IS NULL;
CREATE INDEX periods_to_tell ON scores.periods (closed_at) WHERE NOT told AND closed_at IS NOT NULL;
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

-- Among the awards of one player on one board the first by this key gives the place: the newest
-- for sum and latest, the oldest of the best ones for best.
CREATE FUNCTION scores.place_key(operator text, ordering text, points bigint, seq bigint)
RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN operator <> 'best' THEN -seq WHEN ordering = 'ascending' THEN points ELSE -points END
$$;

-- What the awards in force say of players on every board's open periods.
CREATE FUNCTION scores.counted(p_user uuid[])
RETURNS TABLE (board text, period bigint, user_id uuid, score bigint, seq bigint, at timestamptz)
LANGUAGE sql STABLE AS $$
  SELECT c.board, c.period, c.user_id, CASE c.operator WHEN 'sum' THEN c.sum ELSE c.points END, c.seq, c.at
  FROM (SELECT b.board, p.period, f.user_id, b.operator, f.points, f.seq, f.at,
               sum(f.points) OVER mine::bigint AS sum,
               row_number() OVER (mine ORDER BY scores.place_key(b.operator, b.ordering, f.points, f.seq), f.seq) AS place
        FROM scores.in_force f
        JOIN scores.boards b ON b.action_types = '{}' OR f.action_type = ANY (b.action_types)
        JOIN scores.periods p ON p.board = b.board AND p.closed_at IS NULL AND p.starts <= f.at AND f.at < p.ends
        WHERE f.user_id = ANY (p_user)
        WINDOW mine AS (PARTITION BY b.board, p.period, f.user_id)) c
  WHERE c.place = 1
$$;

GRANT SELECT, INSERT, UPDATE ON scores.boards TO scores;
GRANT SELECT, INSERT, UPDATE, DELETE ON scores.periods, scores.standings TO scores;
GRANT SELECT, INSERT ON scores.finals, scores.left_out TO scores;
GRANT UPDATE (removed) ON scores.finals TO scores;
