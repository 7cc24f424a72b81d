-- What is read of open boards while Redis is unavailable.

-- Who stands on a board in an open period. Only the branch of that board is run.
CREATE FUNCTION scores.standing(p_board text, p_period bigint)
RETURNS TABLE (user_id uuid, score bigint, seq bigint, at timestamptz, username text, version bigint)
LANGUAGE sql STABLE AS $$
  SELECT k.user_id, k.score, k.seq, k.at, p.username, p.version
  FROM scores.standings k JOIN scores.players p ON p.user_id = k.user_id
  WHERE k.board = p_board AND k.period = p_period AND k.seq IS NOT NULL AND NOT p.hidden
  UNION ALL
  SELECT p.user_id, p.total, p.reached_seq, p.reached_at, p.username, p.version FROM scores.players p
  WHERE p_board = 'all_time' AND p.reached_seq IS NOT NULL AND NOT p.hidden
  UNION ALL
  SELECT p.user_id, p.day_total, p.day_seq, p.day_at, p.username, p.version FROM scores.players p
  WHERE p_board = 'daily' AND p.day = p_period AND p.day_seq IS NOT NULL AND NOT p.hidden
  UNION ALL
  SELECT p.user_id, p.week_total, p.week_seq, p.week_at, p.username, p.version FROM scores.players p
  WHERE p_board = 'weekly' AND p.week = p_period AND p.week_seq IS NOT NULL AND NOT p.hidden
  UNION ALL
  SELECT p.user_id, p.month_total, p.month_seq, p.month_at, p.username, p.version FROM scores.players p
  WHERE p_board = 'monthly' AND p.month = p_period AND p.month_seq IS NOT NULL AND NOT p.hidden
$$;
