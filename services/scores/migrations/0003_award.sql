-- The award: one transaction that decides, writes and adds up a batch.

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
-- after some locks, they could deadlock). Raises SC405 when the present period of a board is
-- not made yet: the caller makes it and repeats. Returns a row per item: `inserted`; `seen` with
-- the row that was there; `copy` with the row of an earlier item of the same action.
-- unique_violation means that two players share an action id: the caller repeats the batch.
CREATE FUNCTION scores.award(
  p_action uuid[], p_user uuid[], p_type text[], p_points bigint[],
  p_attempt uuid[], p_client text[], p_key bytea[], p_body bytea[], p_offset interval)
RETURNS TABLE (
  ord int, outcome text, user_id uuid, action_type text, points bigint, old_score bigint,
  new_score bigint, version bigint, seq bigint, at_ms bigint, attempt_id uuid, client_id text,
  key_hash bytea, body_hash bytea, day_total bigint, week_total bigint, month_total bigint,
  hidden boolean, username text, name_version bigint, boards int)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan  -- planning the big statement costs half a millisecond a call
SET enable_nestloop = off                 -- estimates out of CTEs are 1-10 rows: nested loops there are O(n²)
SET enable_seqscan = off                  -- a generic plan made while a table is empty must not stay a scan
AS $$
#variable_conflict use_column
DECLARE
  n       constant int := cardinality(p_action);
  v_ids   uuid[];  -- of the actions, in order
  v_users int;
  v_who   scores.players[];
  v_day   bigint;  -- the oldest and the newest day that the players are in
  v_days  bigint;
  v_base  bigint;
  v_at    timestamptz;
  v_ms    bigint;
  v_d bigint; v_w bigint; v_m bigint;  -- the starts of the periods that v_at is in
  v_lacking boolean;
  v_added   boolean;
  v_boards  int;  -- how many there are: who knows fewer has to read them
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE 'scores.award needs READ COMMITTED: its second statement must see a fresh snapshot'
      USING ERRCODE = 'invalid_transaction_state';
  END IF;
  IF n > 256 OR cardinality(p_user) <> n OR cardinality(p_type) <> n OR cardinality(p_points) <> n
     OR cardinality(p_attempt) <> n OR cardinality(p_client) <> n OR cardinality(p_key) <> n
     OR cardinality(p_body) <> n THEN
    RAISE 'arrays differ in length or hold more than 256 items'
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  -- First of all locks, and before the clock: the closing of periods takes it exclusively.
  PERFORM pg_advisory_xact_lock_shared(7001, 1);

  -- Statement 1: lock the players in id order; what it returns is each row under the lock.
  SELECT array_agg(x.player), min((x.player).day), max((x.player).day) INTO v_who, v_day, v_days
  FROM (SELECT p AS player FROM scores.players p WHERE p.user_id = ANY (p_user)
        ORDER BY p.user_id FOR NO KEY UPDATE) x;
  SELECT array_agg(i.action_id ORDER BY i.action_id), count(DISTINCT i.user_id) INTO v_ids, v_users
  FROM unnest(p_action, p_user) AS i(action_id, user_id);
  IF v_users <> coalesce(cardinality(v_who), 0) THEN
    RAISE 'players missing' USING ERRCODE = 'SC404';
  END IF;

  -- Never before the day that one of the players is in already: a clock that steps back (another
  -- server has taken over) begins no period twice.
  v_at := greatest(date_trunc('milliseconds', clock_timestamp() + p_offset), to_timestamp(v_days / 1000.0));
  FOR again IN 1 .. 2 LOOP
    v_ms := (extract(epoch FROM v_at) * 1000)::bigint;
    -- The boards that an admin added are read after the players were locked: who fills a new
    -- board locks each player after it was added, so that one of both sees the other.
    SELECT bool_or(coalesce((SELECT p.ends <= v_at OR p.closed_at IS NOT NULL FROM scores.periods p
                             WHERE p.board = b.board AND p.period <= v_ms
                             ORDER BY p.period DESC LIMIT 1), true)), bool_or(NOT b.built_in), count(*)
      INTO v_lacking, v_added, v_boards FROM scores.boards b;
    EXIT WHEN NOT v_lacking;
    -- Nor in a period that is closed, for the same reason.
    v_at := greatest(v_at, (SELECT max(p.ends) FROM scores.periods p WHERE p.closed_at IS NOT NULL));
    IF again = 2 THEN
      RAISE 'a board lacks the present period' USING ERRCODE = 'SC405';
    END IF;
  END LOOP;
  v_base := nextval('scores.seq');  -- under the locks: who locks a player later has a higher block
  v_d := extract(epoch FROM date_trunc('day', v_at, 'UTC')) * 1000;
  v_w := extract(epoch FROM date_trunc('week', v_at, 'UTC')) * 1000;
  v_m := extract(epoch FROM date_trunc('month', v_at, 'UTC')) * 1000;

  -- Statement 2, with a fresh snapshot: an award committed before our lock is seen.
  RETURN QUERY
  WITH item AS (
    SELECT i.action_id, i.user_id, i.action_type, i.points, i.attempt_id, i.client_id, i.key_hash,
           i.body_hash, i.ord, row_number() OVER (PARTITION BY i.action_id ORDER BY i.ord) AS copy
    FROM unnest(p_action, p_user, p_type, p_points, p_attempt, p_client, p_key, p_body) WITH ORDINALITY
         AS i(action_id, user_id, action_type, points, attempt_id, client_id, key_hash, body_hash, ord)
  ), seen AS (
    -- Scalar bounds prune the partitions when the executor starts; = ANY (parameter) never does.
    SELECT l.action_id, l.user_id, l.action_type, l.points, l.old_score, l.new_score, l.version,
           l.seq, l.at, l.attempt_id, l.client_id, l.key_hash, l.body_hash
    FROM scores.ledger l
    WHERE l.action_id = ANY (p_action) AND l.action_id >= v_ids[1] AND l.action_id <= v_ids[n]
  ), who AS (
    SELECT w.user_id, w.username, w.name_version, w.total, w.version, w.hidden,
           w.day, w.day_total, w.day_seq, w.day_at, w.week, w.week_total, w.week_seq, w.week_at,
           w.month, w.month_total, w.month_seq, w.month_at
    FROM unnest(v_who) AS w
  ), fresh AS MATERIALIZED (
    SELECT f.action_id, f.user_id, f.action_type, f.points, f.attempt_id, f.client_id, f.key_hash, f.body_hash,
           f.last, w.total + f.sum - f.points AS old_score, w.total + f.sum AS new_score,
           w.version + f.nth AS version, v_base + f.ord AS seq, w.hidden, w.username,
           CASE WHEN w.day = v_d THEN w.day_total ELSE 0 END + f.sum AS day_total,
           CASE WHEN w.week = v_w THEN w.week_total ELSE 0 END + f.sum AS week_total,
           CASE WHEN w.month = v_m THEN w.month_total ELSE 0 END + f.sum AS month_total
    FROM (SELECT i.action_id, i.user_id, i.action_type, i.points, i.attempt_id, i.client_id,
                 i.key_hash, i.body_hash, i.ord, sum(i.points) OVER mine::bigint AS sum,
                 row_number() OVER mine AS nth, lead(i.ord) OVER mine IS NULL AS last
          FROM item i LEFT JOIN seen s ON s.action_id = i.action_id
          WHERE i.copy = 1 AND s.action_id IS NULL
          WINDOW mine AS (PARTITION BY i.user_id ORDER BY i.ord)) f
    JOIN who w ON w.user_id = f.user_id
  ), led AS (
    -- In id order: two batches with the same ids give unique_violation, never a deadlock.
    INSERT INTO scores.ledger (action_id, user_id, action_type, points, old_score, new_score,
                               version, seq, at, attempt_id, client_id, key_hash, body_hash)
    SELECT f.action_id, f.user_id, f.action_type, f.points, f.old_score, f.new_score,
           f.version, f.seq, v_at, f.attempt_id, f.client_id, f.key_hash, f.body_hash
    FROM fresh f ORDER BY f.action_id
  ), moved AS (
    -- The index gets its own key: by join alone it would be read from end to end.
    UPDATE scores.players p
       SET version = f.version, total = f.new_score, reached_seq = f.seq, reached_at = v_at,
           day = v_d, day_total = f.day_total, day_seq = f.seq, day_at = v_at,
           week = v_w, week_total = f.week_total, week_seq = f.seq, week_at = v_at,
           month = v_m, month_total = f.month_total, month_seq = f.seq, month_at = v_at
      FROM fresh f
     WHERE f.last AND p.user_id = f.user_id AND p.user_id = ANY (p_user)
  ), unpublished AS (
    INSERT INTO scores.outbox (seq, kind, event_id, user_id, username, version, action_type,
                               points, old_score, new_score, hidden, at)
    SELECT f.seq, 'award', f.action_id, f.user_id, f.username, f.version, f.action_type,
           f.points, f.old_score, f.new_score, f.hidden, v_at
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
         CASE WHEN f.seq IS NULL THEN s.client_id ELSE f.client_id END,
         CASE WHEN f.seq IS NULL THEN s.key_hash ELSE f.key_hash END,
         CASE WHEN f.seq IS NULL THEN s.body_hash ELSE f.body_hash END,
         f.day_total, f.week_total, f.month_total, f.hidden, w.username, w.name_version, v_boards
  FROM item i
  LEFT JOIN fresh f ON f.action_id = i.action_id
  LEFT JOIN seen s ON s.action_id = i.action_id
  LEFT JOIN who w ON w.user_id = i.user_id;

  -- A player's first award in a new period keeps the finished one. Each begins with a day.
  IF v_day < v_d THEN
    INSERT INTO scores.standings (board, period, user_id, score, seq, at)
    SELECT b.board, b.period, w.user_id, b.total, b.seq, b.at
    FROM unnest(v_who) AS w
    JOIN scores.players p ON p.user_id = w.user_id AND p.user_id = ANY (p_user) AND p.version > w.version,
    LATERAL (VALUES ('daily', w.day, w.day_total, w.day_seq, w.day_at, v_d),
                    ('weekly', w.week, w.week_total, w.week_seq, w.week_at, v_w),
                    ('monthly', w.month, w.month_total, w.month_seq, w.month_at, v_m))
      AS b(board, period, total, seq, at, present)
    WHERE b.period <> b.present
      AND NOT EXISTS (SELECT FROM scores.periods c WHERE c.board = b.board AND c.period = b.period
                                                    AND c.closed_at IS NOT NULL)
    ORDER BY 1, 2, 3
    ON CONFLICT (board, period, user_id)
    DO UPDATE SET score = excluded.score, seq = excluded.seq, at = excluded.at;
  END IF;

  IF v_added THEN  -- the boards that an admin added
    INSERT INTO scores.standings AS t (board, period, user_id, score, seq, at)
    SELECT c.board, c.period, c.user_id, c.place[1], c.place[2], to_timestamp(c.place[3] / 1000.0)
    FROM (SELECT m.board, m.period, m.user_id,
                 -- What stood there before counts as the first award.
                 scores.place(m.operator, m.ordering, m.score, m.seq, m.at ORDER BY m.seq) AS place
          FROM (WITH moved AS (
                  SELECT b.board, p.period, b.operator, b.ordering, l.user_id, l.points, l.seq, l.at
                  FROM scores.ledger l
                  JOIN scores.boards b ON NOT b.built_in
                    AND (b.action_types = '{}' OR l.action_type = ANY (b.action_types))
                  JOIN scores.periods p ON p.board = b.board AND p.starts <= v_at AND v_at < p.ends
                  WHERE l.action_id = ANY (p_action) AND l.action_id >= v_ids[1]
                    AND l.action_id <= v_ids[n] AND l.seq > v_base AND l.seq <= v_base + 256
                )
                SELECT v.board, v.period, v.operator, v.ordering, v.user_id, v.points AS score, v.seq, v.at
                FROM moved v
                UNION ALL
                SELECT k.board, k.period, d.operator, d.ordering, k.user_id, k.score, k.seq, k.at
                FROM (SELECT DISTINCT board, period, operator, ordering, user_id FROM moved) d
                JOIN scores.standings k USING (board, period, user_id)
                WHERE k.seq IS NOT NULL) m
          GROUP BY m.board, m.period, m.user_id) c
    ON CONFLICT (board, period, user_id)
    DO UPDATE SET score = excluded.score, seq = excluded.seq, at = excluded.at;
  END IF;
END $$;

-- Uses an action up for nothing, unless it has a row. Returns the kind of the row that it has.
CREATE FUNCTION scores.give_up(p_action uuid, p_user uuid, p_type text, p_offset interval)
RETURNS text LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
BEGIN
  -- As awards do, so that the row never meets an award's that is not committed: that would make
  -- all of its batch wait, and begin again.
  PERFORM FROM scores.players p WHERE p.user_id = p_user FOR NO KEY UPDATE;
  INSERT INTO scores.ledger (action_id, kind, user_id, action_type, points, old_score, new_score,
                             version, seq, at, attempt_id)
  VALUES (p_action, 'given_up', p_user, p_type, 0, 0, 0, 0, 0,
          date_trunc('milliseconds', clock_timestamp() + p_offset), p_action)
  ON CONFLICT (action_id) DO NOTHING;
  -- With a fresh snapshot, which sees the row that it waited for.
  RETURN (SELECT l.kind FROM scores.ledger l WHERE l.action_id = p_action);
END $$;

-- Writes the receipts of awards whose board and event are acknowledged, and takes them out of
-- the outbox, or only marks them while their settlement is outstanding. Not worth a wait for
-- the disk: the relay does again what a crash forgets.
CREATE FUNCTION scores.acknowledge(
  p_seq bigint[], p_action uuid[], p_rank bigint[], p_old_rank bigint[], p_warnings text[],
  p_held boolean[], p_settled boolean)
RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_nestloop = off
AS $$
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  -- Taking an award out, or marking it, writes its receipt, so that there is none before.
  WITH settled AS (
    DELETE FROM scores.outbox o WHERE p_settled AND o.seq = ANY (p_seq)
    RETURNING o.event_id, o.user_id, o.published
  ), marked AS (
    UPDATE scores.outbox o SET published = true
     WHERE NOT p_settled AND o.seq = ANY (p_seq) AND NOT o.published
    RETURNING o.event_id, o.user_id
  )
  INSERT INTO scores.receipts (action_id, user_id, rank, old_rank, warnings, held)
  SELECT r.action_id, n.user_id, r.rank, r.old_rank, r.warnings, r.held
  FROM unnest(p_action, p_rank, p_old_rank, p_warnings, p_held)
       AS r(action_id, rank, old_rank, warnings, held)
  JOIN (SELECT s.event_id, s.user_id FROM settled s WHERE NOT s.published
        UNION ALL SELECT m.event_id, m.user_id FROM marked m) n ON n.event_id = r.action_id;
END $$;

ANALYZE scores.players, scores.ledger, scores.outbox;
