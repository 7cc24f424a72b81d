-- Closing a period: its final table, frozen.

-- Returns once no award can be written any more with a time before the present: it waits for
-- those under way, which read the clock under this lock.
CREATE FUNCTION scores.barrier() RETURNS void LANGUAGE sql SET lock_timeout = '500ms' AS $$
  SELECT pg_advisory_xact_lock(7001, 1)
$$;

-- Freezes the final table of a period that has ended: who stands on the board, in its order. The
-- caller hashes and signs it, and marks the period, in the same transaction. Answers how many
-- players it has; null when the period is closed already or has not ended.
CREATE FUNCTION scores.freeze(p_board text, p_period bigint, p_offset interval) RETURNS bigint
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
    RETURN NULL;
  END IF;
  INSERT INTO scores.finals (board, period, position, user_id, score, seq, reached_at)
  SELECT p_board, p_period, row_number() OVER (ORDER BY v_sign * s.score, s.seq), s.user_id, s.score,
         s.seq, s.at
  FROM (SELECT k.user_id, k.score, k.seq, k.at FROM scores.standings k
        WHERE k.board = p_board AND k.period = p_period
        UNION ALL
        SELECT p.user_id, d.score, d.seq, d.at
        FROM scores.players p, LATERAL (VALUES ('daily', p.day, p.day_total, p.day_seq, p.day_at),
                                               ('weekly', p.week, p.week_total, p.week_seq, p.week_at),
                                               ('monthly', p.month, p.month_total, p.month_seq, p.month_at))
          AS d(board, period, score, seq, at)
        WHERE d.board = p_board AND d.period = p_period) s
  JOIN scores.players p ON p.user_id = s.user_id
  WHERE s.seq IS NOT NULL AND NOT p.hidden;
  GET DIAGNOSTICS v_players = ROW_COUNT;
  UPDATE scores.periods
     SET closed_at = date_trunc('milliseconds', clock_timestamp() + p_offset), players = v_players,
         seq_upto = nextval('scores.seq')
   WHERE board = p_board AND period = p_period;
  RETURN v_players;
END $$;
