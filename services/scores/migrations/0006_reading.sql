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

-- The first second, from `p_from` on, in which a row of the ledger was written; null: none before
-- `p_to`. It widens over a gap and narrows again, by an index that skips what is empty: a gap of
-- years takes some sixty looks.
CREATE FUNCTION scores.first_change(p_from timestamptz, p_to timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
DECLARE
  v_from timestamptz := p_from;
  v_span interval := '1 second';
BEGIN
  LOOP
    IF v_from >= p_to THEN
      RETURN NULL;
    END IF;
    EXIT WHEN EXISTS (SELECT FROM scores.ledger l WHERE l.at >= v_from AND l.at < v_from + v_span);
    v_from := v_from + v_span;
    v_span := 2 * v_span;
  END LOOP;
  WHILE v_span > '1 second' LOOP
    v_span := v_span / 2;
    IF NOT EXISTS (SELECT FROM scores.ledger l WHERE l.at >= v_from AND l.at < v_from + v_span) THEN
      v_from := v_from + v_span;
    END IF;
  END LOOP;
  RETURN v_from;
END $$;

-- Rows of the ledger behind (p_at, p_seq), by time and sequence, at most `p_limit`; fewer: those
-- are all. Time is what the ledger has an index of; one of sequences would cost every award.
CREATE FUNCTION scores.changes(p_at timestamptz, p_seq bigint, p_limit int, p_offset interval)
RETURNS TABLE (kind text, event_id uuid, origin_id uuid, seq bigint, user_id uuid, username text,
               version bigint, action_type text, points bigint, old_score bigint, new_score bigint,
               at_ms bigint, hidden boolean)
LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
  v_to   timestamptz := clock_timestamp() + p_offset + interval '1 day';  -- a clock may have stepped back
  v_from timestamptz := p_at;
  v_span interval := '1 second';
  v_left int := p_limit;
  n      int;
BEGIN
  LOOP
    RETURN QUERY
    SELECT l.kind, l.action_id, l.origin_id, l.seq, l.user_id, p.username, l.version, l.action_type,
           l.points, l.old_score, l.new_score, (extract(epoch FROM l.at) * 1000)::bigint, p.hidden
    FROM scores.ledger l JOIN scores.players p ON p.user_id = l.user_id
    WHERE l.at >= v_from AND l.at < v_from + v_span AND (l.at, l.seq) > (p_at, p_seq)
      AND l.kind <> 'given_up'
    ORDER BY l.at, l.seq LIMIT v_left;
    GET DIAGNOSTICS n = ROW_COUNT;
    v_left := v_left - n;
    EXIT WHEN v_left = 0;
    v_from := v_from + v_span;
    IF n > 0 THEN
      v_span := 2 * v_span;
    ELSE
      v_from := scores.first_change(v_from, v_to);
      v_span := '1 second';
      EXIT WHEN v_from IS NULL;
    END IF;
  END LOOP;
END $$;

-- From when on the ledger has all that was published at `p_since` or later: some minutes before,
-- since a change is published after it was written; further back where one was published late;
-- all of it where that is not recorded any more.
CREATE FUNCTION scores.changes_from(p_since timestamptz, p_overlap interval, p_kept interval, p_offset interval)
RETURNS timestamptz LANGUAGE sql STABLE AS $$
  SELECT CASE WHEN p_since < clock_timestamp() + p_offset - p_kept THEN to_timestamp(0)
    ELSE least(p_since - p_overlap, (SELECT min(o.oldest) FROM scores.late_publications o
                                     WHERE o.minute >= p_since - p_overlap)) END
$$;
