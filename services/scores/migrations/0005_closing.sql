-- Closing a period: its final table, frozen.

-- Returns once no award can be written any more with a time before the present: it waits for
-- those under way, which read the clock under this lock.
CREATE FUNCTION scores.barrier() RETURNS void LANGUAGE sql SET lock_timeout = '500ms' AS $$
  SELECT pg_advisory_xact_lock(7001, 1)
$$;

-- Freezes the final table of a period that has ended: who stands on the board, in its order, and
-- apart from it who would but is hidden. The caller has passed the barrier after the end, and
-- hashes, signs and marks the period in the same transaction. Returns the number of players and
-- the highest sequence that any change before it can have; no row when the period is closed
-- already or has not ended.
--
-- No other change comes between: awards of the period are all in, and voids, restores, hiding
-- and showing take the lock shared. What awards of the next period still move, from a player's row
-- to standings, one snapshot sees on one side only.
CREATE FUNCTION scores.freeze(p_board text, p_period bigint, p_offset interval)
RETURNS TABLE (players bigint, seq_upto bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  v_sign    int;
  v_players bigint;
BEGIN
  PERFORM pg_advisory_xact_lock(7001, 3);
  SELECT CASE b.ordering WHEN 'ascending' THEN 1 ELSE -1 END INTO v_sign
  FROM scores.periods p JOIN scores.boards b ON b.board = p.board
  WHERE p.board = p_board AND p.period = p_period AND p.closed_at IS NULL
    AND p.ends <= clock_timestamp() + p_offset
  FOR UPDATE OF p;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  WITH standing AS (
    SELECT s.user_id, s.score, s.seq, s.at, p.hidden
    FROM (SELECT k.user_id, k.score, k.seq, k.at FROM scores.standings k
          WHERE k.board = p_board AND k.period = p_period AND k.seq IS NOT NULL
          UNION ALL
          SELECT p.user_id, p.day_total, p.day_seq, p.day_at FROM scores.players p
          WHERE p_board = 'daily' AND p.day = p_period AND p.day_seq IS NOT NULL
          UNION ALL
          SELECT p.user_id, p.week_total, p.week_seq, p.week_at FROM scores.players p
          WHERE p_board = 'weekly' AND p.week = p_period AND p.week_seq IS NOT NULL
          UNION ALL
          SELECT p.user_id, p.month_total, p.month_seq, p.month_at FROM scores.players p
          WHERE p_board = 'monthly' AND p.month = p_period AND p.month_seq IS NOT NULL) s
    JOIN scores.players p ON p.user_id = s.user_id
  ), apart AS (
    INSERT INTO scores.left_out (board, period, user_id)
    SELECT p_board, p_period, s.user_id FROM standing s WHERE s.hidden
  )
  INSERT INTO scores.finals (board, period, position, user_id, score, seq, reached_at)
  SELECT p_board, p_period, row_number() OVER (ORDER BY v_sign * s.score, s.seq), s.user_id, s.score,
         s.seq, s.at
  FROM standing s WHERE NOT s.hidden;
  GET DIAGNOSTICS v_players = ROW_COUNT;
  -- The holder of the lock before took a lower block: what comes after is above it.
  RETURN QUERY SELECT v_players, nextval('scores.seq');
END $$;

-- The final table of a closed period as the ledger alone gives it: its awards, without those that
-- were void at the close, and without the players who were left out.
CREATE FUNCTION scores.final(p_board text, p_period bigint)
RETURNS TABLE (place bigint, user_id uuid, score bigint, seq bigint, reached_at timestamptz)
LANGUAGE sql STABLE AS $$
  WITH reversal AS MATERIALIZED (
    SELECT v.reverses_id, v.row_id, v.origin_id, v.kind
    FROM scores.periods p, scores.reversals v JOIN scores.ledger r ON r.action_id = v.row_id
    WHERE p.board = p_board AND p.period = p_period AND r.seq <= p.seq_upto
  ), void AS MATERIALIZED (
    SELECT v.origin_id FROM reversal v
    WHERE v.kind = 'void' AND NOT EXISTS (SELECT FROM reversal r WHERE r.reverses_id = v.row_id)
  ), counted AS (
    SELECT l.user_id, CASE b.ordering WHEN 'ascending' THEN 1 ELSE -1 END AS sign,
           scores.place(b.operator, b.ordering, l.points, l.seq, l.at ORDER BY l.seq) AS place
    FROM scores.boards b
    JOIN scores.periods p ON p.board = b.board AND p.period = p_period AND p.closed_at IS NOT NULL
    JOIN scores.ledger l ON l.kind = 'award' AND l.at >= p.starts AND l.at < p.ends
      AND (b.action_types = '{}' OR l.action_type = ANY (b.action_types))
    WHERE b.board = p_board AND l.action_id NOT IN (SELECT v.origin_id FROM void v)
      AND NOT EXISTS (SELECT FROM scores.left_out o
                      WHERE o.board = p_board AND o.period = p_period AND o.user_id = l.user_id)
    GROUP BY l.user_id, b.ordering
  )
  SELECT row_number() OVER (ORDER BY c.sign * c.place[1], c.place[2]), c.user_id, c.place[1], c.place[2],
         to_timestamp(c.place[3] / 1000.0)
  FROM counted c ORDER BY 1
$$;
