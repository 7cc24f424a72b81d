-- What is changed after an award: voids and restores, hiding and showing, new boards.
--
-- A change of what an award counts for takes the lock (7001, 3) shared, and closing a period
-- takes it exclusively: a change is wholly in a final table, or wholly after it.

-- Computes totals and standings of players from their awards in force. The caller has locked
-- their rows. What is closed is left as it was.
CREATE FUNCTION scores.recount(p_user uuid[]) RETURNS void LANGUAGE sql
SET enable_seqscan = off
AS $$
  WITH counted AS MATERIALIZED (
    SELECT c.board, c.period, c.user_id, c.score, c.seq, c.at FROM scores.counted(p_user) c
  ), moved AS (
    UPDATE scores.players p
       SET total = coalesce(a.score, 0), reached_seq = a.seq, reached_at = a.at,
           day_total = coalesce(d.score, 0), day_seq = d.seq, day_at = d.at,
           week_total = coalesce(w.score, 0), week_seq = w.seq, week_at = w.at,
           month_total = coalesce(m.score, 0), month_seq = m.seq, month_at = m.at
      FROM scores.players k
      LEFT JOIN counted a ON a.board = 'all_time' AND a.user_id = k.user_id
      LEFT JOIN counted d ON d.board = 'daily' AND d.user_id = k.user_id AND d.period = k.day
      LEFT JOIN counted w ON w.board = 'weekly' AND w.user_id = k.user_id AND w.period = k.week
      LEFT JOIN counted m ON m.board = 'monthly' AND m.user_id = k.user_id AND m.period = k.month
     WHERE k.user_id = ANY (p_user) AND p.user_id = k.user_id
  ), emptied AS (
    -- A player without an award in force keeps a row that says so, for the boards to remove.
    UPDATE scores.standings s SET score = 0, seq = NULL, at = NULL
     WHERE s.user_id = ANY (p_user) AND s.seq IS NOT NULL
       AND (s.board, s.period) IN (SELECT p.board, p.period FROM scores.periods p WHERE p.closed_at IS NULL)
       AND NOT EXISTS (SELECT FROM counted c
                       WHERE c.board = s.board AND c.period = s.period AND c.user_id = s.user_id)
  )
  INSERT INTO scores.standings (board, period, user_id, score, seq, at)
  SELECT c.board, c.period, c.user_id, c.score, c.seq, c.at
  FROM counted c JOIN scores.players p ON p.user_id = c.user_id
  WHERE (c.board, c.period) NOT IN (('all_time', 0), ('daily', coalesce(p.day, -1)),
                                    ('weekly', coalesce(p.week, -1)), ('monthly', coalesce(p.month, -1)))
  ON CONFLICT (board, period, user_id)
  DO UPDATE SET score = excluded.score, seq = excluded.seq, at = excluded.at
$$;

-- Counts players again for the boards that were added since; a new version reaches the boards.
CREATE FUNCTION scores.refill(p_user uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(7001, 3);
  PERFORM FROM scores.players p WHERE p.user_id = ANY (p_user) ORDER BY p.user_id FOR NO KEY UPDATE;
  PERFORM scores.recount(p_user);
  UPDATE scores.players SET version = version + 1 WHERE user_id = ANY (p_user);
END $$;

-- Marks in the final tables that those awards of a player count for the row that the ledger no
-- longer says, and unmarks the one that it says again.
CREATE FUNCTION scores.mark_finals(p_user uuid, p_award uuid[]) RETURNS void LANGUAGE sql
SET enable_seqscan = off
AS $$
  WITH touched AS MATERIALIZED (
    SELECT DISTINCT b.board, p.period, b.operator, b.ordering, b.action_types, p.starts, p.ends
    FROM scores.ledger l
    JOIN scores.boards b ON b.action_types = '{}' OR l.action_type = ANY (b.action_types)
    JOIN scores.periods p ON p.board = b.board AND p.closed_at IS NOT NULL AND p.starts <= l.at AND l.at < p.ends
    WHERE l.action_id = ANY (p_award)
  ), said AS (
    SELECT t.board, t.period,
           scores.place(t.operator, t.ordering, f.points, f.seq, f.at ORDER BY f.seq) AS place
    FROM touched t
    JOIN scores.in_force f ON f.user_id = p_user AND t.starts <= f.at AND f.at < t.ends
      AND (t.action_types = '{}' OR f.action_type = ANY (t.action_types))
    GROUP BY t.board, t.period
  )
  UPDATE scores.finals o SET removed = NOT o.removed
  FROM touched t LEFT JOIN said n ON n.board = t.board AND n.period = t.period
  WHERE o.board = t.board AND o.period = t.period AND o.user_id = p_user
    AND o.removed = coalesce(n.place[1] = o.score AND n.place[2] = o.seq, false)
$$;

-- Voids a player's awards that are in force, or restores voided ones: those made in
-- [p_from, p_to), those named, or all; in ledger order, at most as many as `p_row` has ids for
-- the new rows. Returns the rows written.
CREATE FUNCTION scores.reverse(
  p_kind text, p_user uuid, p_from timestamptz, p_to timestamptz, p_action uuid[], p_row uuid[],
  p_reason text, p_actor text, p_offset interval)
RETURNS TABLE (action_id uuid, origin_id uuid, action_type text, points bigint, old_score bigint,
               new_score bigint, version bigint, seq bigint, at_ms bigint, hidden boolean, username text)
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
  v_player scores.players;
  v_at     timestamptz;
  v_blocks bigint[];
  n        int;
BEGIN
  PERFORM pg_advisory_xact_lock_shared(7001, 3);
  PERFORM pg_advisory_xact_lock_shared(7001, 1);
  SELECT p.* INTO v_player FROM scores.players p WHERE p.user_id = p_user FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  v_at := date_trunc('milliseconds', clock_timestamp() + p_offset);
  SELECT array_agg(nextval('scores.seq') ORDER BY i) INTO v_blocks
  FROM generate_series(0, (cardinality(p_row) - 1) / 256) i;

  RETURN QUERY
  WITH chosen AS (
    SELECT l.action_id, l.action_type, CASE p_kind WHEN 'void' THEN -l.points ELSE l.points END AS points,
           coalesce(t.row_id, l.action_id) AS reverses_id, row_number() OVER (ORDER BY l.seq) AS nth
    FROM scores.ledger l
    LEFT JOIN LATERAL (  -- the end of its chain
      SELECT v.row_id, v.kind FROM scores.reversals v
      WHERE v.origin_id = l.action_id
        AND NOT EXISTS (SELECT FROM scores.reversals r WHERE r.reverses_id = v.row_id)) t ON true
    WHERE l.user_id = p_user AND l.kind = 'award'
      AND (p_from IS NULL OR l.at >= p_from) AND (p_to IS NULL OR l.at < p_to)
      AND (p_action IS NULL OR l.action_id = ANY (p_action))
      AND (coalesce(t.kind, 'restore') = 'restore') = (p_kind = 'void')
    ORDER BY l.seq LIMIT cardinality(p_row)
  ), numbered AS (
    SELECT c.action_id AS origin_id, c.action_type, c.points, c.reverses_id, c.nth, p_row[c.nth] AS action_id,
           v_player.total + sum(c.points) OVER (ORDER BY c.nth)::bigint AS new_score,
           v_player.version + c.nth AS version,
           v_blocks[(c.nth - 1) / 256 + 1] + 1 + (c.nth - 1) % 256 AS seq
    FROM chosen c
  ), written AS (
    INSERT INTO scores.ledger AS l (action_id, kind, user_id, action_type, points, old_score, new_score,
                                    version, seq, at, attempt_id, origin_id)
    SELECT m.action_id, p_kind, p_user, m.action_type, m.points, m.new_score - m.points, m.new_score,
           m.version, m.seq, v_at, m.action_id, m.origin_id
    FROM numbered m
  ), chained AS (
    INSERT INTO scores.reversals (reverses_id, user_id, row_id, origin_id, kind, reason, actor)
    SELECT m.reverses_id, p_user, m.action_id, m.origin_id, p_kind, p_reason, p_actor FROM numbered m
  ), unpublished AS (
    INSERT INTO scores.outbox (seq, kind, event_id, origin_id, user_id, username, version, action_type,
                               points, old_score, new_score, hidden, at)
    SELECT m.seq, p_kind, m.action_id, m.origin_id, p_user, v_player.username, m.version, m.action_type,
           m.points, m.new_score - m.points, m.new_score, v_player.hidden, v_at
    FROM numbered m
  )
  SELECT m.action_id, m.origin_id, m.action_type, m.points, m.new_score - m.points, m.new_score,
         m.version, m.seq, (extract(epoch FROM v_at) * 1000)::bigint, v_player.hidden, v_player.username
  FROM numbered m ORDER BY m.nth;

  GET DIAGNOSTICS n = ROW_COUNT;
  IF n > 0 THEN
    PERFORM scores.recount(ARRAY[p_user]);
    UPDATE scores.players SET version = v_player.version + n WHERE user_id = p_user;
    PERFORM scores.mark_finals(p_user, ARRAY(
      SELECT l.origin_id FROM scores.ledger l WHERE l.action_id = ANY (p_row)));
  END IF;
END $$;

-- Hides players from the boards or shows them, where the sanction is newer than the known one.
-- Raises SC404 when a player is unknown. Returns those who changed.
CREATE FUNCTION scores.hide(
  p_user uuid[], p_hidden boolean[], p_version bigint[], p_event uuid[], p_offset interval)
RETURNS TABLE (event_id uuid, user_id uuid, username text, total bigint, version bigint, seq bigint,
               at_ms bigint, hidden boolean)
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
  v_base bigint;
  v_at   timestamptz;
BEGIN
  IF cardinality(p_user) > 256 THEN
    RAISE 'more than 256 players' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  PERFORM pg_advisory_xact_lock_shared(7001, 3);
  PERFORM pg_advisory_xact_lock_shared(7001, 1);
  PERFORM FROM scores.players p WHERE p.user_id = ANY (p_user) ORDER BY p.user_id FOR NO KEY UPDATE;
  IF EXISTS (SELECT FROM unnest(p_user) u WHERE NOT EXISTS (SELECT FROM scores.players p WHERE p.user_id = u)) THEN
    RAISE 'players missing' USING ERRCODE = 'SC404';
  END IF;
  v_base := nextval('scores.seq');
  v_at := date_trunc('milliseconds', clock_timestamp() + p_offset);

  RETURN QUERY
  WITH wanted AS (  -- of several for one player the newest
    SELECT DISTINCT ON (w.user_id) w.user_id, w.hidden, w.version, w.event_id, w.ord
    FROM unnest(p_user, p_hidden, p_version, p_event) WITH ORDINALITY
      AS w(user_id, hidden, version, event_id, ord)
    ORDER BY w.user_id, w.version DESC
  ), changed AS (
    UPDATE scores.players p
       SET hidden = w.hidden, sanction_version = w.version,
           version = p.version + (p.hidden <> w.hidden)::int
      FROM wanted w, scores.players k
     WHERE k.user_id = w.user_id AND p.user_id = w.user_id AND p.sanction_version < w.version
    RETURNING p.user_id, p.username, p.total, p.version, p.hidden, k.hidden AS was, w.event_id, w.ord
  ), unpublished AS (
    INSERT INTO scores.outbox (seq, kind, event_id, user_id, username, version, action_type, points,
                               old_score, new_score, hidden, at)
    SELECT v_base + c.ord, CASE WHEN c.hidden THEN 'hidden' ELSE 'shown' END, c.event_id, c.user_id,
           c.username, c.version, '', 0, c.total, c.total, c.hidden, v_at
    FROM changed c WHERE c.hidden <> c.was
  )
  SELECT c.event_id, c.user_id, c.username, c.total, c.version, v_base + c.ord,
         (extract(epoch FROM v_at) * 1000)::bigint, c.hidden
  FROM changed c WHERE c.hidden <> c.was ORDER BY c.ord;
END $$;
